#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "base/clock.h"
#include "base/log.h"

#define PROBE_INTERVAL_MS 1000
#define PROBE_TIMEOUT_MS 2000
#define DELIVERIES_MAX 1000 /* that are made in a tick */
#define OVERDUE_MS 500      /* that an answer may come after its time */

/* --- the store's health --- */

/* Who found no connection free in time, or too many waiting, says something of the store only if nobody else has had an
 * answer for as long: else there is just more to do than it can. */
static bool says_nothing(const struct app_cache *cache, const struct store_operation *operation, uint64_t now_ms) {
    return operation != NULL && !operation->asked && cache->answered_ms != 0 &&
           now_ms < cache->answered_ms + cache->config->app_manager.lookup_timeout_ms;
}

bool cache_note_answer(struct app_cache *cache, const struct store_operation *operation, enum store_answer answer,
                       uint64_t now_ms) {
    bool failed = answer == STORE_UNAVAILABLE, news = failed != cache->outage && !cache->stopping;

    if (failed && says_nothing(cache, operation, now_ms))
        return false;
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
    /* What could not be read again in the meantime is now. */
    for (struct list *link = cache->entries.next; link != &cache->entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (entry->failures == 0)
            continue;
        entry->failures = 0;
        entry->refresh_at_ms = now_ms;
    }
    cache_upkeep_wake(cache);
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
                                   struct store_connection *connection, const struct deadline *deadline,
                                   struct error *error) {
    (void)operation;
    return driver->check_health(connection, deadline, error);
}

static void probe_finished(struct store_operation *operation, enum store_answer answer, const struct error *error) {
    struct app_cache *cache = container_of(operation, struct app_cache, probe);

    app_cache_note_answer(cache, operation, answer, error);
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

/* --- who waits --- */

/* Messages that end the waiting; NULL if whoever waits for the query has to go on. With the mutex held. */
static struct cache_delivery *end_waiting(struct app_cache *cache, struct cache_flight *flight, uint64_t now_ms) {
    uint64_t overdue_ms = flight->started_ms + cache->config->app_manager.lookup_timeout_ms + OVERDUE_MS;
    bool overdue = now_ms >= overdue_ms, long_enough = overdue || now_ms >= flight->started_ms + STALE_AFTER_MS;

    if (flight->asking == 0 || !long_enough)
        return NULL;
    if (flight->entry != NULL && cache_may_be_stale(cache, flight->entry, now_ms)) {
        cache_serve_stale(cache, flight->entry, now_ms + STALE_AFTER_MS);
        return cache_flight_serve_stale(flight);
    }
    return overdue ? cache_flight_give_up(flight) : NULL;
}

/* Who has waited long enough gets the record that was known once, or is told to come back: a driver that hangs in the
 * kernel, as on a dead disk, does not see that its time is up. */
static void answer_who_waits(struct app_cache *cache, uint64_t now_ms, struct cache_delivery **deliveries,
                             size_t *count) {
    for (struct list *link = cache->flight_list.next; link != &cache->flight_list && *count < DELIVERIES_MAX;
         link = link->next) {
        struct cache_flight *flight = container_of(link, struct cache_flight, link);
        struct cache_delivery *delivery = end_waiting(cache, flight, now_ms);
        if (delivery != NULL)
            deliveries[(*count)++] = delivery;
    }
}

/* --- the thread --- */

/* Ten rounds in a TTL, but not more than ten a second and not fewer than one. */
static uint64_t round_interval_ms(const struct app_cache *cache) {
    uint64_t tenth_ms = cache->settings.ttl_s * UINT64_C(100);

    return tenth_ms < 100 ? 100 : tenth_ms > 1000 ? 1000 : tenth_ms;
}

static void look_after_flights(struct app_cache *cache, uint64_t now_ms) {
    struct cache_delivery **deliveries = alloc_array(NULL, DELIVERIES_MAX, sizeof *deliveries);
    size_t count = 0;
    bool probe;

    store_pool_expire(cache->pool);
    pthread_mutex_lock(&cache->mutex);
    answer_who_waits(cache, now_ms, deliveries, &count);
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

/* Waits for the next tick; true if somebody wanted to be looked after at once. */
static bool wait_for_tick(struct app_cache *cache, bool *stopping) {
    uint64_t until_ns = clock_monotonic_ns() + CACHE_TICK_MS * UINT64_C(1000000);
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
    struct cache_round *round = cache_round_create(cache);
    uint64_t begun_ms = 0, cleaned_ms = 0;
    bool stopping = false;

    while (!stopping) {
        bool wanted = wait_for_tick(cache, &stopping);
        uint64_t now_ms = clock_monotonic_ms();
        bool clean = now_ms >= cleaned_ms + cache->settings.cleanup_interval_s * UINT64_C(1000);

        look_after_flights(cache, now_ms);
        if (clean) {
            cache_clean_absent(cache, now_ms);
            cleaned_ms = now_ms;
        }
        if (wanted || clean || now_ms >= begun_ms + round_interval_ms(cache)) {
            cache_round_begin(round);
            begun_ms = now_ms;
        }
        cache_round_go_on(round);
    }
    cache_round_destroy(round);
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
    cache_expire_all_absent(cache);
    for (struct list *link = cache->entries.next; link != &cache->entries; link = link->next) {
        struct cache_entry *entry = container_of(link, struct cache_entry, link);
        if (entry->refresh_at_ms > now_ms)
            entry->refresh_at_ms = now_ms;
        if (!cache_has_connections(entry)) /* asked for again when somebody wants it */
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
