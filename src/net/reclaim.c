#include "net/reclaim.h"

#include <stdlib.h>

#include "base/alloc.h"

struct retired {
    struct retired *next;
    void *object;
    void (*leave)(void *object, void *context);
    void *context;
};

static void leave_all(struct retired *retired) {
    while (retired != NULL) {
        struct retired *next = retired->next;
        retired->leave(retired->object, retired->context);
        free(retired);
        retired = next;
    }
}

void retirement_init(struct retirement *retirement, struct workers *workers) {
    *retirement = (struct retirement){.workers = workers};
    pthread_mutex_init(&retirement->mutex, NULL);
}

void retirement_dispose(struct retirement *retirement) {
    retirement->ended = true;
    leave_all(retirement->leaving);
    leave_all(retirement->waiting);
    pthread_mutex_destroy(&retirement->mutex);
}

static void nothing(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void round_ended(void *context);

static void start_round(struct retirement *retirement) {
    workers_run_on_all(retirement->workers,
                       &(struct worker_task){.run = nothing, .finished = round_ended, .context = retirement});
}

static void round_ended(void *context) {
    struct retirement *retirement = context;
    struct retired *left;
    bool more;

    pthread_mutex_lock(&retirement->mutex);
    left = retirement->leaving;
    retirement->leaving = retirement->waiting;
    retirement->waiting = NULL;
    more = retirement->leaving != NULL;
    pthread_mutex_unlock(&retirement->mutex);
    if (more)
        start_round(retirement);
    leave_all(left);
}

void retire(struct retirement *retirement, void *object, void (*leave)(void *object, void *context), void *context) {
    struct retired *retired;
    bool start;

    if (object == NULL)
        return;
    if (retirement->ended) {
        leave(object, context);
        return;
    }
    retired = alloc(sizeof *retired);
    *retired = (struct retired){.object = object, .leave = leave, .context = context};
    pthread_mutex_lock(&retirement->mutex);
    start = retirement->leaving == NULL;
    if (start) {
        retirement->leaving = retired;
    } else {
        retired->next = retirement->waiting;
        retirement->waiting = retired;
    }
    pthread_mutex_unlock(&retirement->mutex);
    if (start)
        start_round(retirement);
}

static void free_memory(void *object, void *context) {
    (void)context;
    free(object);
}

void retire_memory(struct retirement *retirement, void *memory) {
    retire(retirement, memory, free_memory, NULL);
}
