/*
 * Deferred reclamation: memory that workers may still read is freed after a grace period.
 *
 * Workers read shared tables and records without a lock, within one turn of their loop. Code that unlinks an object
 * from such a table defers its freeing here. Objects are freed in batches: a batch goes when every worker has ended the
 * turn that it was in when the batch was closed (quiescent-state-based reclamation).
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "net/worker.h"

struct deferred;

struct reclaimer {
    struct workers *workers;
    pthread_mutex_t mutex;
    struct deferred *next_batch; /* deferred since the grace period began */
    struct deferred *batch;      /* in its grace period; NULL: none is */
    struct deferred *held;       /* after its grace period, but other threads read */
    unsigned readers;            /* threads between reclaim_read_begin and reclaim_read_end */
    bool ended;                  /* all workers have ended: free at once */
};

void reclaimer_init(struct reclaimer *reclaimer, struct workers *workers);

/* Frees what is still deferred; later objects are freed at once. Call it when the workers have ended and their
 * mailboxes are empty. */
void reclaimer_dispose(struct reclaimer *reclaimer);

/*
 * Calls `free_object(object, context)` after the grace period, on the thread of the last worker to end its turn. A NULL
 * object is ignored. Callable from any thread; locks that the caller holds must not be taken by `free_object`.
 */
void reclaim_defer(struct reclaimer *reclaimer, void *object, void (*free_object)(void *object, void *context),
                   void *context);

/* The same with free(), for memory from alloc(). */
void reclaim_free(struct reclaimer *reclaimer, void *memory);

/* Between these a thread that is no worker may read shared tables, too: nothing that it can find is freed. Meanwhile
 * deferred memory accumulates, so do not block for long. */
void reclaim_read_begin(struct reclaimer *reclaimer);
void reclaim_read_end(struct reclaimer *reclaimer);

/*
 * Objects to be deferred together. Code that unlinks objects under a lock collects them here and hands them over when
 * the lock is released: reclaim_defer takes a lock of its own and wakes the workers. {0} is an empty batch.
 */
struct reclaim_batch {
    struct deferred *first, *last;
};

/* Adds an object, as for reclaim_defer. Takes no lock. */
void reclaim_batch_add(struct reclaim_batch *batch, void *object, void (*free_object)(void *object, void *context),
                       void *context);
void reclaim_batch_add_memory(struct reclaim_batch *batch, void *memory);

/* Defers all objects of the batch, and leaves it empty. */
void reclaim_batch_defer(struct reclaimer *reclaimer, struct reclaim_batch *batch);

/* Frees all objects of the batch at once, for a caller that knows of no reader, and leaves it empty. */
void reclaim_batch_free(struct reclaim_batch *batch);
