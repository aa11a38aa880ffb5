/*
 * The pool: threads that each own one connection to the store and do what is asked of it, one operation at a time.
 *
 *   submit --> queue: urgent | known | unknown --> an idle thread, or a new one up to the most --> run --> finished
 *
 * `urgent` are writes and health checks, `known` what concerns apps that were found before, `unknown` names that nobody
 * has seen: made-up names never keep real apps waiting, and beyond a thousand of them are turned away.
 *
 * Every operation ends at its deadline, in the queue or on a connection. A connection on which the store could not be
 * asked is replaced, with back-off; a read that fails on a connection that was there before is done once more on a new
 * one, since the other side may have closed it while it was idle. While no connection can be had, operations fail at
 * once with what the last attempt said.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "store/store.h"

#define STORE_UNKNOWN_WAITING_MAX 1000

#define STORE_END_MS 5000

struct store_pool;

enum store_priority { STORE_URGENT, STORE_KNOWN, STORE_UNKNOWN, STORE_PRIORITY_COUNT };

struct store_operation {
    struct list link; /* in the queue */
    enum store_priority priority;
    bool repeatable; /* nothing is written: may be done again on another connection */
    uint64_t began_ns;
    bool asked; /* it came to a connection, or an attempt to open one: its answer is the store's */
    uint64_t deadline_ns;
    /* Asks the store. On a thread of the pool. */
    enum store_answer (*run)(struct store_operation *operation, const struct app_store_driver *driver,
                             struct store_connection *connection, const struct deadline *deadline, struct error *error);
    /* Once, with the answer; the operation is then the submitter's again. On a thread of the pool, or on that of
     * store_pool_submit or store_pool_expire. */
    void (*finished)(struct store_operation *operation, enum store_answer answer, const struct error *error);
};

struct store_pool_settings {
    const struct app_store_driver *driver;
    struct app_store *store;
    uint32_t min, max; /* connections that are kept, and that there can be; max is at least 1 */
    uint32_t timeout_ms;
    uint32_t idle_ms; /* a connection above the least is closed after so long without work */
    /* The store has been prepared and answers; on a thread of the pool, once. After false with an error it is not
     * prepared yet. */
    bool (*prepared)(void *context, struct store_connection *connection, int cancel_fd, struct error *error);
    /* There is no connection, and an attempt to open one failed; on a thread of the pool, after each such attempt. */
    void (*unreachable)(void *context, const struct error *error);
    void *context;
};

#define STORE_LATENCY_BUCKETS 10
extern const uint32_t store_latency_bounds_us[STORE_LATENCY_BUCKETS - 1];

/* A picture of the pool for the metrics page. */
struct store_pool_status {
    unsigned connections; /* open */
    unsigned busy;        /* of these in use */
    unsigned waiting[STORE_PRIORITY_COUNT];
    uint64_t turned_away;                    /* unknown names beyond those that may wait */
    uint64_t latency[STORE_LATENCY_BUCKETS]; /* of what was run or waited too long, the wait included */
    uint64_t latency_sum_us;
    uint64_t failures; /* operations that ended with STORE_UNAVAILABLE */
};

/* Opens no connection yet. The settings are copied. */
struct store_pool *store_pool_create(const struct store_pool_settings *settings);
/* Starts the first threads; without the store they go on trying. */
void store_pool_start(struct store_pool *pool);
/* Ends every operation and thread. Those that waited are finished with STORE_UNAVAILABLE. False if a thread has not
 * ended after STORE_END_MS, since it hangs in the operating system: nothing that it uses may be freed then. */
bool store_pool_stop(struct store_pool *pool);
void store_pool_destroy(struct store_pool *pool);

/* Hands over an operation with its priority, run and finished set; its deadline is `timeout_ms` from now (0: the pool's
 * setting). `finished` may be called before this returns. Any thread, no lock held that `finished` takes. */
void store_pool_submit(struct store_pool *pool, struct store_operation *operation, uint32_t timeout_ms);

/* Finishes what has waited beyond its deadline. To be called several times a second. */
void store_pool_expire(struct store_pool *pool);

void store_pool_look(struct store_pool *pool, struct store_pool_status *status);

/* Readable when the pool stops. */
int store_pool_stop_fd(const struct store_pool *pool);
