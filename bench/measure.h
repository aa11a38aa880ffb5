/*
 * One stretch of time and what it cost, and what several of them say together.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "target.h"

/* With measure_begin the counters' state, with measure_end what was used in between. */
struct measure {
    uint64_t wall_ns;
    uint64_t server_cpu_ns; /* of the target's process; 0 if it is unknown */
    uint64_t generator_cpu_ns;
};

void measure_begin(struct measure *measure, const struct target *target);

/* Waits until the server had time to fall asleep, since a running thread's CPU time is counted late; not part of wall.
 */
void measure_end(struct measure *measure, const struct target *target);

/* Sleeps, outside of any poller. */
void measure_pause(uint64_t ns);

/* The median; sorts `values`. 0 of none. */
double measure_median(double *values, size_t count);
