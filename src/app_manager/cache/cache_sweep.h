/*
 * The sweep: goes through all entries, a few at a time. Records in use are refreshed before they expire; entries out of
 * use become candidates for eviction.
 */
#pragma once

#include <stdbool.h>

struct app_cache;
struct cache_sweep;

/* For the maintenance thread, which calls all of these. */
struct cache_sweep *cache_sweep_create(struct app_cache *cache);
void cache_sweep_destroy(struct cache_sweep *sweep);
/* Wants a sweep, after the one that may be under way. */
void cache_sweep_begin(struct cache_sweep *sweep);
/* Continues the sweep until it has ended, or so many refreshes are in flight that it has to wait for them; the
 * maintenance thread is then woken. Takes the mutex for a few entries at a time. */
void cache_sweep_continue(struct cache_sweep *sweep);
