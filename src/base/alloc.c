#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die_out_of_memory(size_t size) {
    fprintf(stderr, "curlew: out of memory: %zu bytes could not be allocated\n", size);
    abort();
}

void *alloc(size_t size) {
    void *memory = malloc(size != 0 ? size : 1);

    if (memory == NULL)
        die_out_of_memory(size);
    return memory;
}

/* Up to this size memory comes from the thread's cache of freed blocks, which glibc's calloc does not use. */
#define CACHED_MAX_BYTES 1024

void *alloc_zero(size_t size) {
    void *memory;

    if (size <= CACHED_MAX_BYTES)
        return memset(alloc(size), 0, size);
    memory = calloc(1, size);
    if (memory == NULL)
        die_out_of_memory(size);
    return memory;
}

void *alloc_cache_line(size_t size) {
    size_t rounded = (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    void *memory = aligned_alloc(CACHE_LINE, rounded);

    if (memory == NULL)
        die_out_of_memory(rounded);
    return memset(memory, 0, rounded);
}

void *alloc_array(void *old, size_t count, size_t size) {
    void *memory = reallocarray(old, count != 0 ? count : 1, size);

    if (memory == NULL)
        die_out_of_memory(count * size);
    return memory;
}

char *alloc_copy(const void *data, size_t length) {
    char *copy = alloc(length + 1);

    if (length != 0)
        memcpy(copy, data, length);
    copy[length] = '\0';
    return copy;
}
