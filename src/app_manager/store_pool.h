/*
 * The pool: threads that each own one connection to the store and run operations on it, one at a time.
 *
 *   submit --> queue: urgent | known | unknown --> an idle thread, or a new one up to `max` --> run --> finished
 *
 * Names never seen have the lowest priority, and more than a thousand of them are rejected: made-up names never keep
 * real apps waiting.
 *
 * Every operation ends at its deadline, in the queue or on a connection. A connection on which the store could not be
 * asked is replaced, with back-off. A read that fails on a connection opened before is repeated once on a new one,
 * since the server may have closed the old one while it was idle. While no connection can be opened, operations fail at
 * once with the error of the last attempt.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app_manager/store_queue.h"
#include "store/store.h"

#define STORE_UNKNOWN_WAITING_MAX 1000

#define STORE_STOP_MS 5000 /* the longest time to wait for threads that end */

struct store_pool;

struct store_pool_settings {
    struct app_store *store;
    /* Connections to keep, and the most there may be; max is at least 1. */
    uint32_t min, max;
    uint32_t timeout_ms;
    /* A connection above `min` is closed after so long without work. */
    uint32_t idle_ms;
    /* The store has been prepared and answers. On a thread of the pool, once. False with an error: it counts as not
     * prepared, and this is called again after the next attempt. */
    bool (*prepared)(void *context, struct store_connection *connection, int cancel_fd, struct error *error);
    /* There is no connection, and an attempt to open one failed. On a thread of the pool, after each such attempt. */
    void (*unreachable)(void *context, const struct error *error);
    void *context;
};

#define STORE_LATENCY_BUCKETS 10
extern const uint32_t store_latency_bounds_us[STORE_LATENCY_BUCKETS - 1];

/* A snapshot of the pool for the metrics page. */
struct store_pool_stats {
    unsigned connections; /* open */
    unsigned busy;        /* of these in use */
    unsigned waiting[STORE_PRIORITY_COUNT];
    uint64_t rejected; /* names never seen, beyond those that may wait */
    /* Of operations that ran or waited too long; the wait is included. */
    uint64_t latency[STORE_LATENCY_BUCKETS];
    uint64_t latency_sum_us;
    uint64_t failures; /* operations that ended with STORE_UNAVAILABLE */
};

/* Opens no connection yet. The settings are copied. */
struct store_pool *store_pool_create(const struct store_pool_settings *settings);
/* Starts the first threads, which retry until the store answers. A thread that cannot be started is logged; it is tried
 * again when an operation needs it. */
void store_pool_start(struct store_pool *pool);
/* Ends every operation and thread. Queued operations are finished with STORE_UNAVAILABLE. False if a thread hangs in
 * the operating system and has not ended after STORE_STOP_MS: nothing that it uses may be freed then. */
bool store_pool_stop(struct store_pool *pool);
void store_pool_destroy(struct store_pool *pool);

/* Queues an operation with its priority, run and finished set; its deadline is `timeout_ms` from now (0: the pool's
 * setting). `finished` may be called before this returns: when the pool stops, the store is unreachable, too many wait
 * or no thread could be started at all. Any thread; the caller holds no lock that `finished` takes. */
void store_pool_submit(struct store_pool *pool, struct store_operation *operation, uint32_t timeout_ms);

/* Finishes queued operations whose deadline has passed; to be called several times a second while operations wait.
 * True if some still do. */
bool store_pool_expire(struct store_pool *pool);

void store_pool_read_stats(struct store_pool *pool, struct store_pool_stats *stats);

/* Readable when the pool stops. */
int store_pool_stop_fd(const struct store_pool *pool);
