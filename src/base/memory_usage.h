/*
 * Total and used memory of the machine, or of the process's control group if its limit is lower.
 *
 * Memory that the kernel can reclaim on demand (page cache) counts as free: used memory is total minus available on a
 * machine, and current minus inactive_file in a control group.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct memory_usage {
    uint64_t total_bytes;
    uint64_t used_bytes; /* at most total_bytes */
};

/* Reads the figures from /proc and /sys; false if they are not there. Any thread. */
bool memory_usage(struct memory_usage *usage);

/* The same with another root folder than "", for tests. */
bool memory_usage_under(const char *root, struct memory_usage *usage);

/* Reads the virtual and the resident memory of this process, in bytes; false if /proc is not there. Any thread. */
bool memory_of_process(uint64_t *virtual_bytes, uint64_t *resident_bytes);

/* Returns used memory as a share of the total, 0 to 1. */
static inline double memory_usage_share(const struct memory_usage *usage) {
    return usage->total_bytes != 0 ? (double)usage->used_bytes / (double)usage->total_bytes : 0;
}
