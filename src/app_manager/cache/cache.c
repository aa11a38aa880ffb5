#include "app_manager/cache/cache.h"

#include <signal.h>
#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "app_manager/seed_apps.h"
#include "base/clock.h"
#include "base/log.h"

#define IDLE_MS 60000 /* a connection to the store that is not needed is kept for so long */

/* --- building and ending --- */

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

static struct app_cache_settings settings_of(const struct config *config, const struct config_sql *sql) {
    struct app_cache_settings settings = {
        .enabled = config->app_manager.cache.enabled,
        .ttl_s = config->app_manager.cache.ttl_s,
        .negative_ttl_s = config->app_manager.cache.negative_ttl_s,
        .stale_if_error_s = config->app_manager.cache.stale_if_error_s,
        .cleanup_interval_s = config->app_manager.cache.cleanup_interval_s,
        .capacity = config->app_manager.cache.max_capacity,
    };

    if (sql == NULL)
        return settings;
    if (sql->cache_ttl.set)
        settings.ttl_s = sql->cache_ttl.value;
    if (sql->cache_cleanup_interval.set)
        settings.cleanup_interval_s = sql->cache_cleanup_interval.value;
    settings.capacity = sql->cache_max_capacity.value;
    return settings;
}

/* The store answers for the first time. On a thread of the pool. */
static bool prepared(void *context, struct store_connection *connection, int cancel_fd, struct error *error) {
    struct app_cache *cache = context;

    return inline_apps_create(cache->config, &cache->defaults, cache->driver, connection, cancel_fd, error);
}

/* Nobody need have asked for an app: a store that is not there at the start is said so then. On a thread of the pool.
 */
static void unreachable(void *context, const struct error *error) {
    app_cache_note_answer(context, NULL, STORE_UNAVAILABLE, error);
}

struct app_cache *app_cache_create(const struct config *config, const struct app_store_driver *driver,
                                   struct workers *workers, const struct app_manager_hooks *hooks,
                                   struct error *error) {
    const struct config_sql *sql = sql_settings(config);
    struct store_pool_settings pool = {
        .driver = driver, .timeout_ms = config->app_manager.lookup_timeout_ms, .idle_ms = IDLE_MS};
    struct app_cache *cache;
    pthread_condattr_t attributes;

    if (!config_pool_sizes(config, sql, &pool.min, &pool.max, error))
        return NULL;
    cache = alloc_cache_line(sizeof *cache);
    cache->config = config;
    cache->hooks = hooks;
    cache->workers = workers;
    cache->driver = driver;
    app_defaults_from_config(&cache->defaults, config);
    cache->store = driver->open(config, &cache->defaults, error);
    if (cache->store == NULL) {
        free(cache);
        return NULL;
    }
    cache->settings = settings_of(config, sql);
    pool.store = cache->store;
    pool.prepared = prepared;
    pool.unreachable = unreachable;
    pool.context = cache;
    cache->pool = store_pool_create(&pool);
    reclaimer_init(&cache->reclaimer, workers);
    pthread_mutex_init(&cache->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cache->upkeep_wake, &attributes);
    pthread_cond_init(&cache->room, &attributes);
    pthread_condattr_destroy(&attributes);
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        name_table_init(&cache->names[kind]);
        name_table_init(&cache->absent[kind]);
        name_table_init(&cache->flights[kind]);
        list_init(&cache->absent_order[kind]);
        list_init(&cache->broken_order[kind]);
    }
    list_init(&cache->entries);
    list_init(&cache->flight_list);
    list_init(&cache->writes);
    return cache;
}

void app_cache_start(struct app_cache *cache) {
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    store_pool_start(cache->pool);
    cache->upkeep_runs = pthread_create(&cache->upkeep_thread, NULL, cache_upkeep_run, cache) == 0;
    if (cache->driver->watch != NULL)
        cache->watch_runs = pthread_create(&cache->watch_thread, NULL, cache_watch_run, cache) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* True if it has ended in time. */
static bool join_watch(struct app_cache *cache) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STORE_STOP_MS / 1000;
    cache->watch_runs = pthread_timedjoin_np(cache->watch_thread, NULL, &until) != 0;
    return !cache->watch_runs;
}

bool app_cache_stop(struct app_cache *cache) {
    bool ended;

    pthread_mutex_lock(&cache->mutex);
    cache->stopping = true;
    pthread_cond_broadcast(&cache->upkeep_wake);
    pthread_cond_broadcast(&cache->room);
    pthread_mutex_unlock(&cache->mutex);
    ended = store_pool_stop(cache->pool);
    if (cache->upkeep_runs)
        pthread_join(cache->upkeep_thread, NULL);
    cache->upkeep_runs = false;
    return (!cache->watch_runs || join_watch(cache)) && ended;
}

void app_cache_destroy(struct app_cache *cache) {
    reclaimer_dispose(&cache->reclaimer);
    cache_drop_all_absent(cache);
    cache_forget_writes(cache, 0, 0);
    while (!list_empty(&cache->entries)) {
        struct cache_entry *entry = container_of(cache->entries.next, struct cache_entry, link);
        cache_unlink(cache, entry);
        cache_entry_free(entry, cache);
    }
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        name_table_dispose(&cache->names[kind]);
        name_table_dispose(&cache->absent[kind]);
        name_table_dispose(&cache->flights[kind]);
    }
    store_pool_destroy(cache->pool);
    cache->driver->close(cache->store);
    pthread_cond_destroy(&cache->room);
    pthread_cond_destroy(&cache->upkeep_wake);
    pthread_mutex_destroy(&cache->mutex);
    free(cache);
}

/* --- looking up --- */

/* True if the entry lives; a doubted one does from now on. */
static bool keep_alive(struct cache_entry *entry) {
    enum entry_life life = atomic_load_explicit(&entry->life, memory_order_acquire);

    if (life == ENTRY_DOUBTED)
        return atomic_compare_exchange_strong(&entry->life, &life, ENTRY_LIVE) || life == ENTRY_LIVE;
    return life == ENTRY_LIVE;
}

static bool use(struct app_cache *cache, struct cache_entry *entry, struct worker *worker, struct app_lookup *lookup) {
    uint64_t now_ms = worker->now_ms;
    atomic_uint_fast64_t *used_ms = &entry->used_ms[worker->index];
    struct cache_counters *counters = &cache->counters[worker->index];

    if (now_ms >= atomic_load_explicit(&entry->fresh_until_ms, memory_order_acquire) || !keep_alive(entry))
        return false;
    lookup->slot = entry->slot;
    lookup->app = slot_app(entry->slot);
    if (lookup->app == NULL)
        return false;
    if (now_ms - atomic_load_explicit(used_ms, memory_order_relaxed) >= 100)
        atomic_store_explicit(used_ms, now_ms, memory_order_relaxed);
    if (atomic_load_explicit(&entry->stale, memory_order_relaxed))
        counter_add(&counters->stale, 1);
    else
        counter_add(&counters->hits, 1);
    lookup->answer = APP_FOUND;
    return true;
}

static bool known_absent(struct app_cache *cache, struct name_node *node, struct worker *worker,
                         struct app_lookup *lookup) {
    struct cache_absent *absent = container_of(node, struct cache_absent, node);

    if (node == NULL || worker->now_ms >= atomic_load_explicit(&absent->until_ms, memory_order_relaxed))
        return false;
    lookup->answer = absent->answer;
    lookup->reason = absent->reason;
    counter_add(&cache->counters[worker->index].negatives, 1);
    return true;
}

/* What is known, without asking anyone. */
static bool answer_from_tables(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                               uint64_t hash, struct app_lookup *lookup) {
    struct cache_entry *entry = cache_entry_of(kind, name_table_find(&cache->names[kind], name, hash));

    return (entry != NULL && use(cache, entry, worker, lookup)) ||
           known_absent(cache, name_table_find(&cache->absent[kind], name, hash), worker, lookup);
}

/* While the store is known not to answer nobody waits for it who can be served with what was true a while ago. */
static bool serve_stale(struct app_cache *cache, struct cache_entry *entry, struct worker *worker,
                        struct app_lookup *lookup) {
    uint64_t now_ms = clock_monotonic_ms();

    if (entry == NULL || !cache->outage || !cache_may_be_stale(cache, entry, now_ms))
        return false;
    cache_serve_stale(cache, entry, now_ms + STALE_AFTER_MS);
    return use(cache, entry, worker, lookup);
}

/* Asks the store, together with all who ask for the same name. */
static enum app_answer ask(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                           uint64_t hash, struct app_lookup *lookup) {
    struct cache_flight *flight, *created = NULL;
    struct cache_entry *entry;

    pthread_mutex_lock(&cache->mutex);
    entry = cache_entry_of(kind, name_table_find(&cache->names[kind], name, hash));
    if (answer_from_tables(cache, worker, kind, name, hash, lookup) || serve_stale(cache, entry, worker, lookup)) {
        pthread_mutex_unlock(&cache->mutex);
        return lookup->answer;
    }
    flight = cache_flight_find(cache, kind, name, hash);
    if (flight == NULL)
        flight = created = cache_flight_create(cache, kind, name, entry, clock_monotonic_ms());
    lookup->answer = APP_PENDING;
    cache_flight_join(flight, worker, lookup);
    pthread_mutex_unlock(&cache->mutex);
    counter_add(&cache->counters[worker->index].misses, 1);
    if (created != NULL)
        cache_flight_submit(created);
    return APP_PENDING;
}

enum app_answer app_cache_find(struct app_cache *cache, struct worker *worker, enum name_kind kind, struct slice name,
                               struct app_lookup *lookup) {
    uint64_t hash = hash_bytes(name);

    if (answer_from_tables(cache, worker, kind, name, hash, lookup))
        return lookup->answer;
    if (!app_name_valid(name))
        return lookup->answer = APP_NOT_FOUND;
    return ask(cache, worker, kind, name, hash, lookup);
}

/* --- writes --- */

static struct slice key_of(const struct app *app) {
    return app != NULL ? app->key : SLICE("");
}

static struct cache_entry *entry_of_id(struct app_cache *cache, struct slice id) {
    return cache_entry_of(NAME_ID, name_table_find(&cache->names[NAME_ID], id, hash_bytes(id)));
}

/* The app is asked for anew by a round, and "not found" is believed then; with the mutex held. */
static void announce(struct app_cache *cache, struct cache_entry *entry) {
    entry->announced = true;
    entry->refresh_at_ms = 0;
    cache_upkeep_wake(cache);
}

uint64_t app_cache_write_begins(struct app_cache *cache) {
    uint64_t mark;

    pthread_mutex_lock(&cache->mutex);
    mark = cache->last_write;
    pthread_mutex_unlock(&cache->mutex);
    return mark;
}

void app_cache_written(struct app_cache *cache, uint64_t mark, struct slice id, const struct app *before,
                       const struct app *after) {
    struct cache_aftermath aftermath = {0};
    struct cache_entry *entry;
    bool alone;

    pthread_mutex_lock(&cache->mutex);
    alone = !cache_written_since(cache, mark, id, SLICE(""));
    cache_note_write(cache, id, key_of(before), key_of(after));
    entry = entry_of_id(cache, id);
    if (after != NULL)
        entry = cache_put(cache, app_ref((struct app *)after), clock_monotonic_ms(), &aftermath);
    else if (entry != NULL)
        cache_drop_record(cache, entry, &aftermath);
    if (!alone && entry != NULL) { /* lookups ask the store, too */
        atomic_store(&entry->fresh_until_ms, 0);
        announce(cache, entry);
    }
    pthread_mutex_unlock(&cache->mutex);
    cache_do_aftermath(cache, &aftermath);
}

void app_cache_suspect(struct app_cache *cache, struct slice id, struct slice old_key, struct slice new_key) {
    struct cache_entry *entry;

    pthread_mutex_lock(&cache->mutex);
    cache_note_write(cache, id, old_key, new_key);
    cache_expire_absent(cache, NAME_ID, id);
    cache_expire_absent(cache, NAME_KEY, old_key);
    cache_expire_absent(cache, NAME_KEY, new_key);
    entry = entry_of_id(cache, id);
    if (entry != NULL)
        announce(cache, entry);
    pthread_mutex_unlock(&cache->mutex);
}

/* --- looking at it --- */

struct store_pool *app_cache_pool(struct app_cache *cache) {
    return cache->pool;
}

enum app_health app_cache_health(struct app_cache *cache) {
    enum app_health health;

    pthread_mutex_lock(&cache->mutex);
    if (cache->answered_ms != 0 && !cache->outage)
        health = APP_HEALTH_OK;
    else
        health = cache->ever_loaded ? APP_HEALTH_DEGRADED : APP_HEALTH_ERROR;
    pthread_mutex_unlock(&cache->mutex);
    return health;
}

bool app_cache_health_known(struct app_cache *cache) {
    bool known;

    pthread_mutex_lock(&cache->mutex);
    known = cache->outage || clock_monotonic_ms() < cache->answered_ms + 1000;
    pthread_mutex_unlock(&cache->mutex);
    return known;
}

void app_cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer,
                           const struct error *error) {
    bool news;

    pthread_mutex_lock(&cache->mutex);
    news = cache_note_answer(cache, operation, answer, clock_monotonic_ms());
    pthread_mutex_unlock(&cache->mutex);
    if (news)
        cache_log_outage(cache, answer, error);
}

void app_cache_each_slot(struct app_cache *cache, void (*each)(struct app_slot *slot, void *context), void *context) {
    struct app_slot **slots;
    size_t count = 0;

    pthread_mutex_lock(&cache->mutex);
    slots = alloc_array(NULL, cache->entry_count + 1, sizeof slots[0]);
    for (struct list *link = cache->entries.next; link != &cache->entries; link = link->next)
        slots[count++] = container_of(link, struct cache_entry, link)->slot;
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < count; i++) /* a slot outlives the worker's turn */
        each(slots[i], context);
    free(slots);
}

void app_cache_look(struct app_cache *cache, struct app_lookup_counts *counts) {
    *counts = (struct app_lookup_counts){0};
    for (unsigned i = 0; i < cache->workers->count; i++) {
        const struct cache_counters *counters = &cache->counters[i];
        counts->hits += counter_read(&counters->hits);
        counts->misses += counter_read(&counters->misses);
        counts->negatives += counter_read(&counters->negatives);
        counts->stale += counter_read(&counters->stale);
        counts->errors += counter_read(&counters->errors);
    }
    pthread_mutex_lock(&cache->mutex);
    counts->entries = cache->entry_count;
    counts->absent = cache->absent[NAME_ID].count + cache->absent[NAME_KEY].count;
    counts->broken = cache->broken;
    counts->outages = cache->outages;
    counts->outage = cache->outage;
    pthread_mutex_unlock(&cache->mutex);
}
