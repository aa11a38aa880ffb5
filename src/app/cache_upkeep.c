#include <stdlib.h>

#include "app/cache_internal.h"
#include "base/clock.h"
#include "base/log.h"

#define TICK_MS 100
#define PROBE_INTERVAL_MS 1000
#define PROBE_TIMEOUT_MS 2000
#define REFRESHES_PER_ROUND 1000

/* --- the store's health --- */

bool cache_note_answer(struct app_cache *cache, enum store_answer answer, uint64_t now_ms) {
    bool failed = answer == STORE_UNAVAILABLE, news = failed != cache->outage && !cache->stopping;

    if (!failed)
        cache->answered_ms = now_ms;
    if (!news)
        return false;
    cache->outage = failed;
    if (failed) {
        cache->outage_ms = now_ms;
        cache->outages++;
        return true;
    }
    /* What could not be read again in the meantime is, within a second. */
    for (struct list *link = cache->entries.next; link != &cache->entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (entry->failures == 0)
            continue;
        entry->failures = 0;
        entry->refresh_at_ms = now_ms + entry->by_id.hash % 1000;
    }
    return true;
}

void cache_log_outage(struct app_cache *cache, enum store_answer answer, const struct error *error) {
    if (answer == STORE_UNAVAILABLE)
        log_error("app", "the %s store cannot be asked: %s; apps that are known are served as they were",
                  cache->driver->name, error->text);
    else
        log_info("app", "the %s store answers", cache->driver->name);
}

static enum store_answer run_probe(struct store_operation *operation, const struct app_store_driver *driver,
                                   struct store_connection *connection, const struct patience *patience,
                                   struct error *error) {
    (void)operation;
    return driver->check_health(connection, patience, error);
}

static void probe_finished(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct app_cache *cache = container_of(operation, struct app_cache, probe);

    app_cache_note_answer(cache, answer, error);
    pthread_mutex_lock(&cache->mutex);
    cache->probing = false;
    pthread_mutex_unlock(&cache->mutex);
}

/* While the store does not answer it is tried every second, so that its return is noticed. With the mutex held. */
static bool wants_probe(struct app_cache *cache, uint64_t now_ms) {
    if (!cache->outage || cache->probing || now_ms < cache->probed_ms + PROBE_INTERVAL_MS)
        return false;
    cache->probing = true;
    cache->probed_ms = now_ms;
    cache->probe = (struct store_operation){
        .priority = STORE_URGENT, .repeatable = true, .run = run_probe, .finished = probe_finished};
    return true;
}

/* --- what is in use --- */

static bool has_connections(const struct cache_entry *entry) {
    return atomic_load_explicit(&entry->slot->connections, memory_order_relaxed) != 0;
}

static uint64_t last_used_ms(const struct app_cache *cache, const struct cache_entry *entry) {
    uint64_t latest_ms = 0;

    for (unsigned i = 0; i < cache->workers->count; i++) {
        uint64_t used_ms = atomic_load_explicit(&entry->used_ms[i], memory_order_relaxed);
        if (used_ms > latest_ms)
            latest_ms = used_ms;
    }
    return latest_ms > entry->loaded_ms ? latest_ms : entry->loaded_ms;
}

/* Nothing keeps it: no connection, no answer on its way, no channel that remembers an event. */
static bool idle(const struct app_cache *cache, const struct cache_entry *entry) {
    void *channels = atomic_load_explicit(&entry->slot->channels, memory_order_acquire);

    return !has_connections(entry) && entry->pins == 0 && (channels == NULL || cache->hooks->channels_empty(channels));
}

/* --- reading again --- */

static bool wants_refresh(struct app_cache *cache, struct cache_entry *entry, uint64_t now_ms) {
    if (now_ms < entry->refresh_at_ms ||
        (!has_connections(entry) && !entry->announced && last_used_ms(cache, entry) <= entry->loaded_ms))
        return false;
    return cache_flight_find(cache, NAME_ID, entry->by_id.text, entry->by_id.hash) == NULL;
}

/* Queries for what is due, chained in `flights`; with the mutex held. */
static size_t start_refreshes(struct app_cache *cache, struct cache_flight **flights, uint64_t now_ms) {
    size_t count = 0;

    for (struct list *link = cache->entries.next; link != &cache->entries && count < REFRESHES_PER_ROUND;
         link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (wants_refresh(cache, entry, now_ms))
            flights[count++] = cache_flight_create(cache, NAME_ID, entry->by_id.text, entry, now_ms);
    }
    return count;
}

/* Who has waited long enough for a record that was known once gets that one. With the mutex held. */
static void serve_stale(struct app_cache *cache, uint64_t now_ms, struct cache_delivery **deliveries, size_t *count) {
    for (struct list *link = cache->flight_list.next; link != &cache->flight_list; link = link->next) {
        struct cache_flight *flight = container_of(link, struct cache_flight, link);
        if (flight->asking == 0 || flight->entry == NULL || now_ms < flight->started_ms + STALE_AFTER_MS ||
            !cache_may_be_stale(cache, flight->entry, now_ms) || *count == REFRESHES_PER_ROUND)
            continue;
        cache_serve_stale(cache, flight->entry, now_ms + STALE_AFTER_MS);
        deliveries[(*count)++] = cache_flight_serve_stale(flight);
    }
}

/* --- giving up --- */

struct doubts {
    size_t count;
    struct cache_entry *entries[];
};

/* Every worker has ended a turn since the entries were doubted. */
static void judge(void *object, void *context) {
    struct doubts *doubts = object;
    struct app_cache *cache = context;
    size_t dead = 0;

    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < doubts->count; i++) {
        struct cache_entry *entry = doubts->entries[i];
        enum entry_life life = ENTRY_DOUBTED;
        if (!idle(cache, entry)) {
            atomic_store(&entry->life, ENTRY_LIVE);
        } else if (atomic_compare_exchange_strong(&entry->life, &life, ENTRY_DEAD)) {
            cache_unlink(cache, entry);
            doubts->entries[dead++] = entry;
        }
    }
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < dead; i++)
        retire(&cache->retirement, doubts->entries[i], cache_entry_free, cache);
    free(doubts);
}

struct candidate {
    struct cache_entry *entry;
    uint64_t used_ms;
};

static int compare_candidates(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;

    return (a->used_ms > b->used_ms) - (a->used_ms < b->used_ms);
}

/* Beyond the time in which even a store that fails would be no excuse to serve it, or without a record at all. */
static bool outdated(const struct app_cache *cache, const struct cache_entry *entry, uint64_t now_ms) {
    uint64_t kept_ms = (cache->settings.ttl_s + (uint64_t)cache->settings.stale_if_error_s) * 1000;
    bool passing = !cache->settings.enabled || cache->settings.ttl_s == 0;

    return atomic_load(&entry->slot->current) == NULL ||
           now_ms > last_used_ms(cache, entry) + (passing ? TICK_MS : kept_ms);
}

/* The idle entries that have to go: the outdated, and the least recently used of those beyond the capacity. With the
 * mutex held. */
static struct doubts *find_doubts(struct app_cache *cache, uint64_t now_ms) {
    struct candidate *candidates = alloc_array(NULL, cache->entry_count + 1, sizeof *candidates);
    struct doubts *doubts = NULL;
    size_t count = 0, old = 0, excess, capacity = cache->settings.capacity;

    for (struct list *link = cache->entries.next; link != &cache->entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (atomic_load(&entry->life) != ENTRY_LIVE || !idle(cache, entry))
            continue;
        candidates[count] = (struct candidate){entry, last_used_ms(cache, entry)};
        if (outdated(cache, entry, now_ms)) {
            candidates[count].used_ms = 0;
            old++;
        }
        count++;
    }
    excess = count > capacity ? count - capacity + capacity / 16 : 0;
    if (excess < old)
        excess = old;
    if (excess != 0) {
        qsort(candidates, count, sizeof *candidates, compare_candidates);
        doubts = alloc(sizeof *doubts + excess * sizeof doubts->entries[0]);
        doubts->count = excess;
        for (size_t i = 0; i < excess; i++) {
            doubts->entries[i] = candidates[i].entry;
            atomic_store(&candidates[i].entry->life, ENTRY_DOUBTED);
        }
    }
    free(candidates);
    return doubts;
}

/* Expired "not found"; a broken record stays known as such, so that it is reported once. With the mutex held. */
static void clean_absent(struct app_cache *cache, uint64_t now_ms) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++) {
        struct list *link = cache->absent_order[kind].next, *next;
        for (; link != &cache->absent_order[kind]; link = next) {
            struct cache_absent *absent = container_of(link, struct cache_absent, link);
            next = link->next;
            if (absent->answer == APP_NOT_FOUND && now_ms >= atomic_load(&absent->until_ms))
                cache_drop_absent(cache, kind, absent->node.text);
        }
    }
}

/* --- the thread --- */

/* Ten rounds in a TTL, but not more than ten a second and not fewer than one. */
static uint64_t round_interval_ms(const struct app_cache *cache) {
    uint64_t tenth_ms = cache->settings.ttl_s * UINT64_C(100);

    return tenth_ms < 100 ? 100 : tenth_ms > 1000 ? 1000 : tenth_ms;
}

static void look_after_entries(struct app_cache *cache, uint64_t now_ms, bool clean) {
    struct cache_flight **flights = alloc_array(NULL, REFRESHES_PER_ROUND, sizeof *flights);
    struct doubts *doubts;
    size_t count;

    pthread_mutex_lock(&cache->mutex);
    count = start_refreshes(cache, flights, now_ms);
    doubts = find_doubts(cache, now_ms);
    cache_forget_writes(cache, now_ms, WRITES_MAX);
    if (clean)
        clean_absent(cache, now_ms);
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < count; i++)
        cache_flight_submit(flights[i]);
    retire(&cache->retirement, doubts, judge, cache);
    free(flights);
}

static void look_after_flights(struct app_cache *cache, uint64_t now_ms) {
    struct cache_delivery **deliveries = alloc_array(NULL, REFRESHES_PER_ROUND, sizeof *deliveries);
    size_t count = 0;
    bool probe;

    store_pool_expire(cache->pool);
    pthread_mutex_lock(&cache->mutex);
    serve_stale(cache, now_ms, deliveries, &count);
    probe = wants_probe(cache, now_ms);
    pthread_mutex_unlock(&cache->mutex);
    for (size_t i = 0; i < count; i++)
        cache_post(deliveries[i]);
    free(deliveries);
    if (probe)
        store_pool_submit(cache->pool, &cache->probe, PROBE_TIMEOUT_MS);
}

void cache_upkeep_wake(struct app_cache *cache) {
    cache->upkeep_wanted = true;
    pthread_cond_signal(&cache->upkeep_wake);
}

/* Waits for the next tick; true if somebody wanted a round at once. */
static bool wait_for_tick(struct app_cache *cache, bool *stopping) {
    uint64_t until_ns = clock_monotonic_ns() + TICK_MS * UINT64_C(1000000);
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                                   .tv_nsec = (long)(until_ns % 1000000000u)};
    bool wanted;

    pthread_mutex_lock(&cache->mutex);
    if (!cache->stopping && !cache->upkeep_wanted)
        pthread_cond_timedwait(&cache->upkeep_wake, &cache->mutex, &until);
    wanted = cache->upkeep_wanted;
    cache->upkeep_wanted = false;
    *stopping = cache->stopping;
    pthread_mutex_unlock(&cache->mutex);
    return wanted;
}

void *cache_upkeep_run(void *context) {
    struct app_cache *cache = context;
    uint64_t round_ms = 0, cleaned_ms = 0;
    bool stopping = false;

    while (!stopping) {
        bool wanted = wait_for_tick(cache, &stopping);
        uint64_t now_ms = clock_monotonic_ms();
        bool clean = now_ms >= cleaned_ms + cache->settings.cleanup_interval_s * UINT64_C(1000);

        look_after_flights(cache, now_ms);
        if (clean)
            cleaned_ms = now_ms;
        if (!wanted && !clean && now_ms < round_ms + round_interval_ms(cache))
            continue;
        look_after_entries(cache, now_ms, clean);
        round_ms = now_ms;
    }
    return NULL;
}

/* --- changes that others make --- */

static void on_changed(void *context, struct slice id, struct slice old_key, struct slice new_key) {
    app_cache_suspect(context, id, old_key, new_key);
}

static void on_anything_changed(void *context) {
    struct app_cache *cache = context;
    uint64_t now_ms = clock_monotonic_ms();

    pthread_mutex_lock(&cache->mutex);
    cache->forgotten_write = ++cache->last_write;
    cache_drop_all_absent(cache);
    for (struct list *link = cache->entries.next; link != &cache->entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        uint64_t at_ms = now_ms + (has_connections(entry) ? entry->by_id.hash % 500 : 0);
        if (entry->refresh_at_ms > at_ms)
            entry->refresh_at_ms = at_ms;
        if (!has_connections(entry)) /* asked for again when somebody wants it */
            atomic_store(&entry->fresh_until_ms, 0);
    }
    cache_upkeep_wake(cache);
    pthread_mutex_unlock(&cache->mutex);
}

void *cache_watch_run(void *context) {
    struct app_cache *cache = context;
    const struct store_watcher watcher = {
        .changed = on_changed, .anything_changed = on_anything_changed, .context = cache};

    cache->driver->watch(cache->store, cache->config->app_manager.lookup_timeout_ms, store_pool_stop_fd(cache->pool),
                         &watcher);
    return NULL;
}
