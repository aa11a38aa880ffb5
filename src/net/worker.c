#include "net/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/deflate.h"
#include "net/http.h"
#include "net/stream.h"

#define RECEIVE_BUFFER_BYTES (256 * 1024)
#define EVENTS_PER_WAIT 512

const uint32_t worker_lag_bounds_us[LAG_BUCKETS - 1] = {100, 500, 1000, 5000, 10000, 50000, 250000};

static void mailbox_ready(struct poll_target *target, uint32_t events);
static bool handle_messages(struct worker *worker);
static void *worker_run(void *argument);

static void worker_free(struct worker *worker) {
    if (worker->mailbox.event_fd >= 0)
        mailbox_dispose(&worker->mailbox);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    http_request_free(worker->spare_request);
    deflate_tools_destroy(worker->deflate);
    free(worker->receive_buffer);
    free(worker);
}

/* NULL with errno set. */
static struct worker *worker_create(struct workers *workers, unsigned index) {
    struct worker *worker = alloc_cache_line(sizeof *worker);
    int reason;

    worker->index = index;
    worker->all = workers;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->now_ns = clock_monotonic_ns();
    worker->now_ms = worker->now_ns / 1000000;
    timer_wheel_init(&worker->timers, worker->now_ms);
    list_init(&worker->due);
    list_init(&worker->fan_out);
    list_init(&worker->streams);
    list_init(&worker->corpses);
    worker->receive_capacity = RECEIVE_BUFFER_BYTES;
    worker->receive_buffer = alloc(worker->receive_capacity);
    worker->mailbox_target.ready = mailbox_ready;
    if (mailbox_init(&worker->mailbox) && worker->epoll_fd >= 0 &&
        worker_watch(worker, worker->mailbox.event_fd, EPOLLIN, &worker->mailbox_target))
        return worker;
    reason = errno;
    worker_free(worker);
    errno = reason;
    return NULL;
}

bool workers_create(struct workers *workers, unsigned count, struct error *error) {
    workers->count = workers->started = 0;
    if (count > WORKERS_MAX)
        return error_set(error, "%u workers are asked for, and there can be %d", count, WORKERS_MAX);
    for (unsigned i = 0; i < count; i++) {
        workers->list[i] = worker_create(workers, i);
        if (workers->list[i] == NULL)
            return error_set(error, "worker %u of %u could not be created: %s", i + 1, count, strerror(errno));
        workers->count++;
    }
    return true;
}

bool workers_start(struct workers *workers, struct error *error) {
    sigset_t all, before;
    int code = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (unsigned i = 0; i < workers->count && code == 0; i++) {
        code = pthread_create(&workers->list[i]->thread, NULL, worker_run, workers->list[i]);
        if (code == 0) {
            char name[32];
            workers->started++;
            snprintf(name, sizeof name, "worker-%u", i);
            pthread_setname_np(workers->list[i]->thread, name);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return error_set(error, "a thread for a worker could not be started: %s", strerror(code));
    return true;
}

bool workers_join_within(struct workers *workers, uint64_t timeout_ms) {
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000) + 1;
    for (; workers->started != 0; workers->started--)
        if (pthread_timedjoin_np(workers->list[workers->started - 1]->thread, NULL, &until) != 0)
            return false;
    workers_settle(workers);
    return true;
}

void workers_join(struct workers *workers) {
    for (; workers->started != 0; workers->started--)
        pthread_join(workers->list[workers->started - 1]->thread, NULL);
    workers_settle(workers);
}

void workers_settle(struct workers *workers) {
    bool any;

    do { /* a message may make others */
        any = false;
        for (unsigned i = 0; i < workers->count; i++)
            any = handle_messages(workers->list[i]) || any;
    } while (any);
}

void workers_destroy(struct workers *workers) {
    for (unsigned i = 0; i < workers->count; i++)
        worker_free(workers->list[i]);
    workers->count = 0;
}

void worker_post(struct worker *worker, struct message *message) {
    mailbox_post(&worker->mailbox, message);
    mailbox_wake(&worker->mailbox);
}

void worker_stop(struct worker *worker) {
    worker->stopping = true;
    streams_hurry(worker);
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

static void mailbox_ready(struct poll_target *target, uint32_t events) {
    (void)events;
    mailbox_clear(&container_of(target, struct worker, mailbox_target)->mailbox);
}

/* True if there were any. */
static bool handle_messages(struct worker *worker) {
    struct message *rest = mailbox_take(&worker->mailbox);
    bool any = rest != NULL;

    while (rest != NULL) {
        struct message *message = rest;
        rest = message->next;
        message->handle(worker, message, &rest);
    }
    return any;
}

static void note_lag(struct worker *worker, uint64_t busy_us) {
    struct worker_counters *counters = &worker->counters;
    unsigned bucket = 0;

    while (bucket < LAG_BUCKETS - 1 && busy_us > worker_lag_bounds_us[bucket])
        bucket++;
    counter_add(&counters->turns, 1);
    counter_add(&counters->lag_buckets[bucket], 1);
    counter_add(&counters->lag_sum_us, busy_us);
    counter_max(&counters->lag_max_us, busy_us);
}

static int wait_for_events(struct worker *worker, struct epoll_event *events) {
    int timeout_ms = 0, count;

    if (list_empty(&worker->fan_out) &&
        mailbox_sleep(&worker->mailbox)) /* until the next second at most: timers are lists by second */
        timeout_ms = 1000 - (int)(clock_monotonic_ms() % 1000);
    count = epoll_wait(worker->epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);
    mailbox_awake(&worker->mailbox);
    worker->now_ns = clock_monotonic_ns();
    worker->now_ms = worker->now_ns / 1000000;
    return count < 0 ? 0 : count;
}

static void handle_events(struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        struct poll_target *target = events[i].data.ptr;
        target->ready(target, events[i].events);
    }
}

static void *worker_run(void *argument) {
    struct worker *worker = argument;
    struct epoll_event events[EVENTS_PER_WAIT];

    while (!worker->stopping || worker->stream_count != 0) {
        handle_events(events, wait_for_events(worker, events));
        handle_messages(worker);
        timer_advance(&worker->timers, worker->now_ms);
        streams_flush(worker);
        note_lag(worker, (clock_monotonic_ns() - worker->now_ns) / 1000);
    }
    timer_fire_all(&worker->timers);
    return NULL;
}

struct shared_task {
    struct worker_task task;
    atomic_uint remaining;
};

struct task_message {
    struct message message;
    struct shared_task *shared;
};

static void run_task(struct worker *worker, struct message *message, struct message **rest) {
    struct task_message *own = container_of(message, struct task_message, message);
    struct shared_task *shared = own->shared;

    (void)rest;
    free(own);
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
