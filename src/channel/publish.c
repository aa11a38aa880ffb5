#include "channel/channel_internal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "net/websocket.h"

struct publication *publication_create(struct channel_hub *hub, struct channel *channel, struct frame *frame,
                                       uint64_t now_ns) {
    unsigned workers = hub->workers->count;
    struct publication *publication = alloc(sizeof *publication + workers * sizeof publication->deliveries[0]);

    *publication = (struct publication){.channel = channel_ref(channel), .frame = frame, .born_ns = now_ns, .hub = hub};
    atomic_init(&publication->references, 1);
    for (unsigned i = 0; i < workers; i++)
        publication->deliveries[i] = (struct delivery){{NULL, deliver}, publication};
    return publication;
}

void publication_unref(struct publication *publication) {
    if (atomic_fetch_sub_explicit(&publication->references, 1, memory_order_acq_rel) != 1)
        return;
    if (publication->frame != NULL)
        frame_unref(publication->frame);
    channel_unref(publication->channel);
    free(publication);
}

uint64_t publication_post(struct publication *publication) {
    struct channel *channel = publication->channel;
    uint64_t workers = publication->to_watchers ? channel->watching.workers : channel->audience.workers;

    publication->number = ++channel->number;
    atomic_fetch_add_explicit(&publication->references, (unsigned)__builtin_popcountll(workers), memory_order_relaxed);
    for (uint64_t left = workers; left != 0; left &= left - 1) {
        unsigned index = (unsigned)__builtin_ctzll(left);
        mailbox_post(&publication->hub->workers->list[index]->mailbox, &publication->deliveries[index].message);
    }
    return workers;
}

void publication_finish(struct publication *publication, uint64_t workers) {
    for (uint64_t left = workers; left != 0; left &= left - 1)
        mailbox_wake(&publication->hub->workers->list[__builtin_ctzll(left)]->mailbox);
    publication_unref(publication);
}

/* The one place where an event becomes bytes. `channel` and the rest are JSON text except the name of the channel,
 * which needs escaping only in a user's channel. */
struct frame *event_frame(struct slice event, struct slice channel, struct slice data, struct slice user_id,
                          uint32_t *data_offset) {
    struct buffer escaped = {0};
    struct slice parts[9];
    size_t count = 0, before = 0;
    struct frame *frame;

    parts[count++] = SLICE("{\"event\":");
    parts[count++] = event;
    if (slice_starts_with(channel, SLICE(USER_CHANNEL_PREFIX))) {
        json_append_string(&escaped, channel);
        parts[count++] = SLICE(",\"channel\":");
        parts[count++] = buffer_slice(&escaped);
        parts[count++] = SLICE(",\"data\":");
    } else {
        parts[count++] = SLICE(",\"channel\":\"");
        parts[count++] = channel;
        parts[count++] = SLICE("\",\"data\":");
    }
    for (size_t i = 0; i < count; i++)
        before += parts[i].length;
    parts[count++] = data;
    if (user_id.length != 0) {
        parts[count++] = SLICE(",\"user_id\":");
        parts[count++] = user_id;
    }
    parts[count++] = SLICE("}");
    frame = websocket_text_frame(parts, count);
    if (data_offset != NULL) {
        size_t payload = before + data.length + 1;
        payload += user_id.length != 0 ? SLICE(",\"user_id\":").length + user_id.length : 0;
        *data_offset = (uint32_t)(frame->length - payload + before);
    }
    buffer_dispose(&escaped);
    return frame;
}

static struct cached_event *cached_event_create(struct channel_hub *hub, struct frame *frame, uint32_t data_offset,
                                                size_t data_length, uint64_t now_ms) {
    struct cached_event *cached = alloc(sizeof *cached);

    frame_ref(frame);
    atomic_init(&cached->references, 1);
    cached->frame = frame;
    cached->data_offset = data_offset;
    cached->data_length = (uint32_t)data_length;
    cached->expires_ms = hub->settings.cache_ttl_s != 0 ? now_ms + hub->settings.cache_ttl_s * UINT64_C(1000) : 0;
    return cached;
}

static void read_counts(const struct channel *channel, struct channel_counts *counts) {
    counts->subscriptions = channel->subscribers;
    counts->users = presence_count(&channel->members);
}

/* One attempt; false if the channel died before it could be locked. */
static bool publish_to(struct channel_hub *hub, struct channel *channel, struct worker *worker,
                       const struct channel_event *event, struct channel_counts *counts) {
    struct slice name = {channel->name, channel->name_length};
    bool keep = event->keep && channel->type.caches;
    struct cached_event *cached = NULL;
    struct publication *publication;
    uint32_t data_offset;
    struct frame *frame;
    uint64_t workers = 0;
    bool dead, idle = false;

    frame = event_frame(event->event, name, event->data, event->user_id, &data_offset);
    frame->droppable = true;
    if (keep)
        cached = cached_event_create(hub, frame, data_offset, event->data.length, worker->now_ms);
    publication = publication_create(hub, channel, frame, worker->now_ns);
    publication->except_stream = event->except_stream;
    if (event->except_socket != NULL) {
        publication->has_except_socket = true;
        publication->except_socket = *event->except_socket;
    }

    pthread_mutex_lock(&channel->mutex);
    dead = channel->dead;
    if (!dead) {
        workers = publication_post(publication);
        if (keep) {
            struct cached_event *old = channel->cached;
            channel->cached = cached;
            cached = old;
            idle = channel->subscribers == 0;
        }
        if (counts != NULL)
            read_counts(channel, counts);
    }
    pthread_mutex_unlock(&channel->mutex);

    publication_finish(publication, workers);
    cached_event_unref(cached);
    if (idle)
        channel_idle_begin(hub, channel);
    return !dead;
}

void channel_publish(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                     const struct channel_event *event, struct channel_counts *counts) {
    bool keeps = event->keep && channel_type_of(name).caches;

    if (counts != NULL)
        *counts = (struct channel_counts){0};
    for (;;) {
        struct channel *channel = keeps ? channel_find_or_create(hub, slot, name) : channel_find(slot, name);
        bool done;

        if (channel == NULL)
            return;
        done = publish_to(hub, channel, worker, event, counts);
        if (!done)
            channel_unlink(channel); /* whoever marked it dead may not have come to it yet */
        channel_unref(channel);
        if (done)
            return;
    }
}

void channel_terminate_user(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                            struct slice user_id) {
    struct buffer name = {0};
    struct channel *channel;

    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&name, user_id);
    channel = channel_find(slot, buffer_slice(&name));
    buffer_dispose(&name);
    if (channel != NULL) {
        struct publication *publication = publication_create(hub, channel, NULL, worker->now_ns);
        uint64_t workers;
        pthread_mutex_lock(&channel->mutex);
        workers = publication_post(publication);
        pthread_mutex_unlock(&channel->mutex);
        publication_finish(publication, workers);
        channel_unref(channel);
    }
}
