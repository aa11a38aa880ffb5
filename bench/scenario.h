/*
 * Scenarios of the benchmark. Each opens its own connections, reports its rows and closes the connections.
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
    struct target against; /* second server for a comparison; url NULL: none */
    struct target metrics; /* address of GET /metrics; url NULL: none */
    struct poller poller;
    struct floor *floor;
    struct target *reference;
    int server_cpu;       /* CPU of the floor and the reference; negative: any */
    uint64_t duration_ns; /* duration of one measurement */
    /* Number of app keys: the target's key is a prefix to which 1 to `keys` is appended; 0: it is the only key. */
    unsigned keys;
};

/* Returns the floor; the first call starts it. */
struct floor *bench_floor(struct bench *bench);

/* Returns the reference (reference.h), with the app of the target; the first call starts it. */
const struct target *bench_reference(struct bench *bench);

void scenario_floor(struct bench *bench);
void scenario_idle(struct bench *bench);
void scenario_fanout(struct bench *bench);
void scenario_latency(struct bench *bench);
void scenario_fanout_10k(struct bench *bench);
void scenario_publish_only(struct bench *bench);
void scenario_storm(struct bench *bench);

/* Connection latency with apps in a store. The caller counts the queries of the server. */
void scenario_first_connects(struct bench *bench);
void scenario_unknown_keys(struct bench *bench);
void scenario_steady(struct bench *bench);
void scenario_outage(struct bench *bench);

/* The longest turn of a worker that a scrape of GET /metrics causes. Works with Curlew only. */
void scenario_metrics(struct bench *bench);

/* Fan-out whose slices alternate between two servers. */
void scenario_compare(struct bench *bench);
