/*
 * Memory that workers may still be looking at, freed when none of them can be any more.
 *
 * Workers read shared tables and records without a lock, within one turn of their loop. What is taken out of such a
 * table is handed over here; once every worker has ended the turn in which it could have seen it, it is freed.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "net/worker.h"

struct retired;

struct retirement {
    struct workers *workers;
    pthread_mutex_t mutex;
    struct retired *waiting; /* for the next round */
    struct retired *leaving; /* the round that goes through the workers; NULL: none does */
    bool ended;              /* no worker looks at anything any more */
};

void retirement_init(struct retirement *retirement, struct workers *workers);

/* Frees at once what still waits, and what comes from then on. The workers have ended, and their messages are handled.
 */
void retirement_dispose(struct retirement *retirement);

/*
 * Calls `leave(object, context)` after every worker has ended a turn, on the last one's thread. Any thread, any lock of
 * the caller's held that `leave` does not take on this thread. NULL objects are ignored.
 */
void retire(struct retirement *retirement, void *object, void (*leave)(void *object, void *context), void *context);

/* For memory from alloc(). */
void retire_memory(struct retirement *retirement, void *memory);
