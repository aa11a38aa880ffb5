#include "webhook/webhook_table.h"

#include <search.h>
#include <stdlib.h>

#include "app/webhook_event.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/log.h"

const struct webhook_bounds webhook_bounds = {
    .webhook_events = 10000,
    .webhook_bytes = 16 * 1024 * 1024,
    .events = 100000,
    .bytes = 64 * 1024 * 1024,
};

const char *const webhook_drop_names[WEBHOOK_DROP_COUNT] = {
    [WEBHOOK_DROP_BOUND] = "bound",
    [WEBHOOK_DROP_RETRIES] = "retries",
    [WEBHOOK_DROP_GONE] = "gone",
};

const uint64_t webhook_latency_bounds_ms[WEBHOOK_LATENCY_BUCKETS] = {10,   50,   100,   250,   500,    1000,
                                                                     2500, 5000, 10000, 60000, 300000, 0};

void webhook_table_init(struct webhook_table *table, const struct config *config) {
    *table = (struct webhook_table){.bounds = webhook_bounds};
    webhook_queue_settings_init(&table->settings, config);
    pthread_mutex_init(&table->mutex, NULL);
}

const struct app_webhook *webhook_setting_of(const struct webhook *webhook) {
    return &webhook->app->record->webhooks[webhook->index];
}

/* --- one webhook --- */

/* Sets the gauges, which metrics read. */
static void set_gauges(struct webhook *webhook) {
    struct webhook_counters *counters = &webhook->counters;

    atomic_store_explicit(&counters->waiting.value, webhook->queue.events, memory_order_relaxed);
    atomic_store_explicit(&counters->waiting_bytes.value, webhook->queue.bytes, memory_order_relaxed);
    atomic_store_explicit(&counters->oldest_wall_ms.value, webhook_queue_oldest_wall_ms(&webhook->queue),
                          memory_order_relaxed);
}

/* Brings the sums of the app, of all apps and of the account up to date. */
static void count_webhook(struct webhook_table *table, struct webhook *webhook) {
    const struct webhook_queue *queue = &webhook->queue;
    struct webhook_app *app = webhook->app;

    app->events += queue->events - webhook->counted_events;
    app->bytes += queue->bytes - webhook->counted_bytes;
    table->events += queue->events - webhook->counted_events;
    table->bytes += queue->bytes - webhook->counted_bytes;
    if (queue->bytes >= webhook->counted_bytes)
        budget_add(BUDGET_WEBHOOKS, NULL, queue->bytes - webhook->counted_bytes);
    else
        budget_give(BUDGET_WEBHOOKS, NULL, webhook->counted_bytes - queue->bytes);
    webhook->counted_events = queue->events;
    webhook->counted_bytes = queue->bytes;
    if (app->events == 0) {
        heap_unlink(&table->by_events, &app->by_events);
        heap_unlink(&table->by_bytes, &app->by_bytes);
    } else {
        heap_set(&table->by_events, &app->by_events, UINT64_MAX - app->events);
        heap_set(&table->by_bytes, &app->by_bytes, UINT64_MAX - app->bytes);
    }
}

void webhook_table_update(struct webhook_table *table, struct webhook *webhook) {
    const struct webhook_queue *queue = &webhook->queue;

    count_webhook(table, webhook);
    set_gauges(webhook);
    if (queue->events == 0)
        heap_unlink(&table->timers, &webhook->timer);
    else
        heap_set(&table->timers, &webhook->timer,
                 list_empty(&webhook->starved) ? webhook_queue_due_ms(queue) : UINT64_MAX);
}

/* Tells the queue what the spool writes of it. */
static void set_place(struct webhook *webhook) {
    if (webhook->queue.spool == NULL)
        return;
    webhook->queue.place.app_id = webhook->app->id;
    spool_target_of(webhook->app->record->webhooks, webhook->index, webhook->queue.place.target);
}

static struct webhook *create_webhook(const struct webhook_table *table, struct webhook_app *app, size_t index) {
    struct webhook *webhook = alloc_zero(sizeof *webhook);

    webhook->app = app;
    webhook->index = index;
    webhook_queue_init(&webhook->queue, &table->settings);
    webhook->queue.draining = table->draining;
    webhook->queue.spool = table->spool;
    set_place(webhook);
    list_init(&webhook->attempts);
    list_init(&webhook->starved);
    return webhook;
}

static void destroy_webhook(struct webhook_table *table, struct webhook *webhook) {
    if (webhook == NULL)
        return;
    if (webhook->queue.events > 0 && !table->closing)
        log_info("webhook", "app \"%.*s\": a webhook was removed, and %zu events for it are dropped",
                 SLICE_ARGS(webhook->app->id), webhook->queue.events);
    if (table->removed != NULL)
        table->removed(webhook, table->context);
    list_remove(&webhook->starved);
    webhook->queue.spool = table->spool;
    webhook_queue_dispose(&webhook->queue);
    webhook_table_update(table, webhook);
    free(webhook);
}

/* --- apps --- */

static int compare_webhook_apps(const void *a, const void *b) {
    return slice_compare(((const struct webhook_app *)a)->id, ((const struct webhook_app *)b)->id);
}

static struct webhook_app *find_webhook_app(struct webhook_table *table, struct slice id) {
    const struct webhook_app wanted = {.id = id};
    void *found = tfind(&wanted, &table->apps, compare_webhook_apps);

    return found != NULL ? *(struct webhook_app **)found : NULL;
}

static struct webhook_app *create_webhook_app(struct webhook_table *table, struct app *record) {
    struct webhook_app *app = alloc_zero(sizeof *app);

    app->record = app_ref(record);
    app->id = record->id;
    app->webhooks = alloc_zero((record->webhook_count + 1) * sizeof(struct webhook *));
    pthread_mutex_lock(&table->mutex);
    if (tsearch(app, &table->apps, compare_webhook_apps) == NULL)
        abort(); /* out of memory */
    pthread_mutex_unlock(&table->mutex);
    return app;
}

static void destroy_webhook_app(struct webhook_table *table, struct webhook_app *app) {
    pthread_mutex_lock(&table->mutex);
    tdelete(app, &table->apps, compare_webhook_apps);
    pthread_mutex_unlock(&table->mutex);
    for (size_t i = 0; i < app->record->webhook_count; i++)
        destroy_webhook(table, app->webhooks[i]);
    free(app->webhooks);
    app_unref(app->record);
    free(app);
}

void webhook_table_dispose(struct webhook_table *table) {
    table->spool = NULL; /* what is pending stays in it */
    table->closing = true;
    while (table->apps != NULL)
        destroy_webhook_app(table, *(struct webhook_app **)table->apps); /* the first member of a node is its key */
    heap_dispose(&table->timers);
    heap_dispose(&table->by_events);
    heap_dispose(&table->by_bytes);
    pthread_mutex_destroy(&table->mutex);
}

/* --- a new record --- */

static bool same_target(const struct app_webhook *a, const struct app_webhook *b) {
    return (a->url.data == NULL) == (b->url.data == NULL) && slice_equal(a->url, b->url) &&
           slice_equal(a->lambda_function, b->lambda_function) && slice_equal(a->lambda_region, b->lambda_region);
}

/* Takes the webhook of `app` that has the target of `setting` out of its list; NULL: there is none. Of several with one
 * target the first: so their order stays. */
static struct webhook *take_webhook_with_target(struct webhook_app *app, const struct app_webhook *setting) {
    for (size_t i = 0; i < app->record->webhook_count; i++) {
        struct webhook *webhook = app->webhooks[i];

        if (webhook != NULL && same_target(&app->record->webhooks[i], setting)) {
            app->webhooks[i] = NULL;
            return webhook;
        }
    }
    return NULL;
}

static void replace_record(struct webhook_table *table, struct webhook_app *app, struct app *record) {
    struct webhook **kept = alloc_zero((record->webhook_count + 1) * sizeof(struct webhook *)), **old = app->webhooks;
    struct app *before = app->record;

    pthread_mutex_lock(&table->mutex);
    for (size_t i = 0; i < record->webhook_count; i++) {
        kept[i] = take_webhook_with_target(app, &record->webhooks[i]);
        if (kept[i] != NULL)
            kept[i]->index = i;
    }
    app->webhooks = kept;
    app->record = app_ref(record);
    app->id = record->id; /* the same text: the order of the tree does not change */
    pthread_mutex_unlock(&table->mutex);
    for (size_t i = 0; i < record->webhook_count; i++)
        if (kept[i] != NULL)
            set_place(kept[i]);
    for (size_t i = 0; i < before->webhook_count; i++)
        destroy_webhook(table, old[i]);
    free(old);
    app_unref(before);
}

void webhook_table_change(struct webhook_table *table, struct slice app_id, struct app *record) {
    struct webhook_app *app = find_webhook_app(table, app_id);

    if (app == NULL || app->record == record)
        return;
    if (record == NULL)
        destroy_webhook_app(table, app);
    else
        replace_record(table, app, record);
}

/* --- events --- */

static bool drop_for_bound(struct webhook_table *table, struct webhook *webhook) {
    if (!webhook_queue_drop_oldest(&webhook->queue))
        return false;
    counter_add(&webhook->counters.dropped[WEBHOOK_DROP_BOUND], 1);
    webhook_table_update(table, webhook);
    return true;
}

/* The webhook of the app with the most events, or bytes, that wait in no batch: those can be dropped. NULL: there is
 * none. */
static struct webhook *largest_of_app(const struct webhook_app *app, bool by_events) {
    struct webhook *largest = NULL;

    for (size_t i = 0; i < app->record->webhook_count; i++) {
        struct webhook *webhook = app->webhooks[i];
        if (webhook == NULL || list_empty(&webhook->queue.waiting))
            continue;
        if (largest == NULL ||
            (by_events ? webhook->queue.events > largest->queue.events : webhook->queue.bytes > largest->queue.bytes))
            largest = webhook;
    }
    return largest;
}

/* True if events are to be dropped; `*largest` gets the webhook, NULL if nothing of the largest app can be. */
static bool is_over_bounds(const struct webhook_table *table, struct webhook **largest) {
    bool by_events = table->events > table->bounds.events;

    if (table->events == 0 || (!by_events && table->bytes <= webhook_bytes_max(table->bounds.bytes, 4)))
        return false;
    *largest = by_events
                   ? largest_of_app(container_of(heap_first(&table->by_events), struct webhook_app, by_events), true)
                   : largest_of_app(container_of(heap_first(&table->by_bytes), struct webhook_app, by_bytes), false);
    return true;
}

/* Drops events until all bounds hold. `webhook` has just got one. */
static void hold_bounds(struct webhook_table *table, struct webhook *webhook) {
    struct webhook *largest;

    while (
        (webhook->queue.events > table->bounds.webhook_events || webhook->queue.bytes > table->bounds.webhook_bytes) &&
        drop_for_bound(table, webhook))
        ;
    while (is_over_bounds(table, &largest))
        /* What is in batches is not dropped: the event that is new goes then. */
        if ((largest == NULL || !drop_for_bound(table, largest)) && !drop_for_bound(table, webhook))
            break;
}

/* The app with this record in force. */
static struct webhook_app *app_with_record(struct webhook_table *table, struct app *record) {
    struct webhook_app *app = find_webhook_app(table, record->id);

    if (app == NULL)
        return create_webhook_app(table, record);
    if (app->record != record)
        replace_record(table, app, record);
    return app;
}

static struct webhook *webhook_of(struct webhook_table *table, struct webhook_app *app, size_t index) {
    struct webhook *webhook = app->webhooks[index];

    if (webhook != NULL)
        return webhook;
    webhook = create_webhook(table, app, index);
    pthread_mutex_lock(&table->mutex);
    app->webhooks[index] = webhook;
    pthread_mutex_unlock(&table->mutex);
    return webhook;
}

void webhook_table_add(struct webhook_table *table, struct app *record, size_t index, struct slice channel,
                       struct slice json, uint64_t wall_ms, uint64_t now_ms) {
    struct webhook *webhook = webhook_of(table, app_with_record(table, record), index);

    webhook_queue_add(&webhook->queue, channel, json, wall_ms, now_ms);
    webhook_table_update(table, webhook);
    hold_bounds(table, webhook);
}

/* The number of the webhook with this target; the number of webhooks: there is none. */
static size_t index_of_target(const struct app *record, const uint8_t wanted[SPOOL_TARGET_BYTES]) {
    size_t found = record->webhook_count;

    for (size_t i = 0; i < record->webhook_count; i++) {
        uint8_t target[SPOOL_TARGET_BYTES];

        spool_target_of(record->webhooks, i, target);
        if (memcmp(target, wanted, SPOOL_TARGET_BYTES) == 0)
            return i;
        if (memcmp(target, wanted, SPOOL_TARGET_BYTES - 1) == 0) /* another one with the target */
            found = i;
    }
    return found;
}

void webhook_table_restore(struct webhook_table *table, struct app *record, const struct spool_restored *units,
                           size_t count, uint64_t now_ms) {
    struct webhook_app *app = record != NULL ? app_with_record(table, record) : NULL;
    size_t dropped = 0;

    for (size_t i = 0; i < count; i++) {
        size_t index = app != NULL ? index_of_target(record, units[i].record.target) : 0;
        struct spool_unit unit = units[i].unit;

        if (app != NULL && index < record->webhook_count) {
            struct webhook *webhook = webhook_of(table, app, index);

            webhook_queue_restore(&webhook->queue, &units[i], now_ms);
            webhook_table_update(table, webhook);
            hold_bounds(table, webhook);
        } else {
            dropped += spool_record_events(&units[i].record);
            spool_done(table->spool, &unit);
        }
    }
    counter_add(&table->spool_dropped, dropped);
    if (dropped > 0)
        log_warning("webhook", "app \"%.*s\": %zu events in webhooks.spool_path are dropped: %s",
                    SLICE_ARGS(units[0].record.app_id), dropped,
                    app != NULL ? "the app no longer has their webhooks" : "there is no such app");
}

struct webhook *webhook_table_due(struct webhook_table *table, uint64_t now_ms) {
    struct heap_node *first = heap_first(&table->timers);

    return first != NULL && first->key <= now_ms ? container_of(first, struct webhook, timer) : NULL;
}

/* --- walks over all of them --- */

struct table_walk {
    /* Called for each webhook of each app. */
    void (*visit)(const struct table_walk *walk, const struct webhook_app *app, size_t index);
    struct webhook_table *table;
    uint64_t now_ms;
    const struct spool_segment *segment;
    void (*each)(struct slice app_id, size_t index, const struct webhook_counters *counters, void *context);
    void *context;
};

static void visit_webhook_app(const void *node, VISIT visit, void *context) {
    const struct webhook_app *app = *(struct webhook_app *const *)node;
    const struct table_walk *walk = context;

    if (visit != postorder && visit != leaf)
        return;
    for (size_t i = 0; i < app->record->webhook_count; i++)
        if (app->webhooks[i] != NULL)
            walk->visit(walk, app, i);
}

static void drain_webhook(const struct table_walk *walk, const struct webhook_app *app, size_t index) {
    webhook_queue_drain(&app->webhooks[index]->queue, walk->now_ms);
    webhook_table_update(walk->table, app->webhooks[index]);
}

void webhook_table_drain(struct webhook_table *table, uint64_t now_ms) {
    struct table_walk walk = {.visit = drain_webhook, .table = table, .now_ms = now_ms};

    table->draining = true;
    twalk_r(table->apps, visit_webhook_app, &walk);
}

static void put_webhook_again(const struct table_walk *walk, const struct webhook_app *app, size_t index) {
    webhook_queue_put_again(&app->webhooks[index]->queue, walk->segment);
}

void webhook_table_put_again(struct webhook_table *table, const struct spool_segment *segment) {
    struct table_walk walk = {.visit = put_webhook_again, .segment = segment};

    twalk_r(table->apps, visit_webhook_app, &walk);
}

static void spool_webhook(const struct table_walk *walk, const struct webhook_app *app, size_t index) {
    struct webhook *webhook = app->webhooks[index];

    webhook->queue.spool = walk->table->spool;
    set_place(webhook);
    webhook_queue_put_all(&webhook->queue);
}

void webhook_table_use_spool(struct webhook_table *table, struct spool *spool) {
    struct table_walk walk = {.visit = spool_webhook, .table = table};

    table->spool = spool;
    twalk_r(table->apps, visit_webhook_app, &walk);
}

static void show_webhook(const struct table_walk *walk, const struct webhook_app *app, size_t index) {
    walk->each(app->id, index, &app->webhooks[index]->counters, walk->context);
}

void webhook_table_each(struct webhook_table *table,
                        void (*each)(struct slice app_id, size_t index, const struct webhook_counters *counters,
                                     void *context),
                        void *context) {
    struct table_walk walk = {.visit = show_webhook, .each = each, .context = context};

    pthread_mutex_lock(&table->mutex);
    twalk_r(table->apps, visit_webhook_app, &walk);
    pthread_mutex_unlock(&table->mutex);
}
