#include "app_manager/app_manager.h"

#include <pthread.h>
#include <stdlib.h>

#include "app_manager/cache/cache.h"
#include "app_manager/memory_index.h"
#include "base/alloc.h"
#include "base/log.h"

#define LIST_PAGE 1000

struct app_manager {
    struct workers *workers;
    const struct app_manager_hooks *hooks;
    struct app_defaults defaults;
    struct app_cache *cache; /* every driver but memory; the rest is memory's */
    const struct app_store_driver *driver;
    struct app_store *store;
    _Atomic(struct app_index *) index;
    atomic_bool has_apps;

    pthread_mutex_t mutex;   /* of the two below: the metrics page walks them while a reload adds */
    struct app_slot **slots; /* every slot there ever was: a slot outlives its record, for those still connected */
    size_t slot_count;
};

/* One broken or valid record of a list. */
struct listed_app {
    char *id, *key;
    struct app *app;
    char *broken;
};

struct listing {
    struct listed_app *apps;
    size_t count, capacity;
};

/* --- loading --- */

static void collect(void *context, struct slice id, struct slice key, struct app *app, const struct error *error) {
    struct listing *listing = context;

    if (listing->count == listing->capacity) {
        listing->capacity = listing->capacity == 0 ? 16 : listing->capacity * 2;
        listing->apps = alloc_array(listing->apps, listing->capacity, sizeof listing->apps[0]);
    }
    listing->apps[listing->count++] = (struct listed_app){
        .id = alloc_copy(id.data, id.length),
        .key = alloc_copy(key.data, key.length),
        .app = app,
        .broken = app == NULL ? alloc_copy(error->text, strlen(error->text)) : NULL,
    };
    if (app == NULL)
        log_error("app", "%s", error->text);
}

static void listing_dispose(struct listing *listing) {
    for (size_t i = 0; i < listing->count; i++) {
        free(listing->apps[i].id);
        free(listing->apps[i].key);
        free(listing->apps[i].broken);
        app_unref(listing->apps[i].app);
    }
    free(listing->apps);
}

/* Reads the whole store, page by page. */
static bool list_all(const struct app_store_driver *driver, struct app_store *store, struct listing *listing,
                     struct error *error) {
    const struct deadline deadline = deadline_after(0, -1); /* the memory driver needs none */
    struct store_connection *connection = driver->connect(store, &deadline, error);
    enum store_answer answer;
    size_t before;

    do {
        struct slice after = SLICE("");
        before = listing->count;
        if (before != 0)
            after = slice_of(listing->apps[before - 1].id);
        answer = driver->list(connection, after, LIST_PAGE, &deadline, collect, listing, error);
    } while (answer == STORE_OK && listing->count - before >= LIST_PAGE);
    driver->disconnect(connection);
    return answer == STORE_OK;
}

/* The slot of an id: the one that was there before, or a new one. */
static struct app_slot *slot_for(struct app_manager *manager, const struct app_index *old, struct slice id) {
    const struct app_index_entry *entry = old != NULL ? app_index_find(&old->by_id, id) : NULL;
    struct app_slot *slot;

    if (entry != NULL)
        return entry->slot;
    slot = app_slot_create(id, manager->workers->count);
    pthread_mutex_lock(&manager->mutex);
    manager->slots = alloc_array(manager->slots, manager->slot_count + 1, sizeof manager->slots[0]);
    manager->slots[manager->slot_count++] = slot;
    pthread_mutex_unlock(&manager->mutex);
    return slot;
}

/* What a reload replaced, until no worker can be looking at it. */
struct retired {
    struct app_index *index;
    struct app **records;
    size_t count;
    const struct app_manager_hooks *hooks;
};

static void retired_free(void *context) {
    struct retired *retired = context;

    for (size_t i = 0; i < retired->count; i++)
        app_unref(retired->records[i]);
    free(retired->records);
    app_index_destroy(retired->index);
    free(retired);
}

static void retire_record(struct retired *retired, struct app *record) {
    if (record == NULL)
        return;
    retired->records = alloc_array(retired->records, retired->count + 1, sizeof retired->records[0]);
    retired->records[retired->count++] = record;
}

static void put_record(struct app_slot *slot, struct app *record, struct retired *retired,
                       struct app_changes *changes) {
    struct app *old = atomic_load(&slot->current);

    if (old != NULL && app_equal(old, record))
        return;
    changes->changed += old != NULL;
    changes->added += old == NULL;
    retire_record(retired, atomic_exchange(&slot->current, app_ref(record)));
}

/* Enters one listed app into the new index, and its record into its slot. */
static void take_over(struct app_manager *manager, struct app_index *index, const struct app_index *old,
                      const struct listed_app *listed, struct retired *retired, struct app_changes *changes) {
    struct slice id = slice_of(listed->id);
    struct slice key = slice_of(listed->key);
    struct app_slot *slot;
    struct app *last;

    if (id.length == 0)
        return;
    slot = slot_for(manager, old, id);
    last = atomic_load(&slot->current);
    if (listed->app == NULL && last != NULL) {
        log_error("app", "app %s: its last valid record stays in force", listed->id);
        app_index_add(&index->by_id, id, slot, NULL);
        app_index_add(&index->by_key, last->key, slot, NULL);
        return;
    }
    if (!app_index_add(&index->by_id, id, slot, listed->broken)) {
        log_error("app", "app %s: there is another app with this id; the first one counts", listed->id);
        return;
    }
    if (key.length != 0 && !app_index_add(&index->by_key, key, slot, listed->broken))
        log_error("app", "app %s: its key is another app's; the first one counts", listed->id);
    if (listed->app != NULL)
        put_record(slot, listed->app, retired, changes);
}

/* Apps that are not listed any more lose their record. Their slots stay in the index by id, where they count as not
 * found, so that an app that comes back finds its connections. */
static void drop_missing(struct app_manager *manager, struct app_index *index, struct retired *retired,
                         struct app_changes *changes) {
    for (size_t i = 0; i < manager->slot_count; i++) {
        struct app_slot *slot = manager->slots[i];
        struct app *record;

        if (!app_index_add(&index->by_id, slice_of(slot->id), slot, NULL))
            continue;
        record = atomic_exchange(&slot->current, NULL);
        changes->removed += record != NULL;
        retire_record(retired, record);
    }
}

static struct retired *take_over_all(struct app_manager *manager, const struct listing *listing,
                                     struct app_changes *changes) {
    struct retired *retired = alloc_zero(sizeof *retired);
    struct app_index *old = atomic_load(&manager->index);
    struct app_index *index = app_index_create(listing->count + manager->slot_count);

    *changes = (struct app_changes){0};
    for (size_t i = 0; i < listing->count; i++)
        take_over(manager, index, old, &listing->apps[i], retired, changes);
    atomic_store(&manager->has_apps, index->by_id.count != 0);
    drop_missing(manager, index, retired, changes);
    retired->index = atomic_exchange(&manager->index, index);
    return retired;
}

/* The memory driver: everything is read at once and stays. */
static bool load_all(struct app_manager *manager, const struct config *config, struct error *error) {
    struct listing listing = {0};
    struct app_changes changes;
    bool loaded;

    manager->store = manager->driver->open(config, &manager->defaults, error);
    loaded = manager->store != NULL && list_all(manager->driver, manager->store, &listing, error);
    if (loaded)
        retired_free(take_over_all(manager, &listing, &changes));
    listing_dispose(&listing);
    return loaded;
}

struct app_manager *app_manager_create(const struct config *config, struct workers *workers,
                                       const struct app_manager_hooks *hooks, struct error *error) {
    struct app_manager *manager = alloc_zero(sizeof *manager);
    bool ready;

    manager->workers = workers;
    manager->hooks = hooks;
    manager->driver = app_store_driver_of(config->app_manager.driver);
    pthread_mutex_init(&manager->mutex, NULL);
    atomic_init(&manager->index, NULL);
    app_defaults_from_config(&manager->defaults, config);
    if (manager->driver == &memory_store_driver)
        ready = load_all(manager, config, error);
    else
        ready = (manager->cache = app_cache_create(config, manager->driver, workers, hooks, error)) != NULL;
    if (ready)
        return manager;
    app_manager_destroy(manager);
    return NULL;
}

void app_manager_start(struct app_manager *manager) {
    if (manager->cache != NULL)
        app_cache_start(manager->cache);
}

bool app_manager_stop(struct app_manager *manager) {
    return manager->cache == NULL || app_cache_stop(manager->cache);
}

void app_manager_destroy(struct app_manager *manager) {
    if (manager->cache != NULL)
        app_cache_destroy(manager->cache);
    for (size_t i = 0; i < manager->slot_count; i++)
        app_slot_destroy(manager->slots[i], manager->hooks->free_channels);
    free(manager->slots);
    app_index_destroy(atomic_load(&manager->index));
    if (manager->store != NULL)
        manager->driver->close(manager->store);
    pthread_mutex_destroy(&manager->mutex);
    free(manager);
}

static void run_changed(struct worker *worker, void *context) {
    const struct app_manager_hooks *hooks = ((struct retired *)context)->hooks;

    hooks->changed(worker, hooks->context);
}

bool app_manager_reload(struct app_manager *manager, const struct config *config, struct app_changes *changes,
                        struct error *error) {
    struct app_store *store;
    struct listing listing = {0};
    struct retired *retired;

    app_defaults_from_config(&manager->defaults, config);
    store = manager->driver->open(config, &manager->defaults, error);
    if (store == NULL)
        return false;
    if (!list_all(manager->driver, store, &listing, error)) {
        manager->driver->close(store);
        return false;
    }
    manager->driver->close(manager->store);
    manager->store = store;
    retired = take_over_all(manager, &listing, changes);
    listing_dispose(&listing);
    retired->hooks = manager->hooks;
    workers_run_on_all(manager->workers,
                       &(struct worker_task){.run = run_changed, .finished = retired_free, .context = retired});
    return true;
}

/* --- lookups --- */

static enum app_answer answer(struct app_lookup *lookup, const struct app_index_entry *entry) {
    if (entry == NULL)
        return lookup->answer = APP_NOT_FOUND;
    lookup->slot = entry->slot;
    lookup->app = slot_app(entry->slot);
    lookup->reason = entry->broken;
    if (lookup->app != NULL)
        return lookup->answer = APP_FOUND;
    return lookup->answer = entry->broken != NULL ? APP_INVALID : APP_NOT_FOUND;
}

enum app_answer app_manager_find_by_key(struct app_manager *manager, struct worker *worker, struct slice key,
                                        struct app_lookup *lookup) {
    const struct app_index *index;

    if (manager->cache != NULL)
        return app_cache_find(manager->cache, worker, NAME_KEY, key, lookup);
    index = atomic_load_explicit(&manager->index, memory_order_acquire);
    return answer(lookup, app_index_find(&index->by_key, key));
}

enum app_answer app_manager_find_by_id(struct app_manager *manager, struct worker *worker, struct slice id,
                                       struct app_lookup *lookup) {
    const struct app_index *index;

    if (manager->cache != NULL)
        return app_cache_find(manager->cache, worker, NAME_ID, id, lookup);
    index = atomic_load_explicit(&manager->index, memory_order_acquire);
    return answer(lookup, app_index_find(&index->by_id, id));
}

void app_manager_cancel(struct app_manager *manager, struct app_lookup *lookup) {
    (void)manager;
    list_remove(&lookup->link); /* it waits on a list of its own worker's, or on none */
}

bool app_manager_has_apps(struct app_manager *manager) {
    return manager->cache != NULL || atomic_load(&manager->has_apps);
}

void app_manager_each_slot(struct app_manager *manager, void (*each)(struct app_slot *slot, void *context),
                           void *context) {
    if (manager->cache != NULL)
        app_cache_each_slot(manager->cache, each, context);
    pthread_mutex_lock(&manager->mutex);
    for (size_t i = 0; i < manager->slot_count; i++)
        each(manager->slots[i], context);
    pthread_mutex_unlock(&manager->mutex);
}

/* --- jobs --- */

static enum store_answer run_job(struct store_operation *operation, const struct app_store_driver *driver,
                                 struct store_connection *connection, const struct deadline *deadline,
                                 struct error *error) {
    struct app_job *job = container_of(operation, struct app_job, operation);
    enum store_answer answer;

    job->error.text[0] = '\0';
    answer = job->run(job, driver, connection, deadline);
    *error = job->error;
    return answer;
}

static void job_done(struct worker *worker, struct message *message, struct message **rest) {
    struct app_job *job = container_of(message, struct app_job, message);

    (void)worker;
    (void)rest;
    if (job->done != NULL)
        job->done(job);
    job->destroy(job);
}

static void job_finished(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct app_job *job = container_of(operation, struct app_job, operation);

    job->answer = answer;
    job->error = *error;
    app_cache_note_answer(job->manager->cache, operation, answer, error);
    job->message = (struct message){.handle = job_done};
    worker_post(job->worker, &job->message);
}

void app_manager_submit(struct app_manager *manager, struct worker *worker, struct app_job *job, uint32_t timeout_ms) {
    job->manager = manager;
    job->worker = worker;
    job->operation.run = run_job;
    job->operation.finished = job_finished;
    store_pool_submit(app_cache_pool(manager->cache), &job->operation, timeout_ms);
}

uint64_t app_manager_write_begins(struct app_manager *manager) {
    return app_cache_write_begins(manager->cache);
}

void app_manager_written(struct app_manager *manager, uint64_t mark, struct slice id, const struct app *before,
                         const struct app *after) {
    app_cache_written(manager->cache, mark, id, before, after);
}

void app_manager_suspect(struct app_manager *manager, struct slice id, struct slice key) {
    if (manager->cache != NULL)
        app_cache_suspect(manager->cache, id, SLICE(""), key);
}

bool app_manager_has_store(const struct app_manager *manager) {
    return manager->cache != NULL;
}

const struct app_defaults *app_manager_defaults(const struct app_manager *manager) {
    return &manager->defaults;
}

enum app_health app_manager_health(struct app_manager *manager) {
    if (manager->cache != NULL)
        return app_cache_health(manager->cache);
    return app_manager_has_apps(manager) ? APP_HEALTH_OK : APP_HEALTH_ERROR;
}

bool app_manager_health_known(struct app_manager *manager) {
    return manager->cache == NULL || app_cache_health_known(manager->cache);
}

bool app_manager_look(struct app_manager *manager, struct app_lookup_counts *counts, struct store_pool_stats *status) {
    if (manager->cache == NULL)
        return false;
    app_cache_look(manager->cache, counts);
    store_pool_read_stats(app_cache_pool(manager->cache), status);
    return true;
}
