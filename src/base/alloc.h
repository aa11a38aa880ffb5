/*
 * Allocation that never returns NULL, for any thread.
 *
 * Use these functions for sizes that the program decides. If memory runs out they end the process with a message: a
 * server that cannot allocate a few hundred bytes cannot do anything useful. If input decides the size (a message body,
 * a frame), use malloc or buffer_try_reserve and refuse the input.
 */
#pragma once

#include <stddef.h>

/* Returns `size` bytes of uninitialised memory; free with free(). */
void *alloc(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result, alloc_size(1)));

/* Returns `size` zeroed bytes; free with free(). */
void *alloc_zero(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result, alloc_size(1)));

/* Returns at least `size` zeroed bytes that start at a cache line and share none with others; free with free(). */
void *alloc_cache_line(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));

/* Resizes the array `old` (may be NULL) to `count` members of `size` bytes, as realloc does; checks for overflow. */
void *alloc_array(void *old, size_t count, size_t size) __attribute__((returns_nonnull, warn_unused_result));

/* Returns a copy of `length` bytes, followed by a zero byte; free with free(). */
char *alloc_copy(const void *data, size_t length) __attribute__((malloc, returns_nonnull, warn_unused_result));

/* The memory that a block of `size` bytes takes with glibc's malloc, its header and padding included. */
static inline size_t alloc_footprint(size_t size) {
    return size <= 24 ? 32 : (size + 8 + 15) / 16 * 16;
}

/* The size of a cache line in bytes. Data that different threads write should not share one. */
#define CACHE_LINE 64
