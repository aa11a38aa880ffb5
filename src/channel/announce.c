#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "channel/channel_internal.h"
#include "net/websocket.h"

/* With more subscribers than this, a channel sends its subscription_count at most once per interval. */
#define COUNT_AT_ONCE_MAX 100
#define COUNT_INTERVAL_MS 5000

/* --- members and watchlists --- */

/* Encodes member_removed with `{\"user_id\":...}`, or member_added, which also has user_info. */
static struct frame *member_frame(struct slice channel, const struct presence_member *member, bool added) {
    struct buffer data = {0};
    struct frame *frame;

    buffer_append(&data, SLICE("\"{\\\"user_id\\\":"));
    buffer_append(&data, member->id_escaped);
    if (added) {
        buffer_append(&data, SLICE(",\\\"user_info\\\":"));
        buffer_append(&data, member->info_escaped);
    }
    buffer_append(&data, SLICE("}\""));
    frame = event_frame(added ? SLICE("\"pusher_internal:member_added\"") : SLICE("\"pusher_internal:member_removed\""),
                        channel, buffer_slice(&data), SLICE(""), NULL);
    buffer_dispose(&data);
    return frame;
}

static struct publication *member_publication(struct channel_hub *hub, struct channel *channel,
                                              const struct presence_member *member, bool added, uint64_t now_ns) {
    return publication_create(hub, channel, member_frame(channel_name(channel), member, added), now_ns);
}

/* Creates the event that tells a user's watchers that the user is online or offline. */
static struct publication *watch_publication(struct channel_hub *hub, struct channel *channel, bool online,
                                             uint64_t now_ns) {
    struct slice id = slice_skip(channel_name(channel), sizeof USER_CHANNEL_PREFIX - 1);
    struct publication *publication;
    struct buffer inner = {0}, data = {0};
    struct slice parts[3];

    buffer_append(&inner, online ? SLICE("{\"events\":[{\"name\":\"online\",\"user_ids\":[")
                                 : SLICE("{\"events\":[{\"name\":\"offline\",\"user_ids\":["));
    json_append_string(&inner, id);
    buffer_append(&inner, SLICE("]}]}"));
    json_append_string(&data, buffer_slice(&inner));
    parts[0] = SLICE("{\"event\":\"pusher_internal:watchlist_events\",\"data\":");
    parts[1] = buffer_slice(&data);
    parts[2] = SLICE("}");
    publication = publication_create(hub, channel, websocket_text_frame(parts, 3), now_ns);
    publication->to_watchers = true;
    buffer_dispose(&inner);
    buffer_dispose(&data);
    return publication;
}

/* --- subscription_count --- */

/* Creates a publication whose frame has space for any count; fill_count writes the event under the mutex. */
static struct publication *count_publication(struct channel_hub *hub, struct channel *channel, uint64_t now_ns) {
    return publication_create(hub, channel, frame_create(channel->name_length + 160u), now_ns);
}

static void fill_count(struct publication *publication) {
    struct channel *channel = publication->channel;
    struct frame *frame = publication->frame;
    char count[16];
    int digits = snprintf(count, sizeof count, "%u", channel->subscriber_count);
    const struct slice parts[] = {
        SLICE("{\"event\":\"pusher_internal:subscription_count\",\"channel\":\""),
        channel_name(channel),
        SLICE("\",\"data\":\"{\\\"subscription_count\\\":"),
        {count, (size_t)digits},
        SLICE("}\"}"),
    };
    size_t length = 0;
    char *at;

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        length += parts[i].length;
    at = frame->bytes + websocket_header_write((uint8_t *)frame->bytes, WEBSOCKET_TEXT, length);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        memcpy(at, parts[i].data, parts[i].length);
        at += parts[i].length;
    }
    frame->length = (uint32_t)(at - frame->bytes);
}

static void post_count(struct publication *publication, uint64_t now_ms) {
    publication->channel->count_sent_ms = now_ms;
    fill_count(publication);
    publication_post(publication);
}

struct count_timer {
    struct timer timer;
    struct worker *worker;
    struct channel_hub *hub;
    struct channel *channel; /* holds a reference */
};

static void count_timer_fired(struct timer *timer) {
    struct count_timer *count = container_of(timer, struct count_timer, timer);
    struct channel *channel = count->channel;
    struct publication *publication = count_publication(count->hub, channel, count->worker->now_ns);

    pthread_mutex_lock(&channel->mutex);
    channel->count_due = false;
    if (channel->subscriber_count != 0)
        post_count(publication, count->worker->now_ms);
    pthread_mutex_unlock(&channel->mutex);
    publication_finish(publication);
    channel_unref(channel);
    free(count);
}

static void set_count_timer(struct channel_hub *hub, struct channel *channel, struct worker *worker) {
    struct count_timer *count = alloc_zero(sizeof *count);

    count->timer.fire = count_timer_fired;
    count->worker = worker;
    count->hub = hub;
    count->channel = channel_ref(channel);
    timer_set(&worker->timers, &count->timer, worker->now_ms, COUNT_INTERVAL_MS);
}

/* --- the events of a join or leave --- */

void announcements_create(struct announcements *announcements, struct channel_hub *hub, struct channel *channel,
                          struct worker *worker, const struct presence_member *member, bool joins, bool counts_wanted) {
    enum channel_kind kind = channel->type.kind;

    *announcements = (struct announcements){.worker = worker, .hub = hub, .channel = channel};
    if (member != NULL)
        announcements->member = member_publication(hub, channel, member, joins, worker->now_ns);
    if (kind == CHANNEL_USER)
        announcements->watch = watch_publication(hub, channel, joins, worker->now_ns);
    if (counts_wanted && kind != CHANNEL_PRESENCE && kind != CHANNEL_USER)
        announcements->count = count_publication(hub, channel, worker->now_ns);
}

void announcements_post_count(struct announcements *announcements) {
    struct channel *channel = announcements->channel;
    uint64_t now_ms = announcements->worker->now_ms;

    if (announcements->count == NULL || channel->subscriber_count == 0 || channel->count_due)
        return;
    if (channel->subscriber_count > COUNT_AT_ONCE_MAX && channel->count_sent_ms != 0 &&
        now_ms - channel->count_sent_ms < COUNT_INTERVAL_MS) {
        channel->count_due = true;
        announcements->count_later = true;
        return;
    }
    post_count(announcements->count, now_ms);
}

void announcements_finish(struct announcements *announcements) {
    publication_finish(announcements->member);
    publication_finish(announcements->watch);
    publication_finish(announcements->count);
    if (announcements->count_later)
        set_count_timer(announcements->hub, announcements->channel, announcements->worker);
}
