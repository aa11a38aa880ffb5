/*
 * Histogram of latencies. Its buckets are at most 1.6 % wide, so a million samples take a few kilobytes, and a
 * percentile is found by one walk over the buckets.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_STEPS 64 /* buckets per power of two */
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 59)

struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint32_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);

/* Returns the latency in ns that `share` (0 to 1) of the samples do not exceed; 0 without samples. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);
