#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "channel/channel_internal.h"
#include "net/websocket.h"

/* With more subscribers than this, a channel sends its subscription_count at most once per interval. */
#define COUNT_AT_ONCE_MAX 100
#define COUNT_INTERVAL_MS 5000

/* The webhook events of joins and leaves. */
#define OCCUPANCY_WEBHOOKS (WEBHOOK_CHANNEL_OCCUPIED | WEBHOOK_CHANNEL_VACATED)
#define MEMBER_WEBHOOKS (WEBHOOK_MEMBER_ADDED | WEBHOOK_MEMBER_REMOVED)
#define ANNOUNCED_WEBHOOKS (OCCUPANCY_WEBHOOKS | MEMBER_WEBHOOKS | WEBHOOK_SUBSCRIPTION_COUNT)

/* --- members and watchlists --- */

/* Encodes member_removed with `{\"user_id\":...}`, or member_added, which also has user_info. */
static struct frame *member_frame(struct slice channel, const struct presence_member *member, bool added) {
    struct buffer data = {0};
    struct frame *frame;

    buffer_append(&data, SLICE("\"{\\\"user_id\\\":"));
    buffer_append(&data, presence_member_id_escaped(member));
    if (added) {
        buffer_append(&data, SLICE(",\\\"user_info\\\":"));
        buffer_append(&data, presence_member_info_escaped(member));
    }
    buffer_append(&data, SLICE("}\""));
    frame = event_frame(added ? SLICE("\"pusher_internal:member_added\"") : SLICE("\"pusher_internal:member_removed\""),
                        channel, buffer_slice(&data), SLICE(""), SLICE(""));
    buffer_dispose(&data);
    return frame;
}

struct publication *member_publication(struct channel_hub *hub, struct channel *channel,
                                       const struct presence_member *member, bool added, uint64_t now_ns) {
    struct frame *frame = member_frame(channel_name(channel), member, added);
    struct publication *publication;

    frame->uncounted = true;
    publication = publication_create(hub, channel, frame, now_ns);
    publication->about_member = true;
    return publication;
}

struct publication *watch_publication(struct channel_hub *hub, struct channel *channel, bool online, uint64_t now_ns) {
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
    int digits = snprintf(count, sizeof count, "%u", channel_subscriptions(channel));
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

/* Posts the current count, to the subscribers and to webhooks. */
static void post_count(struct announcements *announcements) {
    struct channel *channel = announcements->channel;

    channel->count_sent_ms = announcements->worker->now_ms;
    channel->count_sent = channel_subscriptions(channel);
    if (announcements->count != NULL && channel->subscriber_count != 0) {
        fill_count(announcements->count);
        publication_post(announcements->count);
    }
    if (announcements->has_webhooks)
        webhook_draft_post(&announcements->count_webhook, channel->subscriber_count);
}

static inline void begin_announcements(struct announcements *announcements, struct channel_hub *hub,
                                       struct channel *channel, struct worker *worker, const struct app *app) {
    announcements->member = announcements->watch = announcements->count = NULL;
    announcements->worker = worker;
    announcements->hub = hub;
    announcements->channel = channel;
    announcements->count_later = false;
    announcements->has_webhooks = app != NULL && app->webhook_kinds != 0 && channel->type.kind != CHANNEL_USER;
    if (!announcements->has_webhooks)
        return;
    /* With other nodes one of them sends the events of a channel: it is told of the changes of our own set. */
    announcements->wanted_webhooks = hub->settings.webhooks != NULL && channel->cluster == NULL
                                         ? app_webhook_kinds_of(app, ANNOUNCED_WEBHOOKS, channel_name(channel))
                                         : 0;
    announcements->occupancy_webhook = announcements->member_webhook = announcements->count_webhook =
        (struct webhook_draft){0};
}

/* Makes subscription_count, for the subscribers and for webhooks. */
static void create_count(struct announcements *announcements, const struct app *app) {
    struct channel *channel = announcements->channel;

    if (!app_wants_subscription_count(app) || channel->type.kind == CHANNEL_PRESENCE)
        return;
    announcements->count = count_publication(announcements->hub, channel, announcements->worker->now_ns);
    if ((announcements->wanted_webhooks & WEBHOOK_SUBSCRIPTION_COUNT) != 0)
        webhook_draft_make(&announcements->count_webhook, announcements->hub->settings.webhooks, app,
                           WEBHOOK_SUBSCRIPTION_COUNT, &(struct webhook_details){.channel = channel_name(channel)});
}

static inline void finish_events(struct announcements *announcements) {
    publication_finish(announcements->member);
    publication_finish(announcements->watch);
    publication_finish(announcements->count);
    if (announcements->has_webhooks) {
        webhook_draft_end(&announcements->occupancy_webhook);
        webhook_draft_end(&announcements->member_webhook);
        webhook_draft_end(&announcements->count_webhook);
    }
}

struct count_timer {
    struct timer timer;
    struct worker *worker;
    struct channel_hub *hub;
    struct channel *channel; /* holds a reference */
};

/* The record in force of the channel's app; NULL if the channel has no subscribers: its slot may then be freed. Else it
 * is there until the end of the turn. */
static const struct app *app_of_occupied(struct channel *channel) {
    bool occupied;

    pthread_mutex_lock(&channel->mutex);
    occupied = channel->subscriber_count != 0;
    pthread_mutex_unlock(&channel->mutex);
    return occupied ? slot_app(channel->slot) : NULL;
}

static void count_timer_fired(struct timer *timer) {
    struct count_timer *count = container_of(timer, struct count_timer, timer);
    struct channel *channel = count->channel;
    const struct app *app = app_of_occupied(channel);
    struct announcements announcements;

    begin_announcements(&announcements, count->hub, channel, count->worker, app);
    if (announcements.has_webhooks)
        create_count(&announcements, app);
    pthread_mutex_lock(&channel->mutex);
    channel->count_due = false;
    if (channel_subscriptions(channel) != channel->count_sent)
        post_count(&announcements);
    pthread_mutex_unlock(&channel->mutex);
    finish_events(&announcements);
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

/* Makes the events of webhooks. Both of a pair are made if one of them is wanted: an event that comes soon after its
 * opposite is not sent, nor is the opposite. */
static void draft_webhooks(struct announcements *announcements, const struct presence_member *member, bool joins,
                           const struct app *app) {
    struct webhook_outlet *outlet = announcements->hub->settings.webhooks;
    struct webhook_details details = {.channel = channel_name(announcements->channel)};

    if ((announcements->wanted_webhooks & OCCUPANCY_WEBHOOKS) != 0)
        webhook_draft_make(&announcements->occupancy_webhook, outlet, app,
                           joins ? WEBHOOK_CHANNEL_OCCUPIED : WEBHOOK_CHANNEL_VACATED, &details);
    if (member == NULL || (announcements->wanted_webhooks & MEMBER_WEBHOOKS) == 0)
        return;
    details.user_id = presence_member_id(member);
    webhook_draft_make(&announcements->member_webhook, outlet, app,
                       joins ? WEBHOOK_MEMBER_ADDED : WEBHOOK_MEMBER_REMOVED, &details);
}

void announcements_create(struct announcements *announcements, struct channel_hub *hub, struct channel *channel,
                          struct worker *worker, const struct presence_member *member, bool joins,
                          const struct app *app) {
    begin_announcements(announcements, hub, channel, worker, app);
    if (member != NULL)
        announcements->member = member_publication(hub, channel, member, joins, worker->now_ns);
    if (channel->type.kind == CHANNEL_USER)
        announcements->watch = watch_publication(hub, channel, joins, worker->now_ns);
    if (announcements->has_webhooks) {
        draft_webhooks(announcements, member, joins, app);
        create_count(announcements, app);
    }
    if (__builtin_expect(channel->cluster != NULL, false))
        own_news_create(&announcements->news, channel, app);
}

void announcements_create_count(struct announcements *announcements, struct channel_hub *hub, struct channel *channel,
                                struct worker *worker, const struct app *app) {
    begin_announcements(announcements, hub, channel, worker, app);
    if (announcements->has_webhooks)
        create_count(announcements, app);
}

void announcements_post_occupancy(struct announcements *announcements) {
    if (announcements->watch != NULL && !cluster_is_occupied(announcements->channel->cluster))
        publication_post(announcements->watch);
    if (announcements->has_webhooks)
        webhook_draft_post(&announcements->occupancy_webhook, 0);
}

void announcements_post_member(struct announcements *announcements) {
    publication_post(announcements->member);
    if (announcements->has_webhooks)
        webhook_draft_post(&announcements->member_webhook, 0);
}

void announcements_post_count(struct announcements *announcements) {
    struct channel *channel = announcements->channel;
    uint64_t now_ms = announcements->worker->now_ms;

    if (announcements->count == NULL)
        return;
    if (channel_subscriptions(channel) <= COUNT_AT_ONCE_MAX || channel->count_sent_ms == 0 ||
        (!channel->count_due && now_ms - channel->count_sent_ms >= COUNT_INTERVAL_MS)) {
        post_count(announcements);
    } else if (!channel->count_due) {
        channel->count_due = true;
        announcements->count_later = true;
    }
}

void announcements_finish_count(struct announcements *announcements) {
    finish_events(announcements);
    if (announcements->count_later)
        set_count_timer(announcements->hub, announcements->channel, announcements->worker);
}

void announcements_finish(struct announcements *announcements) {
    announcements_finish_count(announcements);
    if (__builtin_expect(announcements->channel->cluster != NULL, false))
        own_news_finish(&announcements->news, announcements->channel, announcements->worker);
}
