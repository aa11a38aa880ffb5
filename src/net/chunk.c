#include "net/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct frame *frame_create(size_t length) {
    struct frame *frame = alloc(sizeof *frame + length);

    atomic_init(&frame->references, 1);
    frame->length = (uint32_t)length;
    frame->footprint = (uint32_t)alloc_footprint(sizeof *frame + length);
    frame->kind = BUDGET_OUTPUT;
    frame->droppable = frame->uncounted = false;
    frame->app = NULL;
    budget_add(BUDGET_OUTPUT, NULL, frame->footprint);
    return frame;
}

static void give_frame(const struct frame *frame) {
    if (frame->kind != BUDGET_KIND_COUNT)
        budget_give(frame->kind, frame->app, frame->footprint);
}

void frame_count_as(struct frame *frame, enum budget_kind kind) {
    give_frame(frame);
    frame->kind = (uint8_t)kind;
    if (kind != BUDGET_KIND_COUNT)
        budget_add(kind, frame->app, frame->footprint);
}

void frame_ref(struct frame *frame) {
    atomic_fetch_add_explicit(&frame->references, 1, memory_order_relaxed);
}

void frame_unref(struct frame *frame) {
    if (atomic_fetch_sub_explicit(&frame->references, 1, memory_order_acq_rel) != 1)
        return;
    give_frame(frame);
    free(frame);
}

/* The memory of a chunk in the account. The bytes of a frame belong to the frame. */
static size_t chunk_footprint(const struct chunk *chunk) {
    return alloc_footprint(sizeof *chunk + (chunk->frame == NULL ? chunk->length : 0));
}

struct chunk *chunk_create_for(struct budget_app *app, size_t length, char **bytes) {
    struct chunk *chunk = alloc(sizeof *chunk + length);

    *bytes = (char *)(chunk + 1);
    *chunk = (struct chunk){.references = 1, .length = (uint32_t)length, .messages = 1, .bytes = *bytes, .app = app};
    budget_add(BUDGET_OUTPUT, app, alloc_footprint(sizeof *chunk + length));
    return chunk;
}

struct chunk *chunk_copy_for(struct budget_app *app, const void *data, size_t length) {
    char *bytes;
    struct chunk *chunk = chunk_create_for(app, length, &bytes);

    memcpy(bytes, data, length);
    return chunk;
}

struct chunk *chunk_of_frame(struct frame *frame) {
    struct chunk *chunk = alloc(sizeof *chunk);

    frame_ref(frame);
    *chunk = (struct chunk){.references = 1,
                            .length = frame->length,
                            .messages = frame->uncounted ? 0 : 1,
                            .droppable = frame->droppable,
                            .frame = frame,
                            .bytes = frame->bytes,
                            .app = frame->app};
    budget_add(BUDGET_OUTPUT, chunk->app, chunk_footprint(chunk));
    return chunk;
}

struct chunk *chunk_of_frames(struct frame *const *frames, unsigned count) {
    size_t length = 0;
    unsigned messages = 0;
    struct chunk *chunk;
    char *at;

    if (count == 1)
        return chunk_of_frame(frames[0]);
    for (unsigned i = 0; i < count; i++) {
        length += frames[i]->length;
        messages += frames[i]->uncounted ? 0 : 1;
    }
    chunk = chunk_create_for(frames[0]->app, length, &at);
    for (unsigned i = 0; i < count; i++) {
        memcpy(at, frames[i]->bytes, frames[i]->length);
        at += frames[i]->length;
    }
    chunk->messages = messages;
    chunk->droppable = frames[0]->droppable;
    return chunk;
}

void chunk_unref(struct chunk *chunk) {
    if (--chunk->references != 0)
        return;
    budget_give(BUDGET_OUTPUT, chunk->app, chunk_footprint(chunk));
    if (chunk->frame != NULL)
        frame_unref(chunk->frame);
    if (chunk->encoded != NULL)
        chunk_unref(chunk->encoded);
    free(chunk);
}
