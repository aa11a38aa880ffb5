#include "net/reclaim.h"

#include <stdlib.h>

#include "base/alloc.h"

struct deferred {
    struct deferred *next;
    void *object;
    void (*free_object)(void *object, void *context);
    void *context;
};

static void free_batch(struct deferred *batch) {
    while (batch != NULL) {
        struct deferred *next = batch->next;
        batch->free_object(batch->object, batch->context);
        free(batch);
        batch = next;
    }
}

void reclaimer_init(struct reclaimer *reclaimer, struct workers *workers) {
    *reclaimer = (struct reclaimer){.workers = workers};
    pthread_mutex_init(&reclaimer->mutex, NULL);
}

void reclaimer_dispose(struct reclaimer *reclaimer) {
    reclaimer->ended = true;
    free_batch(reclaimer->held);
    free_batch(reclaimer->batch);
    free_batch(reclaimer->next_batch);
    pthread_mutex_destroy(&reclaimer->mutex);
}

/* Does nothing: that it runs shows that the worker's earlier turn has ended. */
static void note_turn(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void end_grace_period(void *context);

static void begin_grace_period(struct reclaimer *reclaimer) {
    workers_run_on_all(reclaimer->workers,
                       &(struct worker_task){.run = note_turn, .finished = end_grace_period, .context = reclaimer});
}

static void append_batch(struct deferred **list, struct deferred *batch) {
    while (*list != NULL)
        list = &(*list)->next;
    *list = batch;
}

static void end_grace_period(void *context) {
    struct reclaimer *reclaimer = context;
    struct deferred *unused;
    bool more;

    pthread_mutex_lock(&reclaimer->mutex);
    unused = reclaimer->batch;
    if (reclaimer->readers != 0) {
        append_batch(&unused, reclaimer->held);
        reclaimer->held = unused;
        unused = NULL;
    }
    reclaimer->batch = reclaimer->next_batch;
    reclaimer->next_batch = NULL;
    more = reclaimer->batch != NULL;
    pthread_mutex_unlock(&reclaimer->mutex);
    if (more)
        begin_grace_period(reclaimer);
    free_batch(unused);
}

void reclaim_batch_add(struct reclaim_batch *batch, void *object, void (*free_object)(void *object, void *context),
                       void *context) {
    struct deferred *deferred;

    if (object == NULL)
        return;
    deferred = alloc(sizeof *deferred);
    *deferred =
        (struct deferred){.next = batch->first, .object = object, .free_object = free_object, .context = context};
    batch->first = deferred;
    if (batch->last == NULL)
        batch->last = deferred;
}

static void free_memory(void *object, void *context) {
    (void)context;
    free(object);
}

void reclaim_batch_add_memory(struct reclaim_batch *batch, void *memory) {
    reclaim_batch_add(batch, memory, free_memory, NULL);
}

void reclaim_batch_free(struct reclaim_batch *batch) {
    free_batch(batch->first);
    *batch = (struct reclaim_batch){0};
}

void reclaim_batch_defer(struct reclaimer *reclaimer, struct reclaim_batch *batch) {
    bool idle;

    if (batch->first == NULL)
        return;
    if (reclaimer->ended) {
        reclaim_batch_free(batch);
        return;
    }
    pthread_mutex_lock(&reclaimer->mutex);
    idle = reclaimer->batch == NULL;
    if (idle) {
        reclaimer->batch = batch->first;
    } else {
        batch->last->next = reclaimer->next_batch;
        reclaimer->next_batch = batch->first;
    }
    pthread_mutex_unlock(&reclaimer->mutex);
    *batch = (struct reclaim_batch){0};
    if (idle)
        begin_grace_period(reclaimer);
}

void reclaim_defer(struct reclaimer *reclaimer, void *object, void (*free_object)(void *object, void *context),
                   void *context) {
    struct reclaim_batch batch = {0};

    reclaim_batch_add(&batch, object, free_object, context);
    reclaim_batch_defer(reclaimer, &batch);
}

void reclaim_free(struct reclaimer *reclaimer, void *memory) {
    reclaim_defer(reclaimer, memory, free_memory, NULL);
}

void reclaim_read_begin(struct reclaimer *reclaimer) {
    pthread_mutex_lock(&reclaimer->mutex);
    reclaimer->readers++;
    pthread_mutex_unlock(&reclaimer->mutex);
}

void reclaim_read_end(struct reclaimer *reclaimer) {
    struct deferred *unused = NULL;

    pthread_mutex_lock(&reclaimer->mutex);
    if (--reclaimer->readers == 0) {
        unused = reclaimer->held;
        reclaimer->held = NULL;
    }
    pthread_mutex_unlock(&reclaimer->mutex);
    free_batch(unused);
}
