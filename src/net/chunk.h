/*
 * Bytes on their way out.
 *
 *   frame   immutable bytes that all workers share; atomic reference count; made once per published event
 *   chunk   a worker's own handle on such a frame, or on bytes of its own; plain reference count; what the output lists
 * of its connections point to
 *
 * With 500 subscribers on a worker the shared count changes twice (the chunk takes and drops it), not a thousand
 * times, so that workers that deliver the same event do not fight for its cache line.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct frame {
    atomic_uint references;
    uint32_t length;
    bool droppable; /* may be left out for a slow reader if the configuration says so: channel events */
    char bytes[];
};

/* A frame of `length` bytes, to be filled by the caller before anyone else sees it; one reference. */
struct frame *frame_create(size_t length);
void frame_ref(struct frame *frame);
void frame_unref(struct frame *frame);

struct chunk {
    uint32_t references;
    uint32_t length;
    uint32_t messages;   /* how many messages the bytes are, for the bound on unsent messages */
    bool droppable;      /* as in the frame */
    struct frame *frame; /* what `bytes` belongs to, or NULL: they follow the chunk */
    const char *bytes;
    struct chunk *encoded; /* what goes out in its place on some streams, made for the first of them; may be NULL */
};

/* A chunk of `length` bytes of its own, to be filled through the returned pointer; one reference, one message. */
struct chunk *chunk_create(size_t length, char **bytes);

/* A chunk with a copy of the bytes. */
struct chunk *chunk_copy(const void *data, size_t length);

/* A chunk over a shared frame; takes a reference of its own to the frame. */
struct chunk *chunk_of_frame(struct frame *frame);

static inline struct chunk *chunk_ref(struct chunk *chunk) {
    chunk->references++;
    return chunk;
}
void chunk_unref(struct chunk *chunk);
