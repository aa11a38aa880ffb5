/*
 * Latencies, counted in buckets that are at most 1.6 % wide, so that a million samples cost a few kilobytes and a
 * percentile is a walk over them.
 */
#pragma once

#include <stdint.h>

#define HISTOGRAM_STEPS 64 /* buckets between one power of two and the next */
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS * 59)

struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint32_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);

/* The latency that `share` (0 to 1) of the samples do not exceed, in ns; 0 without samples. */
uint64_t histogram_percentile(const struct histogram *histogram, double share);
