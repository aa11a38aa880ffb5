/*
 * The counters of one webhook. The webhook thread writes them; any thread reads them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"

/* Why an event was dropped; the label `reason` of a metric. */
enum webhook_drop {
    WEBHOOK_DROP_BOUND,   /* too many wait */
    WEBHOOK_DROP_RETRIES, /* the last attempt has failed */
    WEBHOOK_DROP_GONE,    /* the endpoint answered 410 */
    WEBHOOK_DROP_COUNT,
};
extern const char *const webhook_drop_names[WEBHOOK_DROP_COUNT];

#define WEBHOOK_LATENCY_BUCKETS 12

/* The upper bounds of the buckets, in milliseconds. The last bucket has none. */
extern const uint64_t webhook_latency_bounds_ms[WEBHOOK_LATENCY_BUCKETS];

struct webhook_counters {
    struct counter delivered; /* events */
    struct counter requests;  /* that ended, with any outcome */
    struct counter failures;  /* requests that did not deliver */
    struct counter retries;   /* requests that were repetitions */
    struct counter dropped[WEBHOOK_DROP_COUNT];
    struct counter latency[WEBHOOK_LATENCY_BUCKETS]; /* of batches, from their oldest event to the answer */
    struct counter latency_sum_ms;
    struct counter waiting; /* events */
    struct counter waiting_bytes;
    struct counter oldest_wall_ms; /* when the oldest of them happened; 0: none waits */
};
