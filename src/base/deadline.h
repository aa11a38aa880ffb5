/*
 * How long a blocking operation on a store may take: until a deadline, or until its owner wants the thread back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct patience {
    uint64_t deadline_ns; /* on the monotonic clock */
    int stop_fd;          /* readable when everything has to end now; -1: none */
};

/* From now on for `timeout_ms`. */
struct patience patience_for(uint32_t timeout_ms, int stop_fd);

/* Milliseconds that are left, rounded up; 0: none. */
uint32_t patience_left_ms(const struct patience *patience);

/* True when the deadline has passed or `stop_fd` is readable. */
bool patience_ended(const struct patience *patience);

enum patience_answer { PATIENCE_READY, PATIENCE_TIMED_OUT, PATIENCE_STOPPED };

/* Waits until `fd` is ready for `events` (POLLIN, POLLOUT), has failed or was closed by the other side. With `fd` -1
 * only waits. */
enum patience_answer patience_wait(const struct patience *patience, int fd, short events);

/* The same, false with an error of the form "no answer in time" or "stopped". */
bool patience_wait_or_fail(const struct patience *patience, int fd, short events, struct error *error);

/* Waits for `pause_ms`, a back-off between two attempts; false if patience ended before that. */
bool patience_pause(const struct patience *patience, uint32_t pause_ms);
