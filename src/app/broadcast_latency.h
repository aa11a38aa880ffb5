/*
 * The latency of events from publishing to delivery: a histogram for each kind of channel and each number of
 * recipients.
 *
 * Each worker keeps one for each app, made when the first event is delivered. Only that worker writes it; the metrics
 * page adds them up.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/counter.h"

/* Label recipient_count_bucket: xs up to 10 recipients, sm 100, md 1000, lg 10000, xl more. */
#define BROADCAST_SIZE_COUNT 5
extern const char *const broadcast_size_names[BROADCAST_SIZE_COUNT];

#define BROADCAST_LATENCY_BUCKETS 13
/* The upper bounds of the buckets; the last bucket has none. */
extern const uint64_t broadcast_latency_bounds_us[BROADCAST_LATENCY_BUCKETS - 1];

struct broadcast_series {
    struct counter buckets[BROADCAST_LATENCY_BUCKETS]; /* not cumulative */
    struct counter sum_us;
};

#define BROADCAST_CHANNEL_TYPES 4 /* enum channel_label */

struct broadcast_latency {
    struct broadcast_series series[BROADCAST_CHANNEL_TYPES][BROADCAST_SIZE_COUNT];
};

/*
 * Records that an event was delivered to `recipients` connections `latency_us` after it was published; without
 * recipients nothing is recorded. Makes the histogram in `*place` if it is NULL. On the owning worker's thread.
 */
void broadcast_latency_record(_Atomic(struct broadcast_latency *) *place, unsigned channel_type, uint32_t recipients,
                              uint64_t latency_us);
