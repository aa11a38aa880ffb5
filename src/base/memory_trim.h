/*
 * Giving memory back after a peak: the heap keeps what was freed, unless it is asked for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A peak below this much is not worth it. */
#define MEMORY_TRIM_LEAST_BYTES (UINT64_C(16) * 1024 * 1024)

/* Zeroed: nothing was used yet. */
struct memory_trim {
    uint64_t peak_bytes;
};

/* Notes how much clients make the server hold. If a quarter of the last peak or more is gone, gives free memory
 * back to the system and returns true. That takes a while, and threads that allocate may wait for it: not for workers,
 * and not more often than every few seconds. */
bool memory_trim_look(struct memory_trim *trim, uint64_t used_bytes);
