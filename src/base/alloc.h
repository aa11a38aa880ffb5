/*
 * Allocation that cannot fail.
 *
 * For sizes that the program decides. Running out of memory there ends the process with a message: a server that cannot
 * allocate a few hundred bytes cannot do anything useful either. Where input decides the size (a message body, a
 * frame) use malloc or buffer_try_reserve and refuse the input.
 */
#pragma once

#include <stddef.h>

/* Uninitialised memory; free with free(). */
void *alloc(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result, alloc_size(1)));

/* Memory set to zero; free with free(). */
void *alloc_zero(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result, alloc_size(1)));

/* Memory of at least `size` zeroed bytes that starts on a cache line of its own; free with free(). */
void *alloc_cache_line(size_t size) __attribute__((malloc, returns_nonnull, warn_unused_result));

/* An array of `count` members of `size` bytes, keeping what `old` held; the product is checked. */
void *alloc_array(void *old, size_t count, size_t size) __attribute__((returns_nonnull, warn_unused_result));

/* A copy of `length` bytes with a zero byte behind them. */
char *alloc_copy(const void *data, size_t length) __attribute__((malloc, returns_nonnull, warn_unused_result));

/* Each processor's cache line, so that what different threads write does not share one. */
#define CACHE_LINE 64
