#include "app_manager/cache/cache_sweep.h"

#include <sched.h>
#include <stdlib.h>

#include "app_manager/cache/cache_answer.h"
#include "app_manager/cache/cache_eviction.h"
#include "app_manager/cache/cache_internal.h"
#include "base/alloc.h"
#include "base/clock.h"

#define SLICE_ENTRIES 500 /* entries that are visited while the mutex is held once */

/* The list of entries rotates under the sweep: visited entries go to its end. */
struct cache_sweep {
    struct app_cache *cache;
    size_t left; /* entries to visit until the sweep has ended */
    bool wanted; /* another one, when this one has ended */
    /* Candidates are noted: no eviction was pending when the sweep began. */
    bool evicting;
    struct eviction_candidates candidates;
    size_t in_use; /* entries that do not count against the capacity */
};

/* A visited entry, for what is done without the mutex. */
struct visit {
    struct cache_entry *entry;
    uint64_t used_ms;
    bool pinned, expired;
};

/* The part of a sweep that is done while the mutex is held once. */
struct sweep_slice {
    struct visit visits[SLICE_ENTRIES]; /* of live entries */
    struct cache_fetch *refreshes[SLICE_ENTRIES];
    size_t visit_count, refresh_count;
    bool waits; /* too many refreshes are in flight */
};

struct cache_sweep *cache_sweep_create(struct app_cache *cache) {
    struct cache_sweep *sweep = alloc_zero(sizeof *sweep);

    sweep->cache = cache;
    return sweep;
}

void cache_sweep_destroy(struct cache_sweep *sweep) {
    eviction_dispose(&sweep->candidates);
    free(sweep);
}

void cache_sweep_begin(struct cache_sweep *sweep) {
    sweep->wanted = true;
}

/* --- visiting; with the mutex held --- */

static bool wants_refresh(const struct app_cache *cache, const struct cache_entry *entry, uint64_t used_ms,
                          uint64_t now_ms) {
    if (now_ms < entry->refresh_at_ms || (!entry_has_connections(entry) && !entry->announced && !entry->early &&
                                          entry->vanishing.since_ms == 0 && used_ms <= entry->loaded_ms))
        return false;
    return fetches_find(&cache->fetches, NAME_ID, entry->by_id.text, entry->by_id.hash) == NULL;
}

/* True if the entry has no record, or could not be served any more even in an outage. */
static bool is_expired(const struct cache_settings *settings, const struct cache_entry *entry, uint64_t used_ms,
                       uint64_t now_ms) {
    uint64_t kept_ms = settings->passthrough ? CACHE_TICK_MS : settings->ttl_ms + settings->stale_if_error_ms;

    return atomic_load(&entry->slot->current) == NULL || now_ms > used_ms + kept_ms;
}

static void visit_entry(struct app_cache *cache, struct cache_entry *entry, uint64_t used_ms, uint64_t now_ms,
                        struct sweep_slice *slice) {
    if (atomic_load(&entry->life) == ENTRY_LIVE)
        slice->visits[slice->visit_count++] = (struct visit){
            .entry = entry,
            .used_ms = used_ms,
            .pinned = atomic_load_explicit(&entry->pins, memory_order_relaxed) != 0 || entry->vanishing.since_ms != 0 ||
                      (entry->restored && cache->health.answered_ms == 0),
            .expired = is_expired(&cache->settings, entry, used_ms, now_ms),
        };
    list_remove(&entry->link);
    list_append(&cache->records.entries, &entry->link);
}

static void visit_slice(struct cache_sweep *sweep, struct sweep_slice *slice, struct reclaim_batch *unlinked) {
    struct app_cache *cache = sweep->cache;
    struct list *entries = &cache->records.entries;
    uint64_t now_ms = clock_monotonic_ms();

    for (size_t i = 0; i < SLICE_ENTRIES && sweep->left != 0 && !list_empty(entries); i++) {
        struct cache_entry *entry = container_of(entries->next, struct cache_entry, link);
        uint64_t used_ms = entry_last_used_ms(entry, cache->records.worker_count);
        if (wants_refresh(cache, entry, used_ms, now_ms)) {
            slice->waits = !fetches_may_refresh(&cache->fetches);
            if (slice->waits)
                return;
            slice->refreshes[slice->refresh_count++] = fetches_add_refresh(&cache->fetches, entry, now_ms, unlinked);
        } else if (entry->vanishing.since_ms != 0)
            cache_wake_for_sweep_at(&cache->wake, entry->refresh_at_ms);
        visit_entry(cache, entry, used_ms, now_ms, slice);
        sweep->left--;
    }
    if (list_empty(entries))
        sweep->left = 0;
}

/* --- between slices; without the mutex --- */

/* The entries stay allocated, see cache_eviction.h: they were live, and this thread begins the evictions. */
static void note_use(struct cache_sweep *sweep, const struct sweep_slice *slice) {
    for (size_t i = 0; i < slice->visit_count; i++) {
        const struct visit *visit = &slice->visits[i];
        if (cache_entry_in_use(sweep->cache, visit->entry))
            sweep->in_use++;
        else if (sweep->evicting && !visit->pinned)
            eviction_add(&sweep->candidates, visit->entry, visit->used_ms, visit->expired);
    }
}

static void begin_sweep(struct cache_sweep *sweep) {
    struct app_cache *cache = sweep->cache;

    sweep->wanted = false;
    sweep->candidates.count = sweep->candidates.expired = sweep->in_use = 0;
    pthread_mutex_lock(&cache->mutex);
    sweep->left = cache->records.count;
    sweep->evicting = !cache->eviction_pending;
    cache->records.created_since_sweep = 0;
    write_log_trim(&cache->writes, clock_monotonic_ms());
    pthread_mutex_unlock(&cache->mutex);
}

static void end_sweep(struct cache_sweep *sweep) {
    struct app_cache *cache = sweep->cache;
    size_t chosen;

    pthread_mutex_lock(&cache->mutex);
    cache_capacity_set_in_use(&cache->capacity, sweep->in_use);
    pthread_mutex_unlock(&cache->mutex);
    if (!sweep->evicting)
        return;
    chosen = eviction_choose(&sweep->candidates, cache->settings.capacity);
    if (chosen != 0)
        cache_evict(cache, &sweep->candidates, chosen);
}

static bool sweep_one_slice(struct cache_sweep *sweep) {
    struct app_cache *cache = sweep->cache;
    struct cache_effects effects = {0};
    struct sweep_slice slice = {.waits = false};

    pthread_mutex_lock(&cache->mutex);
    visit_slice(sweep, &slice, &effects.unlinked);
    pthread_mutex_unlock(&cache->mutex);
    cache_effects_run(&effects, &cache->surroundings);
    for (size_t i = 0; i < slice.refresh_count; i++)
        cache_submit_fetch(cache, slice.refreshes[i]);
    note_use(sweep, &slice);
    return !slice.waits;
}

void cache_sweep_continue(struct cache_sweep *sweep) {
    bool goes_on = true;

    if (sweep->left == 0 && sweep->wanted)
        begin_sweep(sweep);
    while (goes_on && sweep->left != 0) {
        goes_on = sweep_one_slice(sweep);
        if (sweep->left == 0)
            end_sweep(sweep);
        sched_yield(); /* a worker that waits for the mutex gets it before the next slice */
    }
}
