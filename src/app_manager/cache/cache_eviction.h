/*
 * Eviction: entries out of use that have to go are chosen by a sweep, marked, and freed when no worker has used them
 * for a turn.
 *
 *   sweep: candidates --- choose ---> ENTRY_EVICTING --- every worker has ended a turn ---> ENTRY_DEAD, unlinked, freed
 *                                          \--- used or pinned meanwhile ---> ENTRY_LIVE
 *
 * One eviction is pending at a time, and entries die by it only: an entry that was found to be live stays allocated as
 * long as the thread that begins evictions does not begin the next one.
 */
#pragma once

#include "app_manager/cache/cache_record.h"

struct app_cache;

struct eviction_candidate {
    struct cache_entry *entry;
    uint64_t used_ms; /* 0: expired, goes first */
};

/* Entries that are out of use. */
struct eviction_candidates {
    struct eviction_candidate *list;
    size_t count, allocated;
    size_t expired; /* of these, entries that have to go whatever the capacity */
};

/* Adds an entry that a worker last used at `used_ms`. */
void eviction_add(struct eviction_candidates *candidates, struct cache_entry *entry, uint64_t used_ms, bool expired);
/* Brings the entries that have to go to the front of the list, and returns how many: the expired, and the least
 * recently used of those beyond the capacity. */
size_t eviction_choose(struct eviction_candidates *candidates, size_t capacity);
void eviction_dispose(struct eviction_candidates *candidates);

/* True if the app has connections, or a channel that keeps an event. Takes locks of the channels: without the cache's
 * mutex. */
bool cache_entry_in_use(const struct app_cache *cache, const struct cache_entry *entry);

/* Marks the first `count` candidates and evicts them after the grace period. On the thread that sweeps, without the
 * mutex, while no eviction is pending. */
void cache_evict(struct app_cache *cache, const struct eviction_candidates *candidates, size_t count);
