/*
 * Deferred reclamation: memory that workers may still read is freed after a grace period.
 *
 * Workers read shared tables and records without a lock, within one turn of their loop. Code that unlinks an object
 * from such a table defers its freeing here. Objects are freed in batches: a batch is freed when every worker has ended
 * the turn that it was in when the batch was closed (quiescent-state-based reclamation).
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "net/worker.h"

struct deferred;

struct reclaimer {
    struct workers *workers;
    pthread_mutex_t mutex;
    struct deferred *next_batch; /* objects deferred since the grace period began */
    struct deferred *batch;      /* the batch in its grace period; NULL: none */
    /* Objects after their grace period, kept because other threads are reading. */
    struct deferred *held;
    /* Number of threads between reclaim_read_begin and reclaim_read_end. */
    unsigned readers;
    bool ended; /* all workers have ended: free at once */
};

/* Initialises a reclaimer for these workers, which must outlive it. */
void reclaimer_init(struct reclaimer *reclaimer, struct workers *workers);

/* Frees all deferred objects; later objects are freed at once. Call it when the workers have ended and their mailboxes
 * are empty. */
void reclaimer_dispose(struct reclaimer *reclaimer);

/*
 * Calls `free_object(object, context)` after the grace period, on the thread of the last worker to end its turn or of
 * the last reader; at once after reclaimer_dispose. A NULL object is ignored. Callable from any thread; locks that the
 * caller holds must not be taken by `free_object`.
 */
void reclaim_defer(struct reclaimer *reclaimer, void *object, void (*free_object)(void *object, void *context),
                   void *context);

/* The same with free(), for memory from alloc(). */
void reclaim_free(struct reclaimer *reclaimer, void *memory);

/* Begin and end a read section of a thread that is not a worker: objects that it can find in shared tables are not
 * freed until it ends. Deferred memory accumulates meanwhile, so the thread must not block for long. */
void reclaim_read_begin(struct reclaimer *reclaimer);
void reclaim_read_end(struct reclaimer *reclaimer);

/*
 * A batch of objects to defer together; {0} is an empty one. Code that unlinks objects under a lock collects them in a
 * batch and defers it after the lock is released, since reclaim_defer takes a lock of its own and wakes the workers.
 */
struct reclaim_batch {
    struct deferred *first, *last;
};

/* Add an object, as for reclaim_defer, or memory, as for reclaim_free. They take no lock. */
void reclaim_batch_add(struct reclaim_batch *batch, void *object, void (*free_object)(void *object, void *context),
                       void *context);
void reclaim_batch_add_memory(struct reclaim_batch *batch, void *memory);

/* Defers all objects of the batch and empties it. Callable from any thread. */
void reclaim_batch_defer(struct reclaimer *reclaimer, struct reclaim_batch *batch);

/* Frees all objects of the batch at once and empties it, for a caller that knows that no thread reads them. */
void reclaim_batch_free(struct reclaim_batch *batch);
