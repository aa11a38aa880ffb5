/*
 * Back-pressure on new entries: threads of the pool that add entries faster than the sweep evicts them wait a while.
 * Guarded by the cache's mutex.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "app_manager/cache/cache_record.h"

struct cache_capacity {
    const struct records *records;
    pthread_cond_t freed; /* entries were evicted, or found to be in use */
    /* Entries that do not count against the capacity, as of the last sweep. */
    size_t in_use;
    bool stopping; /* nothing waits any more */
};

void cache_capacity_init(struct cache_capacity *capacity, const struct records *records);
void cache_capacity_dispose(struct cache_capacity *capacity);

/* Waits while there are too many entries, for a second at most. With the mutex held, which is released meanwhile; on a
 * thread of the pool. */
void cache_capacity_wait(struct cache_capacity *capacity, pthread_mutex_t *mutex);

/* Entries were evicted. */
void cache_capacity_freed(struct cache_capacity *capacity);
/* A sweep has found so many entries in use. */
void cache_capacity_set_in_use(struct cache_capacity *capacity, size_t in_use);
/* The cache stops. */
void cache_capacity_stop(struct cache_capacity *capacity);
