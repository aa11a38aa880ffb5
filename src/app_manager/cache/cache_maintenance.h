/*
 * The maintenance thread: ends what waits too long for the store, probes a store that has an outage, sweeps the
 * entries and cleans up negative ones.
 *
 * It wakes ten times a second while something waits for the store or an outage lasts; else for the next sweep, once a
 * second or, with a short TTL, ten times in it.
 */
#pragma once

/* Runs until cache->stopping is set and the thread is woken; `cache` is a struct app_cache. */
void *cache_maintenance_run(void *cache);
