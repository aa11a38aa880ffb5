#include "cluster/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/list.h"
#include "base/malloc_setup.h"
#include "base/thread.h"

#define LOOP_EVENTS 64

/* The thread sleeps for this long at most. */
#define LOOP_SLEEP_MAX_MS 1000

/* Messages that are turned round without a look at the clock. */
#define TURNED_AT_ONCE 64

struct loop {
    int epoll_fd;
    struct mailbox mailbox;
    struct loop_target mailbox_target;
    struct heap timers; /* by the time at which they are due */
    uint64_t now_ms;
    void (*end_of_turn)(void *context);
    void *context;
    struct counter longest_turn_us, longest_turn_cpu_us;

    struct message *messages;       /* left over from the last turn, the oldest first */
    struct message *taken, *turned; /* from the mailbox, the newest first; those of them that are turned round */
    uint64_t part_ends_ns;
    struct epoll_event ready[LOOP_EVENTS];
    unsigned ready_at, ready_count;

    pthread_t thread;
    bool started, stopping;
    struct loop_message stop;
};

static void on_loop_mail(struct loop_target *target, uint32_t events) {
    struct loop *loop = container_of(target, struct loop, mailbox_target);

    (void)events;
    mailbox_clear(&loop->mailbox);
}

struct loop *loop_create(struct error *error) {
    struct loop *loop = alloc_zero(sizeof *loop);

    loop->now_ms = clock_monotonic_ms();
    loop->part_ends_ns = UINT64_MAX; /* outside of the thread time is not limited */
    loop->mailbox_target.ready = on_loop_mail;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd >= 0 && mailbox_init(&loop->mailbox)) {
        if (loop_watch(loop, loop->mailbox.event_fd, EPOLLIN, &loop->mailbox_target))
            return loop;
        mailbox_dispose(&loop->mailbox);
    }
    error_set(error, "the cluster's thread got no descriptor: %s", strerror(errno));
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    free(loop);
    return NULL;
}

/* --- parts of a turn --- */

static void begin_loop_part(struct loop *loop) {
    loop->part_ends_ns = clock_monotonic_ns() + LOOP_PART_NS;
}

/* Asked after each piece of work: each part does one at least. */
bool loop_has_time(const struct loop *loop) {
    return clock_monotonic_ns() < loop->part_ends_ns;
}

static void handle_first_loop_message(struct loop *loop) {
    struct loop_message *first = container_of(loop->messages, struct loop_message, message);

    loop->messages = loop->messages->next;
    first->handle(loop, first);
}

/* Takes what is in the mailbox, and turns it round while there is time: 100,000 messages take 20 ms. The oldest is
 * known when all are. */
static void take_loop_messages(struct loop *loop) {
    unsigned count = 0;

    if (loop->taken == NULL)
        loop->taken = mailbox_take_newest_first(&loop->mailbox);
    while (loop->taken != NULL && (++count % TURNED_AT_ONCE != 0 || loop_has_time(loop))) {
        struct message *newest = loop->taken;

        loop->taken = newest->next;
        newest->next = loop->turned;
        loop->turned = newest;
    }
    if (loop->taken != NULL)
        return;
    loop->messages = loop->turned;
    loop->turned = NULL;
}

/* Messages that are posted meanwhile are for a later turn. */
static void handle_loop_messages(struct loop *loop) {
    begin_loop_part(loop);
    if (loop->messages == NULL)
        take_loop_messages(loop);
    while (loop->messages != NULL) {
        handle_first_loop_message(loop);
        if (!loop_has_time(loop))
            return;
    }
}

void loop_settle(struct loop *loop) {
    do { /* a message may post others */
        while (loop->messages != NULL)
            handle_first_loop_message(loop);
        take_loop_messages(loop);
    } while (loop->messages != NULL);
}

void loop_destroy(struct loop *loop) {
    if (loop == NULL)
        return;
    loop_settle(loop);
    mailbox_dispose(&loop->mailbox);
    close(loop->epoll_fd);
    heap_dispose(&loop->timers);
    free(loop);
}

/* --- descriptors --- */

bool loop_watch(struct loop *loop, int fd, uint32_t events, struct loop_target *target) {
    struct epoll_event event = {.events = events, .data.ptr = target};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void loop_rewatch(struct loop *loop, int fd, uint32_t events, struct loop_target *target) {
    struct epoll_event event = {.events = events, .data.ptr = target};

    epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

void loop_unwatch(struct loop *loop, int fd, const struct loop_target *target) {
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    for (unsigned i = loop->ready_at; i < loop->ready_count; i++)
        if (loop->ready[i].data.ptr == target)
            loop->ready[i].data.ptr = NULL;
}

static void handle_loop_events(struct loop *loop) {
    begin_loop_part(loop);
    while (loop->ready_at < loop->ready_count) {
        const struct epoll_event *event = &loop->ready[loop->ready_at++];
        struct loop_target *target = event->data.ptr;

        if (target != NULL)
            target->ready(target, event->events);
        if (!loop_has_time(loop))
            return;
    }
}

/* --- timers --- */

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms) {
    heap_set(&loop->timers, &timer->node, loop->now_ms + delay_ms);
}

void loop_timer_end(struct loop *loop, struct loop_timer *timer) {
    heap_unlink(&loop->timers, &timer->node);
}

uint64_t loop_now_ms(const struct loop *loop) {
    return loop->now_ms;
}

static void fire_timers(struct loop *loop) {
    struct heap_node *first;

    begin_loop_part(loop);
    while ((first = heap_first(&loop->timers)) != NULL && first->key <= loop->now_ms) {
        struct loop_timer *timer = container_of(first, struct loop_timer, node);

        heap_unlink(&loop->timers, first);
        timer->fire(timer);
        if (!loop_has_time(loop))
            return;
    }
}

/* --- the thread --- */

static int loop_timeout_ms(struct loop *loop) {
    const struct heap_node *first = heap_first(&loop->timers);
    uint64_t timeout_ms = LOOP_SLEEP_MAX_MS;

    if (loop->messages != NULL || loop->taken != NULL || !mailbox_sleep(&loop->mailbox))
        return 0;
    if (first != NULL && first->key < loop->now_ms + timeout_ms) {
        uint64_t now_ms = clock_monotonic_ms();
        timeout_ms = first->key > now_ms ? first->key - now_ms : 0;
    }
    return (int)timeout_ms;
}

static void wait_for_loop_events(struct loop *loop) {
    int count;

    if (loop->ready_at < loop->ready_count)
        return;
    count = epoll_wait(loop->epoll_fd, loop->ready, LOOP_EVENTS, loop_timeout_ms(loop));
    mailbox_awake(&loop->mailbox);
    loop->ready_at = 0;
    loop->ready_count = count < 0 ? 0 : (unsigned)count;
}

static void run_loop_turn(struct loop *loop) {
    uint64_t begin_ns = clock_monotonic_ns(), cpu_begin_ns = clock_thread_cpu_ns();

    loop->now_ms = begin_ns / 1000000;
    handle_loop_events(loop);
    handle_loop_messages(loop);
    fire_timers(loop);
    begin_loop_part(loop);
    if (loop->end_of_turn != NULL)
        loop->end_of_turn(loop->context);
    budget_settle();
    malloc_sort();
    counter_max(&loop->longest_turn_us, (clock_monotonic_ns() - begin_ns) / 1000);
    counter_max(&loop->longest_turn_cpu_us, (clock_thread_cpu_ns() - cpu_begin_ns) / 1000);
}

static void *run_loop(void *context) {
    struct loop *loop = context;

    while (!loop->stopping) {
        wait_for_loop_events(loop);
        run_loop_turn(loop);
    }
    loop->part_ends_ns = UINT64_MAX;
    return NULL;
}

bool loop_start(struct loop *loop, struct error *error) {
    loop->started = thread_start(&loop->thread, "cluster", run_loop, loop, error);
    return loop->started;
}

static void stop_loop(struct loop *loop, struct loop_message *message) {
    (void)message;
    loop->stopping = true;
}

void loop_stop(struct loop *loop) {
    if (!loop->started)
        return;
    loop->stop.handle = stop_loop;
    loop_post(loop, &loop->stop);
    loop_wake(loop);
    pthread_join(loop->thread, NULL);
    loop->started = false;
}

void loop_post(struct loop *loop, struct loop_message *message) {
    mailbox_post(&loop->mailbox, &message->message);
}

void loop_wake(struct loop *loop) {
    mailbox_wake(&loop->mailbox);
}

void loop_set_end_of_turn(struct loop *loop, void (*end_of_turn)(void *context), void *context) {
    loop->end_of_turn = end_of_turn;
    loop->context = context;
}

uint64_t loop_longest_turn_us(const struct loop *loop) {
    return counter_read(&loop->longest_turn_us);
}

uint64_t loop_longest_turn_cpu_us(const struct loop *loop) {
    return counter_read(&loop->longest_turn_cpu_us);
}
