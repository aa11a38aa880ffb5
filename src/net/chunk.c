#include "net/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct frame *frame_create(size_t length) {
    struct frame *frame = alloc(sizeof *frame + length);

    atomic_init(&frame->references, 1);
    frame->length = (uint32_t)length;
    frame->droppable = false;
    return frame;
}

void frame_ref(struct frame *frame) {
    atomic_fetch_add_explicit(&frame->references, 1, memory_order_relaxed);
}

void frame_unref(struct frame *frame) {
    if (atomic_fetch_sub_explicit(&frame->references, 1, memory_order_acq_rel) == 1)
        free(frame);
}

struct chunk *chunk_create(size_t length, char **bytes) {
    struct chunk *chunk = alloc(sizeof *chunk + length);

    *bytes = (char *)(chunk + 1);
    *chunk = (struct chunk){.references = 1, .length = (uint32_t)length, .messages = 1, .bytes = *bytes};
    return chunk;
}

struct chunk *chunk_copy(const void *data, size_t length) {
    char *bytes;
    struct chunk *chunk = chunk_create(length, &bytes);

    memcpy(bytes, data, length);
    return chunk;
}

struct chunk *chunk_of_frame(struct frame *frame) {
    struct chunk *chunk = alloc(sizeof *chunk);

    frame_ref(frame);
    *chunk = (struct chunk){.references = 1,
                            .length = frame->length,
                            .messages = 1,
                            .droppable = frame->droppable,
                            .frame = frame,
                            .bytes = frame->bytes};
    return chunk;
}

void chunk_unref(struct chunk *chunk) {
    if (--chunk->references != 0)
        return;
    if (chunk->frame != NULL)
        frame_unref(chunk->frame);
    if (chunk->encoded != NULL)
        chunk_unref(chunk->encoded);
    free(chunk);
}
