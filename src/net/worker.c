#include "net/worker.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include "base/alloc.h"
#include "base/clock.h"

const uint32_t worker_lag_bounds_us[LAG_BUCKETS - 1] = {100, 500, 1000, 5000, 10000, 50000, 250000};

void worker_post(struct worker *worker, struct message *message) {
    mailbox_post(&worker->mailbox, message);
    mailbox_wake(&worker->mailbox);
}

bool worker_watch(struct worker *worker, int fd, uint32_t events, struct poll_target *target) {
    struct epoll_event event = {.events = events, .data.ptr = target};

    return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void worker_rewatch(struct worker *worker, int fd, uint32_t events, struct poll_target *target) {
    struct epoll_event event = {.events = events, .data.ptr = target};

    epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

void worker_unwatch(struct worker *worker, int fd) {
    epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void worker_read_clock(struct worker *worker) {
    worker->turn_work = 0;
    if (!worker->turn_over && worker->turn_ends_ns != UINT64_MAX)
        worker->turn_over = clock_monotonic_ns() >= worker->turn_ends_ns;
}

void worker_begin_part(struct worker *worker) {
    if (!worker->turn_over)
        return;
    worker->turn_over = false;
    worker->turn_work = 0;
    worker->turn_ends_ns = clock_monotonic_ns() + TURN_PART_US * UINT64_C(1000);
}

void worker_forget(struct worker *worker, const struct poll_target *target) {
    for (unsigned i = worker->ready_at; i < worker->ready_count; i++)
        if (worker->ready[i].data.ptr == target)
            worker->ready[i].data.ptr = NULL;
}

void worker_pause(struct worker *worker, struct descriptor_pause *pause, uint64_t delay_ms) {
    pause->until_ms = worker->now_ms + delay_ms;
    list_append(&worker->pauses, &pause->link);
}

/* A task posted to all workers; the last worker to run it frees it. */
struct shared_task {
    struct worker_task task;
    atomic_uint remaining;
};

struct task_message {
    struct message message;
    struct shared_task *shared;
};

static void run_task(struct worker *worker, struct message *message, struct message **rest) {
    struct task_message *task = container_of(message, struct task_message, message);
    struct shared_task *shared = task->shared;

    (void)rest;
    free(task);
    shared->task.run(worker, shared->task.context);
    if (atomic_fetch_sub(&shared->remaining, 1) == 1) {
        if (shared->task.finished != NULL)
            shared->task.finished(shared->task.context);
        free(shared);
    }
}

void workers_run_on_all(struct workers *workers, const struct worker_task *task) {
    struct shared_task *shared = alloc(sizeof *shared);

    shared->task = *task;
    atomic_init(&shared->remaining, workers->count);
    for (unsigned i = 0; i < workers->count; i++) {
        struct task_message *message = alloc(sizeof *message);
        *message = (struct task_message){{NULL, run_task}, shared};
        worker_post(workers->list[i], &message->message);
    }
}
