#include <stdlib.h>

#include "channel/channel_internal.h"

size_t cached_event_bytes(size_t event_length, size_t data_length) {
    return alloc_footprint(sizeof(struct cached_event) + event_length + data_length);
}

struct cached_event *cached_event_create(struct app_slot *slot, const struct channel_event *event, uint64_t now_ms,
                                         uint64_t left_ms) {
    /* A client decides the size of `data`. */
    struct cached_event *cached = malloc(sizeof *cached + event->event.length + event->data.length);

    if (cached == NULL)
        return NULL;
    *cached = (struct cached_event){
        .slot = slot,
        .event_length = (uint32_t)event->event.length,
        .data_length = (uint32_t)event->data.length,
        .expires_ms = left_ms != 0 ? now_ms + left_ms : UINT64_MAX,
    };
    atomic_init(&cached->references, 1);
    memcpy(cached->texts, event->event.data, event->event.length);
    memcpy(cached->texts + event->event.length, event->data.data, event->data.length);
    budget_add(BUDGET_KEPT_EVENTS, slot->budget, cached_event_bytes(cached->event_length, cached->data_length));
    return cached;
}

struct cached_event *cached_event_ref(struct cached_event *cached) {
    atomic_fetch_add_explicit(&cached->references, 1, memory_order_relaxed);
    return cached;
}

void cached_event_unref(struct cached_event *cached) {
    if (cached == NULL || atomic_fetch_sub_explicit(&cached->references, 1, memory_order_acq_rel) != 1)
        return;
    budget_give(BUDGET_KEPT_EVENTS, cached->slot->budget,
                cached_event_bytes(cached->event_length, cached->data_length));
    free(cached);
}

struct slice cached_event_name(const struct cached_event *cached) {
    return (struct slice){cached->texts, cached->event_length};
}

struct slice cached_event_data(const struct cached_event *cached) {
    return (struct slice){cached->texts + cached->event_length, cached->data_length};
}

struct cached_event *channel_cached(const struct channel *channel, uint64_t now_ms) {
    struct cached_event *cached = channel->cached;

    return cached != NULL && now_ms < cached->expires_ms ? cached_event_ref(cached) : NULL;
}
