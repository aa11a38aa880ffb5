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
