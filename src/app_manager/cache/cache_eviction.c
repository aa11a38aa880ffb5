#include "app_manager/cache/cache_eviction.h"

#include <stdlib.h>

#include "app_manager/cache/cache_internal.h"
#include "base/alloc.h"

#define FIRST_CANDIDATES 500

/* --- choosing --- */

void eviction_add(struct eviction_candidates *candidates, struct cache_entry *entry, uint64_t used_ms, bool expired) {
    if (candidates->count == candidates->allocated) {
        candidates->allocated = candidates->allocated == 0 ? FIRST_CANDIDATES : 2 * candidates->allocated;
        candidates->list = alloc_array(candidates->list, candidates->allocated, sizeof candidates->list[0]);
    }
    candidates->list[candidates->count++] = (struct eviction_candidate){entry, expired ? 0 : used_ms};
    candidates->expired += expired;
}

static int compare_by_use(const void *left, const void *right) {
    const struct eviction_candidate *a = left, *b = right;

    return (a->used_ms > b->used_ms) - (a->used_ms < b->used_ms);
}

size_t eviction_choose(struct eviction_candidates *candidates, size_t capacity) {
    size_t chosen = candidates->count > capacity ? candidates->count - capacity + capacity / 16 : 0;

    if (chosen < candidates->expired)
        chosen = candidates->expired;
    if (chosen != 0)
        qsort(candidates->list, candidates->count, sizeof candidates->list[0], compare_by_use);
    return chosen;
}

void eviction_dispose(struct eviction_candidates *candidates) {
    free(candidates->list);
    *candidates = (struct eviction_candidates){0};
}

/* --- evicting --- */

struct eviction {
    size_t count;
    struct cache_entry *entries[];
};

bool cache_entry_in_use(const struct app_cache *cache, const struct cache_entry *entry) {
    void *channels = atomic_load_explicit(&entry->slot->channels, memory_order_acquire);

    return entry_has_connections(entry) || (channels != NULL && !cache->surroundings.hooks->channels_empty(channels));
}

/* Makes entries live again that a query or an answer on its way has pinned. Later pins do so themselves: an entry that
 * is still marked after this can get no new event on a channel. */
static void revive_pinned(struct app_cache *cache, const struct eviction *eviction) {
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < eviction->count; i++)
        if (atomic_load_explicit(&eviction->entries[i]->pins, memory_order_acquire) != 0)
            atomic_store(&eviction->entries[i]->life, ENTRY_LIVE);
    pthread_mutex_unlock(&cache->mutex);
}

/* Looks at the channels without the mutex. The entries cannot die meanwhile: that is for this eviction to do. */
static void revive_in_use(struct app_cache *cache, const struct eviction *eviction) {
    for (size_t i = 0; i < eviction->count; i++)
        if (cache_entry_in_use(cache, eviction->entries[i]))
            atomic_store(&eviction->entries[i]->life, ENTRY_LIVE);
}

/* Every worker has ended a turn since the entries were marked. */
static void confirm_eviction(void *object, void *context) {
    struct eviction *eviction = object;
    struct app_cache *cache = context;
    struct cache_effects effects = {0};

    revive_pinned(cache, eviction);
    revive_in_use(cache, eviction);
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < eviction->count; i++) {
        struct cache_entry *entry = eviction->entries[i];
        enum entry_life life = ENTRY_EVICTING;
        if (!atomic_compare_exchange_strong(&entry->life, &life, ENTRY_DEAD))
            continue;
        records_unlink(&cache->records, entry, &effects.unlinked);
        reclaim_batch_add(&effects.unlinked, entry, entry_free, &cache->records);
    }
    cache->eviction_pending = false;
    cache_capacity_freed(&cache->capacity);
    pthread_mutex_unlock(&cache->mutex);
    cache_effects_run(&effects, &cache->surroundings);
    free(eviction);
}

void cache_evict(struct app_cache *cache, const struct eviction_candidates *candidates, size_t count) {
    struct eviction *eviction = alloc(sizeof *eviction + count * sizeof eviction->entries[0]);

    eviction->count = count;
    for (size_t i = 0; i < count; i++) {
        eviction->entries[i] = candidates->list[i].entry;
        atomic_store(&eviction->entries[i]->life, ENTRY_EVICTING);
    }
    pthread_mutex_lock(&cache->mutex);
    cache->eviction_pending = true;
    pthread_mutex_unlock(&cache->mutex);
    reclaim_defer(&cache->surroundings.reclaimer, eviction, confirm_eviction, cache);
}
