#include "app/delta_pattern.h"
#include "channel/delta_step.h"
#include "channel/filter/tags.h"

/* Puts the event into the channel's place for it and returns the one that was there. Without room for the new one
 * (NULL), the old one goes all the same: it is the last one no more. The caller holds the channel's mutex. */
static struct cached_event *replace_cached(struct channel *channel, struct cached_event *cached) {
    struct cached_event *old = channel->cached;

    channel->cached = cached != NULL ? cached_event_ref(cached) : NULL;
    return old;
}

/* True if subscribers of the channel get the tags of events, by the app's record in force, else by the server. */
static bool shows_tags(const struct channel_hub *hub, const struct channel *channel) {
    const struct app *app = slot_app(channel->slot);

    return app_delta_shows_tags(app != NULL ? app_delta_find(app, channel_name(channel)) : NULL,
                                hub->settings.show_tags);
}

/* The frame of an event with tags. */
static __attribute__((noinline)) struct frame *
tagged_frame(const struct channel_hub *hub, const struct channel *channel, const struct channel_event *event) {
    struct buffer tags = {0};
    struct frame *frame;

    if (shows_tags(hub, channel))
        tags_append_json(&tags, event->tags);
    frame = event_frame(event->event, channel_name(channel), event->data, event->user_id, buffer_slice(&tags));
    buffer_dispose(&tags);
    return frame;
}

/* Lets the filters of subscriptions apply to the event, if they do. */
static void make_filterable(struct publication *publication, const struct channel_event *event) {
    publication->filterable = publication->channel->type.kind != CHANNEL_USER && !event_is_protocol(event->event);
    if (publication->filterable)
        publication->tags = tags_ref(event->tags);
}

/* False if another node's event is newer than this one. The caller holds the channel's mutex. */
static bool takes_place(struct channel *channel, const struct channel_event *event) {
    return channel->cluster == NULL || kept_stamp_take(channel, event->stamp);
}

/* Tries to publish an event to a channel; false if the channel is dead. `cached` is what a cache channel keeps of it.
 */
static bool publish_to(struct channel_hub *hub, struct channel *channel, struct worker *worker,
                       const struct channel_event *event, struct cached_event *cached, struct channel_counts *counts) {
    struct delta_state *deltas = atomic_load_explicit(&channel->deltas, memory_order_acquire);
    struct delta_step step;
    bool keep = event->keep && channel->type.caches;
    struct publication *publication;
    struct cached_event *old = NULL;
    bool dead, unused = false, kept_text = false;
    struct frame *frame;

    if (__builtin_expect(event->tags != NULL, false))
        frame = tagged_frame(hub, channel, event);
    else
        frame = event_frame(event->event, channel_name(channel), event->data, event->user_id, SLICE(""));
    frame->droppable = true;
    publication = publication_create(hub, channel, frame, worker->now_ns);
    publication->except_stream = event->except_stream;
    if (event->except_socket != NULL) {
        publication->has_except_socket = true;
        publication->except_socket = *event->except_socket;
    }

    if (hub->settings.filters)
        make_filterable(publication, event);
    if (__builtin_expect(deltas != NULL, false))
        delta_step_begin(&step, deltas, worker, event, publication);

    pthread_mutex_lock(&channel->mutex);
    dead = channel->dead;
    if (!dead) {
        publication_post(publication);
        if (event->webhook != NULL)
            webhook_draft_post(event->webhook, 0);
        if (keep && takes_place(channel, event)) {
            old = replace_cached(channel, cached);
            unused = channel->dead = channel_is_unused(channel);
        }
        if (counts != NULL)
            *counts = channel_counts_of(channel);
    }
    pthread_mutex_unlock(&channel->mutex);

    if (__builtin_expect(deltas != NULL, false))
        kept_text = delta_step_end(&step, publication, !dead);
    publication_finish(publication);
    if (__builtin_expect(kept_text, false))
        delta_state_shrink(hub, channel->slot, worker);
    if (keep && !dead)
        kept_events_changed(hub, channel, worker->now_ms);
    cached_event_unref(old);
    if (dead || unused)
        channel_unlink(channel); /* the thread that marked it dead may not have unlinked it yet */
    return !dead;
}

/* What another node says at most of the time that an event has left; more would overflow. */
#define LEFT_MS_MAX (UINT64_C(1) << 48)

/* What channels share of an event for which there was no room: the others do not try again. */
static struct cached_event nothing_kept;

static struct cached_event *create_if_room(struct channel_hub *hub, struct app_slot *slot, uint64_t now_ms,
                                           const struct channel_event *event) {
    if (!kept_events_make_room(hub, slot, cached_event_bytes(event->event.length, event->data.length), now_ms))
        return NULL;
    if (event->relayed && event->stamp.ms != 0)
        return cached_event_create(slot, event, now_ms, event->left_ms < LEFT_MS_MAX ? event->left_ms : LEFT_MS_MAX);
    return cached_event_create(slot, event, now_ms, hub->settings.cache_ttl_s * UINT64_C(1000));
}

/* Returns a reference to what the event's cache channels keep: they share it. NULL: there is no room for it. */
static struct cached_event *cached_event_of(struct channel_hub *hub, struct app_slot *slot, const struct worker *worker,
                                            const struct channel_event *event) {
    struct cached_event *cached;

    if (event->shared == NULL)
        return create_if_room(hub, slot, worker->now_ms, event);
    cached = *event->shared;
    if (cached == NULL) {
        cached = create_if_room(hub, slot, worker->now_ms, event);
        *event->shared = cached != NULL ? cached : &nothing_kept;
    }
    return *event->shared != &nothing_kept ? cached_event_ref(*event->shared) : NULL;
}

/* `kept`: the channel keeps the event. */
static void publish_to_name(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                            const struct channel_event *event, bool kept, struct channel_counts *counts) {
    const struct channel_relay *relay = channel_hub_relay(hub);
    struct cached_event *cached = NULL;
    struct channel *channel;
    bool done;

    if (__builtin_expect(relay != NULL, false) && !event->relayed)
        relay->published(relay->context, slot, name, event);
    if (counts != NULL)
        *counts = (struct channel_counts){0};
    if (kept)
        cached = cached_event_of(hub, slot, worker, event);
    do {
        channel = cached != NULL ? channel_find_or_create(hub, slot, name) : channel_find(slot, name);
        if (channel == NULL) /* nobody subscribes to it, and nothing is to be kept */
            break;
        done = publish_to(hub, channel, worker, event, cached, counts);
        channel_unref(channel);
    } while (!done);
    cached_event_unref(cached);
}

/* With other nodes: the time that they are told of an event that is kept is above those of all events that the channel
 * had. */
static void publish_stamped(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                            const struct channel_event *event, struct channel_counts *counts) {
    struct channel_event stamped = *event;

    stamped.stamp = kept_stamp_next(hub, slot, name);
    if (hub->keeper != NULL)
        hub->keeper->kept(hub->keeper->context, slot, name, &stamped);
    publish_to_name(hub, slot, worker, name, &stamped, true, counts);
}

void channel_publish(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                     const struct channel_event *event, struct channel_counts *counts) {
    bool kept = event->keep && channel_type_of(name).caches;

    if (__builtin_expect(kept && hub->hooks != NULL && !event->relayed, false))
        publish_stamped(hub, slot, worker, name, event, counts);
    else
        publish_to_name(hub, slot, worker, name, event, kept, counts);
}

/* Keeps the event if the channel has none, or, with a stamp, an older one. False if the channel is dead. */
static bool keep_in(struct channel_hub *hub, struct channel *channel, const struct worker *worker,
                    struct cached_event *cached, struct channel_stamp stamp) {
    struct cached_event *old = NULL;
    bool dead;

    pthread_mutex_lock(&channel->mutex);
    dead = channel->dead;
    if (!dead && (stamp.ms != 0 ? kept_stamp_take(channel, stamp) : channel->cached == NULL))
        old = replace_cached(channel, cached);
    pthread_mutex_unlock(&channel->mutex);
    cached_event_unref(old);
    if (dead)
        channel_unlink(channel);
    else
        kept_events_changed(hub, channel, worker->now_ms);
    return !dead;
}

void channel_keep(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                  const struct channel_event *event, uint32_t ttl_s) {
    struct cached_event *cached = NULL;
    struct channel *channel;
    bool done = false;

    if (kept_events_make_room(hub, slot, cached_event_bytes(event->event.length, event->data.length), worker->now_ms))
        cached = cached_event_create(slot, event, worker->now_ms, ttl_s * UINT64_C(1000));
    while (cached != NULL && !done && (channel = channel_find_or_create(hub, slot, name)) != NULL) {
        done = keep_in(hub, channel, worker, cached, (struct channel_stamp){0});
        channel_unref(channel);
    }
    cached_event_unref(cached);
}

enum remote_result channel_remote_cached(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                         struct slice name, const struct channel_event *event, uint64_t left_ms) {
    struct channel *channel = channel_find(slot, name);
    struct channel_event kept = *event;
    struct cached_event *cached;
    bool known = channel != NULL && channel->type.caches && remote_is_wanted(channel);

    kept.relayed = true;
    kept.left_ms = left_ms;
    cached = known && event->stamp.ms != 0 ? create_if_room(hub, slot, worker->now_ms, &kept) : NULL;
    if (cached != NULL)
        keep_in(hub, channel, worker, cached, event->stamp);
    cached_event_unref(cached);
    if (channel != NULL)
        channel_unref(channel);
    return !known ? REMOTE_UNKNOWN : cached != NULL ? REMOTE_DONE : REMOTE_FULL;
}

const char *channel_relay_refusal(struct channel_hub *hub, const struct app_slot *slot, size_t bytes) {
    const struct channel_relay *relay = channel_hub_relay(hub);

    return relay != NULL ? relay->refusal(relay->context, slot, bytes) : NULL;
}

size_t channel_relay_most_bytes(struct channel_hub *hub) {
    const struct channel_relay *relay = channel_hub_relay(hub);

    return relay != NULL && relay->most_bytes != NULL ? relay->most_bytes(relay->context) : 0;
}

void channel_event_end(struct cached_event *shared) {
    if (shared != &nothing_kept)
        cached_event_unref(shared);
}

void channel_terminate_user(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice user_id,
                            bool reconnect) {
    const struct channel_relay *relay = channel_hub_relay(hub);

    if (relay != NULL)
        relay->terminated(relay->context, slot, user_id, reconnect);
    channel_terminate_relayed(hub, slot, worker, user_id, reconnect, 0);
}

void channel_terminate_relayed(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                               struct slice user_id, bool reconnect, uint64_t waited_ms) {
    struct buffer name = {0};
    struct channel *channel;

    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&name, user_id);
    channel = channel_find(slot, buffer_slice(&name));
    buffer_dispose(&name);
    if (channel != NULL) {
        struct publication *publication = publication_create(hub, channel, NULL, worker->now_ns);
        publication->reconnect = reconnect;
        /* Without a wait the channel's numbers decide which connections were there. */
        publication->born_ns = waited_ms != 0 ? (worker->now_ms - waited_ms) * 1000000 : UINT64_MAX;
        pthread_mutex_lock(&channel->mutex);
        publication_post(publication);
        pthread_mutex_unlock(&channel->mutex);
        publication_finish(publication);
        channel_unref(channel);
    }
}
