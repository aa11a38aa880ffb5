#include "app_manager/cache/cache.h"

#include <stdlib.h>

#include "app_manager/cache/cache_answer.h"
#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_maintenance.h"
#include "app_manager/cache/cache_outage.h"
#include "app_manager/cache/cache_watch.h"
#include "app_manager/seed_apps.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define IDLE_MS 60000         /* a connection to the store that is not needed is closed after so long */
#define USED_PRECISION_MS 100 /* of the time when an entry was last used */

/* --- start and end --- */

static const struct config_sql *sql_settings(const struct config *config) {
    switch (config->app_manager.driver) {
    case CONFIG_DRIVER_MYSQL:
        return &config->database.mysql;
    case CONFIG_DRIVER_POSTGRES:
        return &config->database.postgres;
    default:
        return NULL;
    }
}

/* The store answers for the first time. On a thread of the pool. */
static bool seed_store(void *context, struct store_connection *connection, int cancel_fd, struct error *error) {
    struct app_cache *cache = context;

    return seed_apps_create(cache->config, &cache->defaults, connection, cancel_fd, error);
}

/* Logs an outage even if no app was looked up. On a thread of the pool. */
static void note_unreachable(void *context, const struct error *error) {
    app_cache_note_answer(context, NULL, STORE_UNAVAILABLE, error);
}

static void init_parts(struct app_cache *cache, struct workers *workers, const struct app_manager_hooks *hooks) {
    uint64_t timeout_ms = cache->settings.lookup_timeout_ms;

    cache_surroundings_init(&cache->surroundings, workers, hooks, &cache->defaults, cache->config, cache->store);
    pthread_mutex_init(&cache->mutex, NULL);
    cache_wake_init(&cache->wake);
    records_init(&cache->records, &cache->settings, &cache->wake, workers->count, hooks->free_channels);
    negatives_init(&cache->negatives, cache->settings.negative_ttl_ms);
    unknown_names_init(&cache->unknown);
    fetches_init(&cache->fetches, workers, cache->counters, &cache->wake);
    write_log_init(&cache->writes, 2 * timeout_ms + 1000);
    store_health_init(&cache->health, timeout_ms);
    cache_capacity_init(&cache->capacity, &cache->records);
    cache_snapshot_init(cache);
}

struct app_cache *app_cache_create(const struct config *config, const struct app_store_driver *driver,
                                   struct workers *workers, const struct app_manager_hooks *hooks,
                                   struct error *error) {
    const struct config_sql *sql = sql_settings(config);
    struct store_pool_settings pool = {.timeout_ms = config->app_manager.lookup_timeout_ms,
                                       .idle_ms = IDLE_MS,
                                       .prepared = seed_store,
                                       .unreachable = note_unreachable};
    struct app_cache *cache;

    if (!config_pool_sizes(config, sql, &pool.min, &pool.max, error))
        return NULL;
    cache = alloc_cache_line(sizeof *cache);
    cache->config = config;
    cache->driver = driver;
    app_defaults_from_config(&cache->defaults, config);
    cache->store = store_open(driver, config, &cache->defaults, error);
    if (cache->store == NULL) {
        free(cache);
        return NULL;
    }
    cache->settings = cache_settings_read(config, sql);
    init_parts(cache, workers, hooks);
    pool.store = cache->store;
    pool.context = cache;
    cache->pool = store_pool_create(&pool);
    return cache;
}

bool app_cache_start(struct app_cache *cache, struct error *error) {
    if (!cache_snapshot_start(cache, error))
        return false;
    store_pool_start(cache->pool);
    if (store_can_watch(cache->store)) {
        cache->watch_runs = thread_start(&cache->watch_thread, "curlew-watch", cache_watch_run, cache, error);
        if (!cache->watch_runs)
            return false;
    }
    cache->maintenance_runs =
        thread_start(&cache->maintenance_thread, "curlew-cache", cache_maintenance_run, cache, error);
    return cache->maintenance_runs;
}

bool app_cache_stop(struct app_cache *cache) {
    bool ended;

    pthread_mutex_lock(&cache->mutex);
    cache->stopping = true;
    pthread_cond_broadcast(&cache->wake.condition);
    pthread_cond_broadcast(&cache->snapshot.wake);
    cache_capacity_stop(&cache->capacity);
    pthread_mutex_unlock(&cache->mutex);
    ended = store_pool_stop(cache->pool);
    if (cache->maintenance_runs)
        pthread_join(cache->maintenance_thread, NULL);
    cache->maintenance_runs = false;
    if (cache->watch_runs)
        cache->watch_runs =
            !thread_join_until(cache->watch_thread, clock_monotonic_ns() + STORE_STOP_MS * UINT64_C(1000000));
    return cache_snapshot_stop(cache) && ended && !cache->watch_runs;
}

void app_cache_leave_snapshot(struct app_cache *cache) {
    cache_snapshot_leave(cache);
}

void app_cache_destroy(struct app_cache *cache) {
    cache_surroundings_dispose(&cache->surroundings);
    cache_snapshot_dispose(cache);
    cache_capacity_dispose(&cache->capacity);
    write_log_dispose(&cache->writes);
    fetches_dispose(&cache->fetches);
    unknown_names_dispose(&cache->unknown);
    negatives_dispose(&cache->negatives);
    records_dispose(&cache->records);
    cache_wake_dispose(&cache->wake);
    store_pool_destroy(cache->pool);
    store_close(cache->store);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

/* --- lookups --- */

static bool answer_from_entry(struct app_cache *cache, struct cache_entry *entry, struct worker *worker,
                              struct app_lookup *lookup) {
    uint64_t now_ms = worker->now_ms;
    atomic_uint_fast64_t *used_ms = &entry->used_ms[worker->index];
    struct lookup_counters *counters = &cache->counters[worker->index];

    if (now_ms >= atomic_load_explicit(&entry->fresh_until_ms, memory_order_acquire) || !entry_revive(entry))
        return false;
    lookup->slot = entry->slot;
    lookup->app = slot_app(entry->slot);
    if (lookup->app == NULL)
        return false;
    if (now_ms - atomic_load_explicit(used_ms, memory_order_relaxed) >= USED_PRECISION_MS)
        atomic_store_explicit(used_ms, now_ms, memory_order_relaxed);
    if (atomic_load_explicit(&entry->stale, memory_order_relaxed))
        counter_add(&counters->stale, 1);
    else
        counter_add(&counters->hits, 1);
    lookup->answer = APP_FOUND;
    return true;
}

/* Answers with what is known, without the store and without a lock. */
static bool answer_from_tables(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                               uint64_t hash, struct app_lookup *lookup) {
    struct cache_entry *entry = records_find(&cache->records, kind, name, hash);

    if (entry != NULL && answer_from_entry(cache, entry, worker, lookup))
        return true;
    if (!negatives_find(&cache->negatives, kind, name, hash, worker->now_ms, lookup))
        return false;
    counter_add(&cache->counters[worker->index].negatives, 1);
    return true;
}

/* In an outage an expired record is served at once. With the mutex held. */
static bool answer_stale(struct app_cache *cache, struct cache_entry *entry, struct worker *worker,
                         struct app_lookup *lookup) {
    uint64_t now_ms = clock_monotonic_ms();

    if (entry == NULL || !cache->health.outage || !records_may_serve_stale(&cache->records, entry, now_ms))
        return false;
    records_serve_stale(&cache->records, entry, now_ms + STALE_AFTER_MS);
    return answer_from_entry(cache, entry, worker, lookup);
}

/* Creates the fetch of a name. NULL: it was never found, as too many others. With the mutex held. */
static struct cache_fetch *begin_fetch(struct app_cache *cache, enum name_kind kind, struct slice name, uint64_t hash,
                                       uint64_t address, struct reclaim_batch *unlinked) {
    struct cache_entry *entry = records_find(&cache->records, kind, name, hash);
    bool unknown = entry == NULL && !unknown_names_was_found(&cache->unknown, hash);
    uint64_t now_ms = clock_monotonic_ms();
    struct cache_fetch *fetch;

    if (unknown && !unknown_names_admit(&cache->unknown, kind, address, now_ms))
        return NULL;
    fetch = fetches_add(&cache->fetches, kind, name, entry, now_ms, unlinked);
    fetch->unknown = unknown;
    fetch->address = address;
    if (!unknown)
        fetch->operation.priority = STORE_KNOWN;
    return fetch;
}

/* Joins the fetch of the name, or a new one, which goes to `created`; or the answer is APP_UNAVAILABLE. With the mutex
 * held. */
static void join_fetch(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                       uint64_t hash, uint64_t address, struct app_lookup *lookup, struct cache_fetch **created,
                       struct reclaim_batch *unlinked) {
    struct cache_fetch *fetch = fetches_find(&cache->fetches, kind, name, hash);

    if (fetch == NULL)
        fetch = *created = begin_fetch(cache, kind, name, hash, address, unlinked);
    if (fetch == NULL) {
        lookup->answer = APP_UNAVAILABLE;
        return;
    }
    lookup->answer = APP_PENDING;
    fetch_join(fetch, worker, lookup);
}

/* Asks the store, together with all lookups of the same name. The tables are read again first: a reader without the
 * lock may miss a name. */
static enum app_answer ask_store(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                                 uint64_t hash, struct app_lookup *lookup) {
    struct cache_effects effects = {0};
    struct cache_fetch *created = NULL;
    uint64_t address = lookup->address != NULL ? lookup->address(lookup) : 0;
    bool known, has_room;

    pthread_mutex_lock(&cache->mutex);
    known = answer_from_tables(cache, worker, kind, name, hash, lookup) ||
            answer_stale(cache, records_find(&cache->records, kind, name, hash), worker, lookup);
    has_room = known || fetches_have_room(name);
    if (!known && has_room)
        join_fetch(cache, worker, kind, name, hash, address, lookup, &created, &effects.unlinked);
    pthread_mutex_unlock(&cache->mutex);
    if (known)
        return lookup->answer;
    if (!has_room) {
        counter_add(&cache->counters[worker->index].errors, 1);
        return lookup->answer = APP_UNAVAILABLE;
    }
    if (lookup->answer == APP_UNAVAILABLE) {
        counter_add(&cache->counters[worker->index].errors, 1);
        log_warning("app",
                    "lookups of unknown app %s are refused for a while: the store did not know more than %u of them "
                    "from one client address, or %u from all, in %u s, so clients make them up, or use those of "
                    "deleted apps; behind a proxy set trust_hops, or all clients have one address",
                    kind == NAME_ID ? "ids" : "keys", UNKNOWN_ADDRESS_LIMIT, UNKNOWN_LIMIT, UNKNOWN_WINDOW_S);
        return APP_UNAVAILABLE;
    }
    counter_add(&cache->counters[worker->index].misses, 1);
    cache_effects_run(&effects, &cache->surroundings);
    if (created != NULL)
        cache_submit_fetch(cache, created);
    return APP_PENDING;
}

enum app_answer app_cache_find(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                               struct app_lookup *lookup) {
    uint64_t hash = hash_bytes(name);

    if (answer_from_tables(cache, worker, kind, name, hash, lookup))
        return lookup->answer;
    if (!app_name_valid(name))
        return lookup->answer = APP_NOT_FOUND;
    return ask_store(cache, worker, kind, name, hash, lookup);
}

void app_cache_cancel(struct app_lookup *lookup) {
    fetch_leave(lookup);
}

/* --- for the app manager --- */

void app_cache_submit(struct app_cache *cache, struct store_operation *operation, uint32_t timeout_ms) {
    store_pool_submit(cache->pool, operation, timeout_ms);
    pthread_mutex_lock(&cache->mutex);
    cache_wake_for_work(&cache->wake);
    pthread_mutex_unlock(&cache->mutex);
}

void app_cache_each_slot(struct app_cache *cache, void (*each)(struct app_slot *slot, void *context), void *context) {
    struct cache_entry **entries;
    size_t count;

    reclaim_read_begin(&cache->surroundings.reclaimer);
    entries = records_copy(&cache->records, &cache->mutex, &count);
    for (size_t i = 0; i < count; i++)
        each(entries[i]->slot, context);
    reclaim_read_end(&cache->surroundings.reclaimer);
    free(entries);
}

void app_cache_read_stats(struct app_cache *cache, struct app_lookup_stats *lookups, struct store_pool_stats *pool) {
    uint64_t refused;

    *lookups = (struct app_lookup_stats){0};
    for (unsigned i = 0; i < cache->surroundings.workers->count; i++) {
        const struct lookup_counters *counters = &cache->counters[i];
        lookups->hits += counter_read(&counters->hits);
        lookups->misses += counter_read(&counters->misses);
        lookups->negatives += counter_read(&counters->negatives);
        lookups->stale += counter_read(&counters->stale);
        lookups->errors += counter_read(&counters->errors);
    }
    pthread_mutex_lock(&cache->mutex);
    lookups->entries = cache->records.count;
    lookups->negative_entries = negatives_count(&cache->negatives);
    lookups->broken = cache->records.broken;
    lookups->outages = cache->health.outages;
    lookups->outage = cache->health.outage;
    refused = cache->unknown.refused;
    pthread_mutex_unlock(&cache->mutex);
    store_pool_read_stats(cache->pool, pool);
    pool->rejected += refused;
}
