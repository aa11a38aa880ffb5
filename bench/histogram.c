#include "histogram.h"

#include <stddef.h>

#define STEP_BITS 6

/* Values below 64 have one bucket each. Above, the highest bit selects a row, the next six bits the bucket in it. */
static size_t bucket_of(uint64_t value) {
    unsigned shift;

    if (value < HISTOGRAM_STEPS)
        return (size_t)value;
    shift = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS;
    return (size_t)(shift + 1) * HISTOGRAM_STEPS + (size_t)((value >> shift) - HISTOGRAM_STEPS);
}

/* Returns the largest value of the bucket. */
static uint64_t bucket_limit(size_t bucket) {
    size_t row = bucket / HISTOGRAM_STEPS;

    if (row == 0)
        return bucket;
    return (((uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) + 1) << (row - 1)) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value_ns) {
    histogram->buckets[bucket_of(value_ns)]++;
    histogram->count++;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
}

uint64_t histogram_percentile(const struct histogram *histogram, double share) {
    uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.5), seen = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (histogram->buckets[i] != 0 && seen >= wanted) {
            uint64_t limit = bucket_limit(i);
            return limit < histogram->max_ns ? limit : histogram->max_ns;
        }
    }
    return 0;
}
