/*
 * A timer wheel with a resolution of one second: setting and cancelling are cheap; timers fire up to a second late,
 * never early.
 *
 *   wheel:   [0] [1] [2] ... [511]        a timer due at second t is in bucket t % 512;
 *                 |                       a timer due in a later revolution stays in its bucket
 *                 timer - timer - timer
 *
 * A connection that is active a thousand times a second does not move its timer each time: its owner records the time
 * of the activity and, when the timer fires, sets it again for the remaining time. A wheel belongs to one worker; all
 * functions are for its thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define TIMER_BUCKETS 512

struct timer {
    struct list link;
    uint32_t due_s;
    void (*fire)(struct timer *timer);
};

struct timer_wheel {
    struct list buckets[TIMER_BUCKETS];
    struct list due; /* timers that fire next */
    uint32_t now_s;  /* all timers due up to this second have fired, or are in `due` */
};

/* Initialises an empty wheel; `now_ms` is the monotonic time. */
void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);

/* Sets `timer` to fire once, after `delay_ms` or up to a second later. A timer that is already set is moved. */
void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t now_ms, uint64_t delay_ms);

/* Cancels the timer; does nothing if it is not set. */
void timer_cancel(struct timer *timer);

/* Moves the wheel on, so that timer_fire_next finds what is due. */
void timer_advance(struct timer_wheel *wheel, uint64_t now_ms);
/* Fires one due timer. False: there is none. A timer's `fire` may set, cancel and free any timer, including itself. */
bool timer_fire_next(struct timer_wheel *wheel);

/* Fires all timers, due or not, and those that they set, until none is left, so that everything attached to a timer is
 * released when the owner ends. A timer that always sets itself again must be cancelled before. */
void timer_fire_all(struct timer_wheel *wheel);
