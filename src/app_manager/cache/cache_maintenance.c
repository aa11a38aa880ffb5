#include "app_manager/cache/cache_maintenance.h"

#include <sched.h>

#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_outage.h"
#include "app_manager/cache/cache_sweep.h"
#include "base/clock.h"
#include "base/thread.h"

#define ENDED_PER_TICK 1000  /* fetches whose lookups are answered in a tick */
#define OVERDUE_MS 500       /* an answer may come so long after its time */
#define CLEAN_UP_ENTRIES 500 /* negative entries that are removed while the mutex is held once */
#define SWEEP_FIRST_MS 100   /* the shortest interval between sweeps */
#define SWEEP_LAST_MS 1000   /* the longest one */
#define NS_PER_MS UINT64_C(1000000)

struct maintenance {
    struct app_cache *cache;
    struct cache_sweep *sweep;
    uint64_t sweep_at_ms, clean_up_at_ms;
    bool operations_wait; /* in the pool's queue, at the last tick */
};

/* --- lookups that wait too long --- */

/* Serves an expired record after STALE_AFTER_MS. Without one, a lookup gets "unavailable" when its time is over: a
 * driver that hangs in the kernel, as on a dead disk, does not see that. With the mutex held; true if there was
 * something to answer. */
static bool answer_late_fetch(struct app_cache *cache, struct cache_fetch *fetch, uint64_t now_ms,
                              struct fetch_delivery **deliveries) {
    bool overdue = now_ms >= fetch->started_ms + cache->settings.lookup_timeout_ms + OVERDUE_MS;

    if (fetch->waiting_workers == 0 || (!overdue && now_ms < fetch->started_ms + STALE_AFTER_MS))
        return false;
    if (fetch->entry != NULL && records_may_serve_stale(&cache->records, fetch->entry, now_ms)) {
        records_serve_stale(&cache->records, fetch->entry, now_ms + STALE_AFTER_MS);
        fetch_answer(fetch, APP_FOUND, NULL, deliveries);
        return true;
    }
    if (overdue)
        fetch_answer(fetch, APP_UNAVAILABLE, NULL, deliveries);
    return overdue;
}

static void answer_late_fetches(struct app_cache *cache, uint64_t now_ms) {
    struct fetch_delivery *deliveries = NULL;
    struct list *fetches = &cache->fetches.list;
    unsigned answered = 0;

    pthread_mutex_lock(&cache->mutex);
    for (struct list *link = fetches->next; link != fetches && answered < ENDED_PER_TICK; link = link->next)
        answered += answer_late_fetch(cache, container_of(link, struct cache_fetch, link), now_ms, &deliveries);
    pthread_mutex_unlock(&cache->mutex);
    fetch_post(deliveries);
}

/* --- clean-up --- */

static size_t clean_up_some(struct app_cache *cache, enum name_kind kind, uint64_t now_ms) {
    struct cache_effects effects = {0};
    size_t removed;

    pthread_mutex_lock(&cache->mutex);
    removed = negatives_clean_up(&cache->negatives, kind, now_ms, CLEAN_UP_ENTRIES, &effects.unlinked);
    pthread_mutex_unlock(&cache->mutex);
    cache_effects_run(&effects, &cache->surroundings);
    return removed;
}

static void clean_up_negatives(struct app_cache *cache, uint64_t now_ms) {
    for (unsigned kind = 0; kind < NAME_KIND_COUNT; kind++)
        while (clean_up_some(cache, kind, now_ms) == CLEAN_UP_ENTRIES)
            sched_yield();
}

/* --- the thread --- */

/* A tenth of the TTL, within limits. */
static uint64_t sweep_interval_ms(const struct app_cache *cache) {
    uint64_t tenth_ms = cache->settings.ttl_ms / 10;

    return tenth_ms < SWEEP_FIRST_MS ? SWEEP_FIRST_MS : tenth_ms > SWEEP_LAST_MS ? SWEEP_LAST_MS : tenth_ms;
}

/* When a sleep that began at `since_ms` ends. With the mutex held. */
static uint64_t wake_at_ms(const struct maintenance *maintenance, uint64_t since_ms) {
    const struct app_cache *cache = maintenance->cache;
    uint64_t tick_ms = since_ms + CACHE_TICK_MS;
    uint64_t next_ms =
        maintenance->sweep_at_ms < maintenance->clean_up_at_ms ? maintenance->sweep_at_ms : maintenance->clean_up_at_ms;

    if (cache->wake.sweep_at_ms != 0 && cache->wake.sweep_at_ms < next_ms)
        next_ms = cache->wake.sweep_at_ms;
    if (maintenance->operations_wait || cache->wake.work_waits || cache->health.outage ||
        !list_empty(&cache->fetches.list))
        return tick_ms;
    return next_ms > tick_ms ? next_ms : tick_ms;
}

/* Sleeps until the next tick. Returns false when the cache stops; `*sweeps` is set if a sweep is wanted at once. */
static bool sleep_until_tick(struct maintenance *maintenance, bool *sweeps) {
    struct app_cache *cache = maintenance->cache;
    struct cache_wake *wake = &cache->wake;
    uint64_t since_ms = clock_monotonic_ms(), until_ms;
    bool goes_on;

    pthread_mutex_lock(&cache->mutex);
    while (!cache->stopping && !wake->sweep_wanted &&
           clock_monotonic_ms() < (until_ms = wake_at_ms(maintenance, since_ms))) {
        wake->sleeps_long = until_ms > since_ms + CACHE_TICK_MS;
        condition_wait_until(&wake->condition, &cache->mutex, until_ms * NS_PER_MS);
    }
    *sweeps = wake->sweep_wanted || (wake->sweep_at_ms != 0 && clock_monotonic_ms() >= wake->sweep_at_ms);
    if (*sweeps)
        wake->sweep_at_ms = 0;
    wake->sweep_wanted = wake->work_waits = wake->sleeps_long = false;
    goes_on = !cache->stopping;
    pthread_mutex_unlock(&cache->mutex);
    return goes_on;
}

static void do_tick(struct maintenance *maintenance, bool sweeps) {
    struct app_cache *cache = maintenance->cache;
    uint64_t now_ms = clock_monotonic_ms();
    bool cleans_up = now_ms >= maintenance->clean_up_at_ms;

    maintenance->operations_wait = store_pool_expire(cache->pool);
    answer_late_fetches(cache, now_ms);
    cache_probe_store(cache);
    if (cleans_up) {
        clean_up_negatives(cache, now_ms);
        maintenance->clean_up_at_ms = now_ms + cache->settings.cleanup_interval_ms;
    }
    if (sweeps || cleans_up || now_ms >= maintenance->sweep_at_ms) {
        cache_sweep_begin(maintenance->sweep);
        maintenance->sweep_at_ms = now_ms + sweep_interval_ms(cache);
    }
    cache_sweep_continue(maintenance->sweep);
}

void *cache_maintenance_run(void *context) {
    struct app_cache *cache = context;
    struct maintenance maintenance = {.cache = cache, .sweep = cache_sweep_create(cache)};
    bool sweeps;

    while (sleep_until_tick(&maintenance, &sweeps))
        do_tick(&maintenance, sweeps);
    cache_sweep_destroy(maintenance.sweep);
    budget_settle();
    return NULL;
}
