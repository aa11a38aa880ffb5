#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "base/clock.h"
#include "base/log.h"

#define CONFIRM_MS 1000      /* until an app with connections that is not there any more is looked for once more */
#define ANSWERS_PER_TURN 500 /* who waits for one app may be thousands */

static void flight_unref(struct cache_flight *flight) {
    if (atomic_fetch_sub_explicit(&flight->references, 1, memory_order_acq_rel) != 1)
        return;
    app_unref(flight->app);
    free(flight);
}

/* --- answers --- */

static void unpin(struct app_cache *cache, struct cache_entry *entry) {
    if (entry == NULL)
        return;
    pthread_mutex_lock(&cache->mutex);
    entry->pins--;
    pthread_mutex_unlock(&cache->mutex);
}

static void answer_lookup(const struct cache_delivery *delivery, struct cache_counters *counters,
                          struct app_lookup *lookup) {
    lookup->answer = delivery->answer;
    lookup->reason = delivery->reason;
    if (delivery->answer == APP_FOUND) {
        lookup->slot = delivery->entry->slot;
        lookup->app = slot_app(lookup->slot);
        if (lookup->app == NULL) /* deleted since */
            lookup->answer = APP_NOT_FOUND;
        counter_add(&counters->stale, delivery->stale);
    }
    counter_add(&counters->errors, delivery->answer == APP_UNAVAILABLE || delivery->answer == APP_INVALID);
    lookup->done(lookup);
}

static void deliver(struct worker *worker, struct message *message, struct message **rest) {
    struct cache_delivery *delivery = container_of(message, struct cache_delivery, message);
    struct cache_flight *flight = delivery->flight;
    struct app_cache *cache = flight->cache;
    struct list *waiting = &flight->waiting[worker->index];

    (void)rest;
    for (unsigned i = 0; i < ANSWERS_PER_TURN && !list_empty(waiting); i++) {
        struct app_lookup *lookup = container_of(waiting->next, struct app_lookup, link);
        list_remove(&lookup->link);
        answer_lookup(delivery, &cache->counters[worker->index], lookup);
    }
    if (!list_empty(waiting)) {
        worker_post(worker, message); /* the next turn */
        return;
    }
    unpin(cache, delivery->entry);
    flight_unref(flight);
    free(delivery->reason);
    free(delivery);
}

/* Messages for all workers on which somebody waits, chained by message.next. With the mutex held. */
static struct cache_delivery *make_deliveries(struct cache_flight *flight, enum app_answer answer,
                                              struct cache_entry *entry, const char *reason) {
    struct cache_delivery *first = NULL;

    for (unsigned i = 0; i < flight->cache->workers->count; i++) {
        struct cache_delivery *delivery;
        if ((flight->asking >> i & 1) == 0)
            continue;
        delivery = alloc(sizeof *delivery);
        *delivery = (struct cache_delivery){
            .message = {.next = first != NULL ? &first->message : NULL, .handle = deliver},
            .worker = flight->cache->workers->list[i],
            .flight = flight,
            .entry = answer == APP_FOUND ? entry : NULL,
            .answer = answer,
            .stale = answer == APP_FOUND && atomic_load_explicit(&entry->stale, memory_order_relaxed),
            .reason = reason != NULL ? alloc_copy(reason, strlen(reason)) : NULL,
        };
        if (delivery->entry != NULL)
            delivery->entry->pins++;
        atomic_fetch_add_explicit(&flight->references, 1, memory_order_relaxed);
        first = delivery;
    }
    flight->asking = 0;
    return first;
}

void cache_post(struct cache_delivery *deliveries) {
    while (deliveries != NULL) {
        struct message *next = deliveries->message.next;
        worker_post(deliveries->worker, &deliveries->message);
        deliveries = next != NULL ? container_of(next, struct cache_delivery, message) : NULL;
    }
}

struct cache_delivery *cache_flight_serve_stale(struct cache_flight *flight) {
    return make_deliveries(flight, APP_FOUND, flight->entry, NULL);
}

struct cache_delivery *cache_flight_give_up(struct cache_flight *flight) {
    return make_deliveries(flight, APP_UNAVAILABLE, NULL, NULL);
}

/* --- queries --- */

static enum store_answer run(struct store_operation *operation, const struct app_store_driver *driver,
                             struct store_connection *connection, const struct deadline *deadline,
                             struct error *error) {
    struct cache_flight *flight = container_of(operation, struct cache_flight, operation);
    struct app_cache *cache = flight->cache;

    pthread_mutex_lock(&cache->mutex);
    flight->first_write = cache->last_write;
    pthread_mutex_unlock(&cache->mutex);
    return (flight->kind == NAME_ID ? driver->find_by_id : driver->find_by_key)(connection, flight->node.text, deadline,
                                                                                &flight->app, error);
}

/* The app is not there, says a query by its id. True if that is to be believed. */
static bool believe_missing(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms) {
    if (!cache_has_connections(entry) || entry->announced || atomic_load(&entry->slot->current) == NULL)
        return true;
    if (entry->missing_ms != 0)
        return now_ms >= entry->missing_ms + CONFIRM_MS;
    entry->missing_ms = now_ms; /* before anyone is closed it is looked at once more */
    entry->refresh_at_ms = now_ms + CONFIRM_MS;
    if (cache_may_be_stale(cache, entry, now_ms))
        cache_serve_stale(cache, entry, now_ms + CONFIRM_MS + STALE_AFTER_MS);
    return false;
}

static enum app_answer take_missing(struct app_cache *cache, struct cache_flight *flight, uint64_t now_ms,
                                    struct cache_aftermath *aftermath) {
    struct cache_entry *entry = flight->entry;

    if (entry != NULL && flight->kind == NAME_ID) {
        if (!believe_missing(cache, entry, now_ms)) /* the record stays: for all, or for those who are connected */
            return cache_is_passing(cache) ? APP_NOT_FOUND : APP_FOUND;
        cache_drop_record(cache, entry, aftermath);
    } else if (entry != NULL && entry->key != NULL && slice_equal(entry->key->node.text, flight->node.text)) {
        cache_drop_key(cache, entry);
        entry->refresh_at_ms = 0; /* does the app have another key, or is it gone? */
        cache_upkeep_wake(cache);
    }
    cache_put_absent(cache, flight->kind, flight->node.text, APP_NOT_FOUND, NULL, now_ms);
    return APP_NOT_FOUND;
}

/* The record in the store is broken: the last valid one stays in force. */
static enum app_answer take_broken(struct app_cache *cache, struct cache_flight *flight, const char *reason,
                                   uint64_t now_ms) {
    struct cache_entry *entry = flight->entry;

    if (entry == NULL || atomic_load(&entry->slot->current) == NULL) {
        cache_put_absent(cache, flight->kind, flight->node.text, APP_INVALID, reason, now_ms);
        return APP_INVALID;
    }
    if (entry->broken == NULL || strcmp(entry->broken, reason) != 0) {
        log_error("app", "%s; its last valid record stays in force", reason);
        cache_set_broken(cache, entry, reason);
    }
    cache_put_off(cache, entry, now_ms);
    entry->refresh_at_ms = now_ms + 5000;
    return APP_FOUND;
}

static enum app_answer take_failure(struct app_cache *cache, struct cache_flight *flight, uint64_t now_ms) {
    struct cache_entry *entry = flight->entry;

    if (entry == NULL)
        return APP_UNAVAILABLE;
    cache_put_off(cache, entry, now_ms);
    return cache_may_be_stale(cache, entry, now_ms) ? APP_FOUND : APP_UNAVAILABLE;
}

static void pin_instead(struct cache_flight *flight, struct cache_entry *entry) {
    if (flight->entry == entry)
        return;
    if (flight->entry != NULL)
        flight->entry->pins--;
    flight->entry = entry;
    entry->pins++;
}

/* What the store said goes into the cache; with the mutex held. */
static enum app_answer take(struct app_cache *cache, struct cache_flight *flight, enum store_answer answer,
                            const struct error *error, uint64_t now_ms, struct cache_aftermath *aftermath) {
    switch (answer) {
    case STORE_OK:
        pin_instead(flight, cache_put(cache, flight->app, now_ms, aftermath));
        flight->app = NULL;
        return APP_FOUND;
    case STORE_NOT_FOUND:
        return take_missing(cache, flight, now_ms, aftermath);
    case STORE_INVALID:
        return take_broken(cache, flight, error->text, now_ms);
    default:
        return take_failure(cache, flight, now_ms);
    }
}

/* Whether the answer may be older than a write and there is time to ask again. */
static bool ask_again(struct app_cache *cache, struct cache_flight *flight, enum store_answer answer) {
    struct slice name = flight->node.text, none = SLICE("");
    struct slice id = flight->kind == NAME_ID ? name : flight->app != NULL ? flight->app->id : none;

    if (answer == STORE_UNAVAILABLE ||
        !cache_written_since(cache, flight->first_write, id, flight->kind == NAME_KEY ? name : none))
        return false;
    app_unref(flight->app);
    flight->app = NULL;
    return true;
}

static void finished(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct cache_flight *flight = container_of(operation, struct cache_flight, operation);
    struct app_cache *cache = flight->cache;
    struct cache_aftermath aftermath = {0};
    struct cache_delivery *deliveries;
    uint64_t now_ms = clock_monotonic_ms();
    enum app_answer said;
    bool news;

    if (answer == STORE_REFUSED) /* a lookup that is refused is no better than none */
        answer = STORE_UNAVAILABLE;
    pthread_mutex_lock(&cache->mutex);
    news = cache_note_answer(cache, operation, answer, now_ms);
    if (ask_again(cache, flight, answer)) {
        pthread_mutex_unlock(&cache->mutex);
        if (news)
            cache_log_outage(cache, answer, error);
        store_pool_submit(cache->pool, operation, 0);
        return;
    }
    said = take(cache, flight, answer, error, now_ms, &aftermath);
    deliveries = make_deliveries(flight, said, flight->entry, said == APP_INVALID ? error->text : NULL);
    name_table_remove(&cache->flights[flight->kind], &flight->node);
    list_remove(&flight->link);
    if (flight->entry != NULL)
        flight->entry->pins--;
    if (flight->refresh)
        cache_note_refreshed(cache);
    pthread_mutex_unlock(&cache->mutex);
    if (news)
        cache_log_outage(cache, answer, error);
    cache_do_aftermath(cache, &aftermath);
    cache_post(deliveries);
    flight_unref(flight);
    if (answer == STORE_OK) /* on a thread of the pool: what was not admitted ends here on its worker */
        cache_wait_for_room(cache);
}

struct cache_flight *cache_flight_create(struct app_cache *cache, enum name_kind kind, struct slice name,
                                         struct cache_entry *entry, uint64_t now_ms) {
    struct cache_flight *flight = alloc_zero(sizeof *flight + name.length + 1);

    memcpy(flight->text, name.data, name.length);
    flight->node.text = (struct slice){flight->text, name.length};
    flight->node.hash = hash_bytes(name);
    flight->cache = cache;
    flight->kind = kind;
    flight->started_ms = now_ms;
    flight->entry = entry;
    if (entry != NULL)
        entry->pins++;
    atomic_init(&flight->references, 1);
    for (unsigned i = 0; i < cache->workers->count; i++)
        list_init(&flight->waiting[i]);
    flight->operation = (struct store_operation){
        .priority = entry != NULL ? STORE_KNOWN : STORE_UNKNOWN, .repeatable = true, .run = run, .finished = finished};
    name_table_add(&cache->flights[kind], &flight->node, &cache->reclaimer);
    list_append(&cache->flight_list, &flight->link);
    return flight;
}

void cache_flight_submit(struct cache_flight *flight) {
    store_pool_submit(flight->cache->pool, &flight->operation, 0);
}

struct cache_flight *cache_flight_find(struct app_cache *cache, enum name_kind kind, struct slice name, uint64_t hash) {
    struct name_node *node = name_table_find(&cache->flights[kind], name, hash);

    return node != NULL ? container_of(node, struct cache_flight, node) : NULL;
}

void cache_flight_join(struct cache_flight *flight, struct worker *worker, struct app_lookup *lookup) {
    list_append(&flight->waiting[worker->index], &lookup->link);
    flight->asking |= UINT64_C(1) << worker->index;
}
