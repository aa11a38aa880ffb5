#include <stdlib.h>

#include "base/alloc.h"
#include "channel/channel_internal.h"

struct cached_event *cached_event_create(struct frame *frame, uint32_t data_offset, size_t data_length, uint64_t now_ms,
                                         uint32_t ttl_s) {
    struct cached_event *cached = alloc(sizeof *cached);

    frame_ref(frame);
    atomic_init(&cached->references, 1);
    cached->frame = frame;
    cached->data_offset = data_offset;
    cached->data_length = (uint32_t)data_length;
    cached->expires_ms = ttl_s != 0 ? now_ms + ttl_s * UINT64_C(1000) : 0;
    return cached;
}

void cached_event_unref(struct cached_event *cached) {
    if (cached == NULL || atomic_fetch_sub_explicit(&cached->references, 1, memory_order_acq_rel) != 1)
        return;
    frame_unref(cached->frame);
    free(cached);
}

struct cached_event *channel_take_expired(struct channel *channel, uint64_t now_ms) {
    struct cached_event *cached = channel->cached;

    if (cached == NULL || cached->expires_ms == 0 || now_ms < cached->expires_ms)
        return NULL;
    channel->cached = NULL;
    return cached;
}
