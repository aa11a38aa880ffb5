/*
 * How much memory there is and how much of it is in use: of the machine, or of the control group that the process runs
 * in when that allows less.
 *
 * Memory that the kernel would give up on demand (the page cache) counts as free: of a machine the used part is total
 * minus available, of a control group current minus inactive_file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct memory_usage {
    uint64_t total_bytes;
    uint64_t used_bytes; /* at most the total */
};

/* Reads /proc and /sys; false if they do not tell. Any thread. */
bool memory_usage(struct memory_usage *usage);

/* The same below another root folder than "". */
bool memory_usage_under(const char *root, struct memory_usage *usage);

/* The used part of the total, 0 to 1. */
static inline double memory_usage_share(const struct memory_usage *usage) {
    return usage->total_bytes != 0 ? (double)usage->used_bytes / (double)usage->total_bytes : 0;
}
