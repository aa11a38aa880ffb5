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
    struct target metrics; /* the port that serves GET /metrics; its url is NULL without one */
    struct poller poller;
    struct floor *floor;
    int server_cpu;       /* where the floor is measured; negative: anywhere */
    uint64_t duration_ns; /* of one measurement */
    unsigned keys;        /* the key of the app is a beginning, with numbers from 1 to this behind it; 0: it is whole */
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

/* How long clients wait for apps that are in a store; what the server asks the store is counted by others. */
void scenario_first_connects(struct bench *bench);
void scenario_unknown_keys(struct bench *bench);
void scenario_steady(struct bench *bench);
void scenario_outage(struct bench *bench);

/* The longest turn of a worker that a scrape of GET /metrics causes. Of Curlew only. */
void scenario_metrics(struct bench *bench);

/* The fan-out with its slices alternating between two servers. */
void scenario_compare(struct bench *bench);
