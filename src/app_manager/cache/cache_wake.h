/*
 * Waking the maintenance thread. It sleeps for a tick while something waits for the store, and longer while nothing
 * does. All members are guarded by the cache's mutex.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct cache_wake {
    pthread_cond_t condition;
    bool sweep_wanted;    /* do not wait for the next interval */
    uint64_t sweep_at_ms; /* a sweep is wanted then; 0: at the next interval */
    bool work_waits;      /* something new waits for the store */
    bool sleeps_long;     /* the thread sleeps for more than a tick */
};

void cache_wake_init(struct cache_wake *wake);
void cache_wake_dispose(struct cache_wake *wake);

/* Wants a sweep at once. */
void cache_wake_for_sweep(struct cache_wake *wake);
/* Wants a sweep at that time. */
void cache_wake_for_sweep_at(struct cache_wake *wake, uint64_t at_ms);
/* Wants ticks from now on: a query was submitted, which may have to be ended in time. */
void cache_wake_for_work(struct cache_wake *wake);
