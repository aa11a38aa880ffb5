/*
 * The deadline of a blocking operation, with a file descriptor that cancels it earlier. Functions that wait are for
 * threads that may block, never for workers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct deadline {
    uint64_t ends_ns; /* on the monotonic clock */
    int cancel_fd;    /* readable when the operation must end at once; -1: none */
};

/* Returns a deadline `timeout_ms` from now. */
struct deadline deadline_after(uint32_t timeout_ms, int cancel_fd);

/* Returns the milliseconds until the deadline, rounded up; 0 after it. Ignores `cancel_fd`. */
uint32_t deadline_remaining_ms(const struct deadline *deadline);

/* True after the deadline, or if `cancel_fd` is readable. */
bool deadline_passed(const struct deadline *deadline);

enum wait_result { WAIT_READY, WAIT_TIMED_OUT, WAIT_CANCELLED };

/* Waits until `fd` is ready for `events` (POLLIN, POLLOUT), has failed or was closed by its peer; with `fd` -1 for the
 * deadline only. A failed poll(2) counts as WAIT_CANCELLED. */
enum wait_result deadline_wait(const struct deadline *deadline, int fd, short events);

/* The same; true if `fd` is ready, else false with the error "no answer in time" or "stopped". */
bool deadline_wait_or_fail(const struct deadline *deadline, int fd, short events, struct error *error);

/* Sleeps for `pause_ms`, the back-off between two attempts; false if the deadline or a cancellation came first. */
bool deadline_sleep(const struct deadline *deadline, uint32_t pause_ms);
