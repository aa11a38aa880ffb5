/*
 * The cluster's thread: an event loop for descriptors, timers in milliseconds, and messages from other threads.
 *
 *   worker --- loop_post, loop_wake ---> mailbox ---> message.handle() on this thread
 *
 * A turn is short: events, messages and timers each get LOOP_PART_NS of it. What is left then is handled in the next
 * turn, in the same order. So no handler may do much at once: it posts a message to itself to go on.
 *
 * Everything in cluster/ that has no other thread in its comment is used on this thread only, without a lock. Nothing
 * on it may block. It reads apps and channels between reclaim_read_begin and reclaim_read_end only.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"
#include "base/heap.h"
#include "net/mailbox.h"

/* Each part of a turn (events, messages, timers, its end) ends after the piece of work that exceeds this time. A piece
 * takes as long at most: so a turn takes 4 ms. */
#define LOOP_PART_NS UINT64_C(500000)

struct loop;

/* The receiver of events of a descriptor; embedded in the structure that owns the descriptor. */
struct loop_target {
    /* Called with the EPOLL* bits that are ready. */
    void (*ready)(struct loop_target *target, uint32_t events);
};

/* A timer. Zeroed but for `fire`, it is not set. */
struct loop_timer {
    void (*fire)(struct loop_timer *timer);
    struct heap_node node;
};

/* A message to the thread. Embed it in memory that `handle` frees. */
struct loop_message {
    struct message message; /* its own `handle` is not used */
    void (*handle)(struct loop *loop, struct loop_message *message);
};

/* Creates a loop whose thread does not run yet. NULL with an error if the system has no descriptors left. Main thread,
 * as for the two below. */
struct loop *loop_create(struct error *error);

bool loop_start(struct loop *loop, struct error *error);

/* Ends the thread after the messages that were posted before, and joins it; also if it was not started. */
void loop_stop(struct loop *loop);

/* Handles the messages that are left, on the calling thread, when the loop's has ended. */
void loop_settle(struct loop *loop);
/* The same, and frees the loop. Targets and timers must be out of it.
 * NULL is accepted. */
void loop_destroy(struct loop *loop);

/* Posts a message, which the thread then owns. Lock-free, no system call: it may be called under a mutex. Any thread.
 */
void loop_post(struct loop *loop, struct loop_message *message);
/* Wakes the thread if it sleeps; after a post, without a mutex. Any thread. */
void loop_wake(struct loop *loop);

/* --- on the thread, or before it is started --- */

/* Add a descriptor, change its events (EPOLLIN, EPOLLOUT), and remove it. loop_watch returns false with errno set. A
 * removed target gets no event any more, also not in this turn; it may be freed when its `ready` has returned. */
bool loop_watch(struct loop *loop, int fd, uint32_t events, struct loop_target *target);
void loop_rewatch(struct loop *loop, int fd, uint32_t events, struct loop_target *target);
void loop_unwatch(struct loop *loop, int fd, const struct loop_target *target);

/* Sets the timer, or sets it anew, and ends it before it has fired; a timer that is not set is accepted. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t delay_ms);
void loop_timer_end(struct loop *loop, struct loop_timer *timer);

static inline bool loop_timer_is_set(const struct loop_timer *timer) {
    return timer->node.place != 0;
}

/* True while the part of the turn under way has time for more: what does much at once asks after each piece. */
bool loop_has_time(const struct loop *loop);

/* The monotonic time at the start of this turn. */
uint64_t loop_now_ms(const struct loop *loop);

/* Calls `end_of_turn(context)` at the end of each turn, before the thread sleeps: there output that the turn has
 * collected is written. It has as much time as other parts. Before the start. */
void loop_set_end_of_turn(struct loop *loop, void (*end_of_turn)(void *context), void *context);

/* The longest turn so far, in microseconds: by the clock, and by the CPU time of the thread, which does not count the
 * time in which the thread had no CPU. Any thread. */
uint64_t loop_longest_turn_us(const struct loop *loop);
uint64_t loop_longest_turn_cpu_us(const struct loop *loop);
