/*
 * What can be measured. Each scenario opens its own connections, reports its rows and closes what it opened.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "poller.h"
#include "target.h"

struct floor;

struct bench {
    struct target target;
    bool has_secret;
    struct target against; /* a second server to compare with; its url is NULL without one */
    struct poller poller;
    struct floor *floor;
    int server_cpu;       /* where the floor is measured; negative: anywhere */
    uint64_t duration_ns; /* of one measurement */
};

/* The floor, started when first asked for. */
struct floor *bench_floor(struct bench *bench);

void scenario_floor(struct bench *bench);
void scenario_idle(struct bench *bench);
void scenario_fanout(struct bench *bench);
void scenario_latency(struct bench *bench);
void scenario_fanout_10k(struct bench *bench);
void scenario_publish_only(struct bench *bench);
void scenario_storm(struct bench *bench);

/* The fan-out with its slices alternating between two servers. */
void scenario_compare(struct bench *bench);
