#include "net/worker_loop.h"

#include <errno.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/malloc_setup.h"
#include "base/thread.h"
#include "net/deflate.h"
#include "net/http.h"
#include "net/stream.h"

#define PAUSE_CHECK_MS 50
#define MESSAGE_WORK 512 /* of a message in the mailbox, apart from what its handler counts */
#define TIMER_WORK 512   /* of a timer that fires, in the same way */

/* --- creating and freeing --- */

static void worker_free(struct worker *worker) {
    if (worker->mailbox.event_fd >= 0)
        mailbox_dispose(&worker->mailbox);
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    http_request_free(worker->spare_request);
    backlog_dispose(&worker->backlog);
    buffer_dispose(&worker->answer);
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
    worker->turn_ends_ns = UINT64_MAX;
    timer_wheel_init(&worker->timers, worker->now_ms);
    list_init(&worker->flush_queue);
    list_init(&worker->fan_out_queue);
    list_init(&worker->streams);
    list_init(&worker->closed);
    for (unsigned wait = 0; wait < HTTP_WAIT_COUNT; wait++)
        list_init(&worker->waiting_http[wait]);
    list_init(&worker->pauses);
    worker->receive_capacity = INPUT_BYTES_PER_TURN;
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
    workers->addresses = NULL;
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

/* Its handler may take more messages, those that follow. */
static void handle_next_message(struct worker *worker, struct message *message) {
    worker->messages = message->next;
    worker_spend(worker, MESSAGE_WORK);
    message->handle(worker, message, &worker->messages);
}

/* Handles the messages that are left from the last turn, or those in the mailbox, while the turn has time. True if
 * there were any. */
static bool handle_messages(struct worker *worker) {
    bool any;

    if (worker->messages == NULL)
        worker->messages = mailbox_take(&worker->mailbox);
    any = worker->messages != NULL;
    while (worker->messages != NULL && !worker->turn_over)
        handle_next_message(worker, worker->messages);
    return any;
}

static void handle_events(struct worker *worker) {
    while (worker->ready_at < worker->ready_count && !worker->turn_over) {
        const struct epoll_event *event = &worker->ready[worker->ready_at++];
        struct poll_target *target = event->data.ptr;
        if (target != NULL)
            target->ready(target, event->events);
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

/* Many connections may time out in the same second. */
static void fire_worker_timers(struct worker *worker) {
    timer_advance(&worker->timers, worker->now_ms);
    if (list_empty(&worker->timers.due))
        return;
    worker_begin_part(worker);
    while (!worker->turn_over && timer_fire_next(&worker->timers))
        worker_spend(worker, TIMER_WORK);
}

unsigned worker_poll(struct worker *worker, int timeout_ms) {
    int count;

    if (worker->ready_at < worker->ready_count)
        return worker->ready_count - worker->ready_at;
    count = epoll_wait(worker->epoll_fd, worker->ready, WORKER_EVENTS, timeout_ms);
    worker->ready_at = 0;
    worker->ready_count = count < 0 ? 0 : (unsigned)count;
    return worker->ready_count;
}

bool worker_has_work(const struct worker *worker) {
    return worker->ready_at < worker->ready_count || worker->backlog.length != 0 || worker->messages != NULL ||
           !list_empty(&worker->timers.due) || !list_empty(&worker->flush_queue) || !list_empty(&worker->fan_out_queue);
}

void worker_turn(struct worker *worker) {
    uint64_t closed = counter_read(&worker->counters.closed);
    uint32_t backlog = worker->backlog.length;

    worker->turn_over = false;
    handle_events(worker);
    worker_begin_part(worker);
    streams_visit_backlog(worker, backlog);
    worker_begin_part(worker);
    handle_messages(worker);
    fire_worker_timers(worker);
    if (worker->settled_s != worker->timers.now_s) {
        worker->settled_s = worker->timers.now_s;
        budget_settle();
    }
    worker_begin_part(worker);
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

/* About each millisecond, unless the worker sleeps. */
static void read_cpu_time(struct worker *worker, uint64_t now_ns) {
    worker->cpu_ns = clock_thread_cpu_ns();
    worker->cpu_read_ns = now_ns;
}

static void note_worker_turn(struct worker *worker) {
    uint64_t now_ns = clock_monotonic_ns(), busy_us = (now_ns - worker->now_ns) / 1000, before_ns = worker->cpu_ns;

    note_lag(worker, busy_us);
    if (busy_us < LONG_TURN_US)
        return;
    read_cpu_time(worker, now_ns);
    malloc_sort();
    counter_max(&worker->counters.cpu_max_us, (worker->cpu_ns - before_ns) / 1000);
}

/* How long a worker without connections waits for a last one, at most `most_ms`. */
static uint64_t time_to_end_ms(const struct worker *worker, uint64_t most_ms) {
    uint64_t left_ms = worker->ends_ms > worker->now_ms ? worker->ends_ms - worker->now_ms : 0;

    return left_ms < most_ms ? left_ms : most_ms;
}

/* Waits for events, at most until the next second: timers fire once a second. A pause is looked at more often. */
static void wait_for_events(struct worker *worker) {
    int timeout_ms = 0;

    if (!worker_has_work(worker) && mailbox_sleep(&worker->mailbox))
        timeout_ms = 1000 - (int)(clock_monotonic_ms() % 1000);
    if (worker->stopping && worker->stream_count == 0 && timeout_ms != 0)
        timeout_ms = (int)time_to_end_ms(worker, (uint64_t)timeout_ms);
    if (!list_empty(&worker->pauses) && timeout_ms > PAUSE_CHECK_MS)
        timeout_ms = PAUSE_CHECK_MS;
    worker_poll(worker, timeout_ms);
    mailbox_awake(&worker->mailbox);
    worker->now_ns = clock_monotonic_ns();
    worker->now_ms = worker->now_ns / 1000000;
    worker->turn_ends_ns = worker->now_ns + TURN_INPUT_US * UINT64_C(1000);
}

/* True if a worker that stops has no connection, and found none to accept in a turn after the last one had closed. */
static bool worker_has_ended(const struct worker *worker) {
    return worker->stopping && worker->stream_count == 0 && worker->ready_count == 0 &&
           worker->now_ms >= worker->ends_ms;
}

static void *run_worker(void *context) {
    struct worker *worker = context;

    do {
        wait_for_events(worker);
        if (worker->now_ns - worker->cpu_read_ns >= LONG_TURN_US * UINT64_C(1000)) {
            read_cpu_time(worker, worker->now_ns);
            malloc_sort();
        }
        worker_turn(worker);
        note_worker_turn(worker);
    } while (!worker_has_ended(worker));
    worker->turn_ends_ns = UINT64_MAX;
    worker->turn_over = false;
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

static void note_sharing(struct worker *worker, void *context) {
    (void)worker; /* it has ended the turn in which it could have missed the flag */
    (void)context;
}

static void all_know(void *context) {
    sem_post(context);
}

void workers_share_descriptors(struct workers *workers) {
    sem_t known;

    atomic_store(&workers->shares_descriptors, true);
    sem_init(&known, 0, 0);
    workers_run_on_all(workers, &(struct worker_task){.run = note_sharing, .finished = all_know, .context = &known});
    while (sem_wait(&known) != 0)
        continue;
    sem_destroy(&known);
}

void workers_share_no_descriptors(struct workers *workers) {
    atomic_store(&workers->shares_descriptors, false);
}

void workers_settle(struct workers *workers) {
    bool any;

    do { /* a message may post others */
        any = false;
        for (unsigned i = 0; i < workers->count; i++)
            any = handle_messages(workers->list[i]) || any;
    } while (any);
}
