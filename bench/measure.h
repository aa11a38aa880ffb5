/*
 * Measurement of elapsed time and CPU time, and the median of several measurements.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "target.h"

/* Counter values after measure_begin; differences after measure_end. */
struct measure {
    uint64_t wall_ns;
    uint64_t server_cpu_ns; /* CPU time of the target's process; 0 if unknown */
    uint64_t generator_cpu_ns;
};

void measure_begin(struct measure *measure, const struct target *target);

/* Waits for the server to become idle, since a running thread's CPU time is counted late; wall_ns excludes it. */
void measure_end(struct measure *measure, const struct target *target);

/* Sleeps for `ns` without running a poller. */
void measure_pause(uint64_t ns);

/* Returns the median, 0 without values; sorts `values`. */
double measure_median(double *values, size_t count);
