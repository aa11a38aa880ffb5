/*
 * Operations on the store, and the queue in which they wait for a connection: by priority, then in order of arrival.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "store/store.h"

enum store_priority {
    STORE_URGENT,  /* writes and health checks */
    STORE_KNOWN,   /* reads of apps that were found before */
    STORE_UNKNOWN, /* names never seen, which anyone can make up */
    STORE_PRIORITY_COUNT,
};

/* One operation. The submitter embeds it and keeps it alive until `finished` is called. */
struct store_operation {
    struct list link; /* in the queue */
    enum store_priority priority;
    bool repeatable; /* writes nothing: may be done again on another connection */
    uint64_t began_ns;
    /* Came to a connection, or to an attempt to open one: the answer tells about the store. */
    bool asked;
    uint64_t deadline_ns;
    /* Asks the store. On a thread of the pool. */
    enum store_answer (*run)(struct store_operation *operation, struct store_connection *connection,
                             struct error *error);
    /* Called once, with the answer; the operation is then the submitter's again. On a thread of the pool, or on the
     * thread that called store_pool_submit or store_pool_expire. */
    void (*finished)(struct store_operation *operation, enum store_answer answer, const struct error *error);
};

/* Not thread-safe: the pool's mutex guards it. */
struct store_queue {
    struct list waiting[STORE_PRIORITY_COUNT];
    unsigned counts[STORE_PRIORITY_COUNT];
};

void store_queue_init(struct store_queue *queue);
unsigned store_queue_count(const struct store_queue *queue);
void store_queue_append(struct store_queue *queue, struct store_operation *operation);
/* Removes and returns the first operation of the highest priority; NULL if none waits. */
struct store_operation *store_queue_take(struct store_queue *queue);
/* Moves all operations to the list `taken`. */
void store_queue_take_all(struct store_queue *queue, struct list *taken);
/* Moves the operations whose deadline has passed to the list `expired`. */
void store_queue_take_expired(struct store_queue *queue, uint64_t now_ns, struct list *expired);
