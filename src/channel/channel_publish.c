#include "channel/channel_internal.h"

/* Tries to publish an event to a channel; false if the channel is dead. */
static bool publish_to(struct channel_hub *hub, struct channel *channel, struct worker *worker,
                       const struct channel_event *event, struct channel_counts *counts) {
    struct slice name = {channel->name, channel->name_length};
    bool keep = event->keep && channel->type.caches;
    struct cached_event *cached = NULL;
    struct publication *publication;
    uint32_t data_offset;
    struct frame *frame;
    bool dead, idle = false;

    frame = event_frame(event->event, name, event->data, event->user_id, &data_offset);
    frame->droppable = true;
    if (keep)
        cached = cached_event_create(frame, data_offset, event->data.length, worker->now_ms, hub->settings.cache_ttl_s);
    publication = publication_create(hub, channel, frame, worker->now_ns);
    publication->except_stream = event->except_stream;
    if (event->except_socket != NULL) {
        publication->has_except_socket = true;
        publication->except_socket = *event->except_socket;
    }

    pthread_mutex_lock(&channel->mutex);
    dead = channel->dead;
    if (!dead) {
        publication_post(publication);
        if (event->webhook != NULL)
            webhook_draft_post(event->webhook, 0);
        if (keep) {
            struct cached_event *old = channel->cached;
            channel->cached = cached;
            cached = old;
            idle = channel->subscriber_count == 0;
        }
        if (counts != NULL)
            *counts = channel_counts_of(channel);
    }
    pthread_mutex_unlock(&channel->mutex);

    publication_finish(publication);
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

        if (channel == NULL) /* nobody subscribes to it, and there is no room to keep the event */
            return;
        done = publish_to(hub, channel, worker, event, counts);
        if (!done)
            channel_unlink(channel); /* the thread that marked it dead may not have unlinked it yet */
        channel_unref(channel);
        if (done)
            return;
    }
}

void channel_terminate_user(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice user_id,
                            bool reconnect) {
    struct buffer name = {0};
    struct channel *channel;

    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&name, user_id);
    channel = channel_find(slot, buffer_slice(&name));
    buffer_dispose(&name);
    if (channel != NULL) {
        struct publication *publication = publication_create(hub, channel, NULL, worker->now_ns);
        publication->reconnect = reconnect;
        pthread_mutex_lock(&channel->mutex);
        publication_post(publication);
        pthread_mutex_unlock(&channel->mutex);
        publication_finish(publication);
        channel_unref(channel);
    }
}
