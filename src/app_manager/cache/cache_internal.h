/*
 * The cache's structure, built of parts that have files of their own.
 *
 * Parts, each with functions on itself only; from the bottom up:
 *   cache_settings   settings in the units used here      cache_wake       waking the maintenance thread
 *   cache_write_log  recent writes                        cache_health     the store's health
 *   cache_negative   negative entries                     cache_effects    what waits for the mutex to be released
 *   cache_record     records that were found              cache_fetch      queries in flight
 *   cache_capacity   back-pressure on new entries         cache_counters   lookups by how they were answered
 *   cache_unknown    a bound on names never found
 *
 * What acts on several parts, from the bottom up:
 *   cache_outage       answers enter the store's health; outages are logged and probed
 *   cache_removal      apps that the store does not have any more
 *   cache_answer       the store's answers enter the cache
 *   cache_invalidate   writes and notices of changes
 *   cache_eviction     choosing entries out of use, and freeing them when no worker uses them
 *   cache_sweep        refreshing entries in use, finding those out of use
 *   cache_watch        the thread that learns of changes in the store
 *   cache_snapshot     the thread that keeps what is known in a file (snapshot_file, snapshot_format)
 *   cache_maintenance  the thread for timeouts, sweeps, clean-up and probes
 *   cache              lookups; start and end
 *
 * The mutex guards the parts, but for what workers read in the tables. Under it no other lock is taken, nothing is
 * logged or posted, and nothing is freed that a worker may read: cache_effects_run, fetch_post and store_pool_submit do
 * that after it was released. Memory that only the mutex's holder reads, as of the write log, is allocated and freed
 * under it.
 */
#pragma once

#include <pthread.h>

#include "app_manager/cache/cache_capacity.h"
#include "app_manager/cache/cache_effects.h"
#include "app_manager/cache/cache_fetch.h"
#include "app_manager/cache/cache_health.h"
#include "app_manager/cache/cache_negative.h"
#include "app_manager/cache/cache_record.h"
#include "app_manager/cache/cache_snapshot.h"
#include "app_manager/cache/cache_unknown.h"
#include "app_manager/cache/cache_write_log.h"
#include "app_manager/store_pool.h"

#define CACHE_TICK_MS 100 /* of the maintenance thread while something waits for the store */

struct app_cache {
    const struct config *config;
    const struct app_store_driver *driver;
    struct app_store *store;
    struct app_defaults defaults;
    struct cache_settings settings;
    struct store_pool *pool;
    struct cache_surroundings surroundings;

    pthread_mutex_t mutex;
    struct cache_wake wake;
    struct records records;
    struct negatives negatives;
    struct unknown_names unknown;
    struct fetches fetches;
    struct write_log writes;
    struct store_health health;
    struct cache_capacity capacity;
    bool eviction_pending; /* entries are ENTRY_EVICTING */
    bool stopping;

    struct store_operation probe; /* while health.probing */
    pthread_t maintenance_thread, watch_thread;
    bool maintenance_runs, watch_runs;
    struct cache_snapshot snapshot;

    struct lookup_counters counters[WORKERS_MAX];
};
