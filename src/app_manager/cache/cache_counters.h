/*
 * Lookups of one worker, counted by how they were answered.
 */
#pragma once

#include "base/alloc.h"
#include "base/counter.h"

struct lookup_counters {
    struct counter hits, misses, negatives, stale, errors;
    char apart[2 * CACHE_LINE - 5 * sizeof(struct counter)]; /* processors fetch cache lines in pairs */
};
