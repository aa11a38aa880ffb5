#include "net/worker_loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/thread.h"
#include "net/deflate.h"
#include "net/http.h"
#include "net/stream.h"

#define RECEIVE_BUFFER_BYTES (256 * 1024)
#define EVENTS_PER_WAIT 512
#define PAUSE_CHECK_MS 50

/* --- creating and freeing --- */

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

static void on_mailbox_ready(struct poll_target *target, uint32_t events) {
    (void)events;
    mailbox_clear(&container_of(target, struct worker, mailbox_target)->mailbox);
}

/* Creates a worker; NULL with errno set. */
static struct worker *worker_create(struct workers *workers, unsigned index) {
    struct worker *worker = alloc_cache_line(sizeof *worker);
    int reason;

    worker->index = index;
    worker->all = workers;
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->now_ns = clock_monotonic_ns();
    worker->now_ms = worker->now_ns / 1000000;
    timer_wheel_init(&worker->timers, worker->now_ms);
    list_init(&worker->flush_queue);
    list_init(&worker->fan_out_queue);
    list_init(&worker->streams);
    list_init(&worker->closed);
    list_init(&worker->waiting_http);
    list_init(&worker->pauses);
    worker->receive_capacity = RECEIVE_BUFFER_BYTES;
    worker->receive_buffer = alloc(worker->receive_capacity);
    worker->mailbox_target.ready = on_mailbox_ready;
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
    descriptors_init(&workers->descriptors, count);
    if (count > WORKERS_MAX)
        return error_set(error, "%u workers are too many: there can be %d", count, WORKERS_MAX);
    for (unsigned i = 0; i < count; i++) {
        workers->list[i] = worker_create(workers, i);
        if (workers->list[i] == NULL)
            return error_set(error, "worker %u of %u could not be created: %s", i + 1, count, strerror(errno));
        workers->count++;
    }
    return true;
}

void workers_destroy(struct workers *workers) {
    for (unsigned i = 0; i < workers->count; i++)
        worker_free(workers->list[i]);
    workers->count = 0;
}

/* --- the loop --- */

/* Handles all messages in the mailbox; true if there were any. */
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

static void handle_events(struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        struct poll_target *target = events[i].data.ptr;
        target->ready(target, events[i].events);
    }
}

/* Ends the pauses that have lasted long enough, or all. */
static void end_pauses(struct worker *worker, bool all) {
    struct list *next;

    for (struct list *link = worker->pauses.next; link != &worker->pauses; link = next) {
        struct descriptor_pause *pause = container_of(link, struct descriptor_pause, link);
        next = link->next;
        if (!all && worker->now_ms < pause->until_ms)
            continue;
        list_remove(link);
        pause->over(pause);
    }
}

void worker_turn(struct worker *worker, struct epoll_event *events, int count) {
    uint64_t closed = counter_read(&worker->counters.closed);

    handle_events(events, count);
    handle_messages(worker);
    timer_advance(&worker->timers, worker->now_ms);
    if (worker->settled_s != worker->timers.now_s) {
        worker->settled_s = worker->timers.now_s;
        budget_settle();
    }
    streams_flush(worker);
    if (!list_empty(&worker->pauses))
        end_pauses(worker, counter_read(&worker->counters.closed) != closed);
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

/* Waits for events, at most until the next second: timers fire once a second. A pause is looked at more often. */
static int wait_for_events(struct worker *worker, struct epoll_event *events) {
    int timeout_ms = 0, count;

    if (list_empty(&worker->fan_out_queue) && mailbox_sleep(&worker->mailbox))
        timeout_ms = 1000 - (int)(clock_monotonic_ms() % 1000);
    if (!list_empty(&worker->pauses) && timeout_ms > PAUSE_CHECK_MS)
        timeout_ms = PAUSE_CHECK_MS;
    count = epoll_wait(worker->epoll_fd, events, EVENTS_PER_WAIT, timeout_ms);
    mailbox_awake(&worker->mailbox);
    worker->now_ns = clock_monotonic_ns();
    worker->now_ms = worker->now_ns / 1000000;
    return count < 0 ? 0 : count;
}

static void *run_worker(void *context) {
    struct worker *worker = context;
    struct epoll_event events[EVENTS_PER_WAIT];

    while (!worker->stopping || worker->stream_count != 0) {
        worker_turn(worker, events, wait_for_events(worker, events));
        note_lag(worker, (clock_monotonic_ns() - worker->now_ns) / 1000);
    }
    timer_fire_all(&worker->timers);
    budget_settle();
    return NULL;
}

void worker_stop(struct worker *worker) {
    worker->stopping = true;
    streams_shorten_timeouts(worker);
}

/* --- the threads --- */

bool workers_start(struct workers *workers, struct error *error) {
    for (unsigned i = 0; i < workers->count; i++) {
        char name[16];
        snprintf(name, sizeof name, "worker-%u", i % WORKERS_MAX);
        if (!thread_start(&workers->list[i]->thread, name, run_worker, workers->list[i], error))
            return false;
        workers->started++;
    }
    return true;
}

bool workers_join_within(struct workers *workers, uint64_t timeout_ms) {
    uint64_t until_ns = clock_monotonic_ns() + timeout_ms * UINT64_C(1000000);

    for (; workers->started != 0; workers->started--)
        if (!thread_join_until(workers->list[workers->started - 1]->thread, until_ns))
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

    do { /* a message may post others */
        any = false;
        for (unsigned i = 0; i < workers->count; i++)
            any = handle_messages(workers->list[i]) || any;
    } while (any);
}
