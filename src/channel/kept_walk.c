#include <stdlib.h>

#include "channel/channel_internal.h"

static size_t list_length(const struct list *list) {
    size_t length = 0;

    for (const struct list *link = list->next; link != list; link = link->next)
        length++;
    return length;
}

static void take_channels(struct channel_kept_walk *walk, const struct list *list, size_t room) {
    for (struct list *link = list->next; link != list && walk->count < room; link = link->next)
        walk->channels[walk->count++] = channel_ref(container_of(link, struct channel, kept_link));
}

static const struct kept_app *kept_app_of(const struct heap_node *node) {
    return container_of(node, struct kept_app, by_bytes);
}

void channel_kept_begin(struct channel_hub *hub, struct channel_kept_walk *walk) {
    struct kept_events *kept = &hub->kept;
    size_t room = 0;

    *walk = (struct channel_kept_walk){0};
    pthread_mutex_lock(&kept->mutex);
    for (size_t i = 0; i < kept->by_bytes.count; i++) {
        const struct kept_app *app = kept_app_of(kept->by_bytes.nodes[i]);
        room += list_length(&app->idle) + list_length(&app->occupied);
    }
    pthread_mutex_unlock(&kept->mutex);
    if (room == 0)
        return;
    walk->channels = alloc(room * sizeof *walk->channels);
    pthread_mutex_lock(&kept->mutex);
    for (size_t i = 0; i < kept->by_bytes.count; i++) {
        take_channels(walk, &kept_app_of(kept->by_bytes.nodes[i])->idle, room);
        take_channels(walk, &kept_app_of(kept->by_bytes.nodes[i])->occupied, room);
    }
    pthread_mutex_unlock(&kept->mutex);
}

void channel_kept_end(struct channel_kept_walk *walk) {
    while (walk->at < walk->count)
        channel_unref(walk->channels[walk->at++]);
    free(walk->channels);
    *walk = (struct channel_kept_walk){0};
}

/* Takes the channel's event; false if it has none any more. */
static bool take_kept_event(struct channel *channel, uint64_t now_ms, struct channel_kept_event *event) {
    struct cached_event *cached;

    pthread_mutex_lock(&channel->mutex);
    cached = channel->dead ? NULL : channel_cached(channel, now_ms);
    pthread_mutex_unlock(&channel->mutex);
    if (cached == NULL)
        return false;
    *event = (struct channel_kept_event){
        .app_id = slice_of(channel->slot->id),
        .channel = channel_name(channel),
        .name = cached_event_name(cached),
        .data = cached_event_data(cached),
        .left_ms = cached->expires_ms != UINT64_MAX ? cached->expires_ms - now_ms : 0,
        .cached = cached,
        .owner = channel,
    };
    return true;
}

bool channel_kept_next(struct channel_kept_walk *walk, uint64_t now_ms, struct channel_kept_event *event) {
    while (walk->at < walk->count) {
        struct channel *channel = walk->channels[walk->at++];
        if (take_kept_event(channel, now_ms, event))
            return true;
        channel_unref(channel);
    }
    return false;
}

void channel_kept_release(struct channel_kept_event *event) {
    cached_event_unref(event->cached);
    channel_unref(event->owner);
}
