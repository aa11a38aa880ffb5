#include "app/broadcast_latency.h"

#include <stddef.h>

#include "base/alloc.h"

const char *const broadcast_size_names[BROADCAST_SIZE_COUNT] = {"xs", "sm", "md", "lg", "xl"};

const uint64_t broadcast_latency_bounds_us[BROADCAST_LATENCY_BUCKETS - 1] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 500000, 1000000,
};

static unsigned size_index(uint32_t recipients) {
    uint32_t bound = 10;
    unsigned size = 0;

    for (; size < BROADCAST_SIZE_COUNT - 1 && recipients > bound; bound *= 10)
        size++;
    return size;
}

static unsigned bucket_index(uint64_t latency_us) {
    unsigned bucket = 0;

    while (bucket < BROADCAST_LATENCY_BUCKETS - 1 && latency_us > broadcast_latency_bounds_us[bucket])
        bucket++;
    return bucket;
}

void broadcast_latency_record(_Atomic(struct broadcast_latency *) *place, unsigned channel_type, uint32_t recipients,
                              uint64_t latency_us) {
    struct broadcast_latency *latency = atomic_load_explicit(place, memory_order_relaxed);
    struct broadcast_series *series;

    if (recipients == 0)
        return;
    if (latency == NULL) {
        latency = alloc_cache_line(sizeof *latency);
        atomic_store_explicit(place, latency, memory_order_release);
    }
    series = &latency->series[channel_type][size_index(recipients)];
    counter_add(&series->buckets[bucket_index(latency_us)], 1);
    counter_add(&series->sum_us, latency_us);
}
