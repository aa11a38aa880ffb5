/*
 * Output bytes, counted by references.
 *
 *   frame   immutable bytes that all workers share; atomic reference count; encoded once per published event
 *   chunk   one worker's handle on a frame, or on bytes of its own; plain reference count; the output queues of streams
 *           hold chunks
 *
 * With 500 subscribers on a worker the atomic count changes twice (the chunk takes and drops its reference), not a
 * thousand times, so that workers that deliver the same event do not contend for its cache line.
 *
 * Both are counted as output in the account of memory (base/budget.h), and for the app that they belong to.
 *
 * Frames may be used on any thread. A chunk belongs to one worker and is used on its thread only.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/budget.h"
#include "base/slice.h"

struct frame {
    atomic_uint references;
    uint32_t length;
    uint32_t footprint; /* its memory in the account */
    uint8_t kind;       /* enum budget_kind; BUDGET_KIND_COUNT: not in the account */
    /* A channel event, which the configuration may allow to drop for a slow reader. */
    bool droppable;
    /* Told to everyone in a channel because of others: a crowd that leaves must not make those who stay slow readers.
     * It counts towards the bound on bytes only. */
    bool uncounted;
    struct budget_app *app; /* for which it is counted; NULL: none */
    char bytes[];
};

/* Creates a frame of `length` bytes with one reference. The caller fills it before it shares it. It counts as output in
 * the account of memory, once, however many readers it has. */
struct frame *frame_create(size_t length);

/* Counts the frame as another kind; BUDGET_KIND_COUNT: not at all, because it is counted elsewhere. Call it before the
 * frame is shared. */
void frame_count_as(struct frame *frame, enum budget_kind kind);

/* Counts the frame for an app, which it was not before. Call it before the frame is shared. */
static inline void frame_assign(struct frame *frame, struct budget_app *app) {
    frame->app = app;
    budget_assign(app, frame->footprint);
}

/* Take and drop a reference; the last one frees the frame. Any thread. */
void frame_ref(struct frame *frame);
void frame_unref(struct frame *frame);

struct chunk {
    uint32_t references;
    uint32_t length;
    /* Number of messages in the bytes, for the bound on unsent messages. */
    uint32_t messages;
    bool droppable;      /* as in the frame */
    struct frame *frame; /* owner of `bytes`; NULL: they follow the chunk */
    const char *bytes;
    /* The encoded form, made for the first stream that `encodes`; may be NULL. */
    struct chunk *encoded;
    struct budget_app *app; /* for which it is counted; NULL: none */
};

/* Creates a chunk of `length` bytes of its own, with one reference, as one message, for an app (NULL: for none). The
 * caller fills `*bytes`. */
struct chunk *chunk_create_for(struct budget_app *app, size_t length, char **bytes);

static inline struct chunk *chunk_create(size_t length, char **bytes) {
    return chunk_create_for(NULL, length, bytes);
}

/* Creates a chunk with a copy of the bytes, as one message, for an app (NULL: for none). */
struct chunk *chunk_copy_for(struct budget_app *app, const void *data, size_t length);

static inline struct chunk *chunk_copy(const void *data, size_t length) {
    return chunk_copy_for(NULL, data, length);
}

/* Creates a chunk over a shared frame, as one message, for the frame's app. It takes a reference of its own to the
 * frame. */
struct chunk *chunk_of_frame(struct frame *frame);

/* Creates a chunk with copies of several frames of one app, which are alike in `droppable`. */
struct chunk *chunk_of_frames(struct frame *const *frames, unsigned count);

/* Take and drop a reference; the last one frees the chunk and drops its frame. */
static inline struct chunk *chunk_ref(struct chunk *chunk) {
    chunk->references++;
    return chunk;
}
void chunk_unref(struct chunk *chunk);
