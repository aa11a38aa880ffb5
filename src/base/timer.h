/*
 * Timers as lists by second: cheap to set and to cancel, exact to a second, never early.
 *
 *   wheel:   [0] [1] [2] ... [511]        a timer due at second t waits in bucket t % 512;
 *                 |                       one that is due a later round is passed over when its bucket comes up
 *                 timer - timer - timer
 *
 * A connection that is active a thousand times a second does not move its timer: its owner notes the time of the
 * activity and, when the timer fires, sets it again for what is left. Everything here belongs to one worker.
 */
#pragma once

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
    uint32_t now_s; /* everything due up to here has fired */
};

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_ms);

/* Makes `timer` fire once, in `delay_ms` or up to a second later. A timer that is set already is moved. */
void timer_set(struct timer_wheel *wheel, struct timer *timer, uint64_t now_ms, uint64_t delay_ms);

/* Harmless when it is not set. */
void timer_cancel(struct timer *timer);

/* Fires what is due. A timer that fires may set, cancel and free any timer, itself included. */
void timer_advance(struct timer_wheel *wheel, uint64_t now_ms);

/* Fires everything that is set, due or not, and what that sets in turn, until nothing is: the owner ends, and what
 * hangs on a timer is to be given up. A timer that would set itself for ever has to be cancelled before. */
void timer_fire_all(struct timer_wheel *wheel);
