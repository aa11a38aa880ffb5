#include "channel/channel_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "net/websocket.h"

/* Above this many subscribers a channel's subscription_count goes out at most once in so long. */
#define COUNT_AT_ONCE_MAX 100
#define COUNT_INTERVAL_MS 5000

struct slice channel_name(const struct channel *channel) {
    return (struct slice){channel->name, channel->name_length};
}

struct channel_type channel_type(const struct channel *channel) {
    return channel->type;
}

struct slice presence_member_id(const struct presence_member *member) {
    return member->id_json;
}

/* --- the audience on this worker --- */

static void audience_add(struct audience_part *part, struct stream *stream, struct subscription *subscription,
                         uint64_t joined) {
    if (part->count == part->capacity) {
        part->capacity = part->capacity < 4 ? 4 : part->capacity + part->capacity / 2;
        part->entries = alloc_array(part->entries, part->capacity, sizeof part->entries[0]);
    }
    subscription->index = part->count;
    part->entries[part->count++] = (struct audience_entry){stream, subscription, joined};
    if (joined > part->newest)
        part->newest = joined;
}

static void audience_remove(struct audience_part *part, uint32_t index) {
    part->count--;
    if (index != part->count) {
        part->entries[index] = part->entries[part->count];
        part->entries[index].subscription->index = index;
    }
    if (part->count == 0) {
        free(part->entries);
        part->entries = NULL;
        part->capacity = 0;
    }
}

/* --- what channels tell by themselves --- */

/* `{\"user_id\":...}` or with user_info: the data of member_removed and member_added. */
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

/* Tells the watchers of a user that it came or went. */
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

/* A publication whose frame has room for any count; count_fill writes it under the mutex. */
static struct publication *count_publication(struct channel_hub *hub, struct channel *channel, uint64_t now_ns) {
    return publication_create(hub, channel, frame_create(channel->name_length + 160u), now_ns);
}

static void count_fill(struct publication *publication) {
    struct channel *channel = publication->channel;
    struct frame *frame = publication->frame;
    char count[16];
    int digits = snprintf(count, sizeof count, "%u", channel->subscribers);
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

/*
 * The count changed: posts it, or finds that a timer has to do it later. Under the mutex. True if the caller is to set
 * that timer, after the mutex.
 */
static bool count_changed(struct publication *publication, uint64_t now_ms, uint64_t *workers) {
    struct channel *channel = publication->channel;

    if (channel->subscribers == 0 || channel->count_due)
        return false;
    if (channel->subscribers > COUNT_AT_ONCE_MAX && channel->count_sent_ms != 0 &&
        now_ms - channel->count_sent_ms < COUNT_INTERVAL_MS) {
        channel->count_due = true;
        return true;
    }
    channel->count_sent_ms = now_ms;
    count_fill(publication);
    *workers = publication_post(publication);
    return false;
}

struct count_timer {
    struct timer timer;
    struct worker *worker;
    struct channel_hub *hub;
    struct channel *channel; /* holds a reference */
};

static void count_timer_fired(struct timer *timer) {
    struct count_timer *due = container_of(timer, struct count_timer, timer);
    struct channel *channel = due->channel;
    struct publication *publication = count_publication(due->hub, channel, due->worker->now_ns);
    uint64_t workers = 0;

    pthread_mutex_lock(&channel->mutex);
    channel->count_due = false;
    if (channel->subscribers != 0) {
        channel->count_sent_ms = due->worker->now_ms;
        count_fill(publication);
        workers = publication_post(publication);
    }
    pthread_mutex_unlock(&channel->mutex);
    publication_finish(publication, workers);
    channel_unref(channel);
    free(due);
}

static void set_count_timer(struct channel_hub *hub, struct channel *channel, struct worker *worker) {
    struct count_timer *due = alloc_zero(sizeof *due);

    due->timer.fire = count_timer_fired;
    due->worker = worker;
    due->hub = hub;
    due->channel = channel_ref(channel);
    timer_set(&worker->timers, &due->timer, worker->now_ms, COUNT_INTERVAL_MS);
}

/* --- joining --- */

enum attempt { ATTEMPT_DONE, ATTEMPT_FULL, ATTEMPT_DEAD, ATTEMPT_AGAIN };

/* Grows the table of members before it is needed, so that nothing is allocated by its size under the mutex. */
static void make_room_for_member(struct channel *channel) {
    struct presence_member **buckets;
    uint32_t wanted;

    pthread_mutex_lock(&channel->mutex);
    wanted = presence_wants_buckets(&channel->members);
    pthread_mutex_unlock(&channel->mutex);
    if (wanted == 0)
        return;
    buckets = alloc_zero(wanted * sizeof(struct presence_member *));
    pthread_mutex_lock(&channel->mutex);
    if (presence_wants_buckets(&channel->members) == wanted)
        buckets = presence_rehash(&channel->members, buckets, wanted);
    pthread_mutex_unlock(&channel->mutex);
    free(buckets);
}

/* Adds the candidate to the members, or one more connection to the member that has its id. Under the mutex. */
static enum attempt join_members(struct channel *channel, struct presence_member *candidate, uint32_t max_members,
                                 struct publication *added, uint64_t *workers, struct presence_member **member) {
    struct presence_members *members = &channel->members;

    *member = presence_find(members, candidate->id, candidate->hash);
    if (*member == NULL) {
        if (max_members != 0 && presence_count(members) >= max_members)
            return ATTEMPT_FULL;
        if (presence_wants_buckets(members) != 0)
            return ATTEMPT_AGAIN;
        presence_add(members, candidate);
        *member = candidate;
        *workers = publication_post(added);
    }
    (*member)->connections++;
    return ATTEMPT_DONE;
}

struct joining {
    struct channel_hub *hub;
    struct stream *stream;
    struct subscription *subscription;
    struct channel_join *join;
    struct presence_member *candidate; /* goes to the table if it is a new member */
};

/* Everything that is one step with the channel's other events. */
static enum attempt try_subscribe(struct joining *joining, struct channel *channel) {
    struct worker *worker = joining->stream->worker;
    struct channel_join *join = joining->join;
    struct audience_part *part = &channel->audience.parts[worker->index];
    bool counts = join->counts_wanted && channel->type.kind != CHANNEL_PRESENCE && channel->type.kind != CHANNEL_USER;
    struct publication *added = NULL, *online = NULL, *counted = NULL;
    uint64_t added_to = 0, online_to = 0, counted_to = 0, joined = 0;
    struct cached_event *expired = NULL;
    bool was_idle = false, set_timer = false, unused = false;
    struct presence_member *member = NULL;
    enum attempt attempt = ATTEMPT_DONE;

    if (joining->candidate != NULL) {
        make_room_for_member(channel);
        added = member_publication(joining->hub, channel, joining->candidate, true, worker->now_ns);
    }
    if (channel->type.kind == CHANNEL_USER)
        online = watch_publication(joining->hub, channel, true, worker->now_ns);
    if (counts)
        counted = count_publication(joining->hub, channel, worker->now_ns);

    pthread_mutex_lock(&channel->mutex);
    if (channel->dead)
        attempt = ATTEMPT_DEAD;
    else if (joining->candidate != NULL)
        attempt = join_members(channel, joining->candidate, join->max_members, added, &added_to, &member);
    if (attempt == ATTEMPT_DONE) {
        if (online != NULL && channel->subscribers == 0)
            online_to = publication_post(online);
        expired = channel_take_expired(channel, worker->now_ms);
        was_idle = channel->subscribers == 0 && channel->type.caches;
        channel->subscribers++;
        channel->audience.workers |= UINT64_C(1) << worker->index;
        joined = channel->number;
        join->members = presence_snapshot(&channel->members);
        if (channel->cached != NULL) {
            join->cached = channel->cached->frame;
            frame_ref(join->cached);
        }
        if (counted != NULL)
            set_timer = count_changed(counted, worker->now_ms, &counted_to);
    } else if (attempt == ATTEMPT_FULL) {
        unused = channel->dead = channel_is_unused(channel);
    }
    pthread_mutex_unlock(&channel->mutex);

    if (added != NULL)
        publication_finish(added, added_to);
    if (online != NULL)
        publication_finish(online, online_to);
    if (counted != NULL)
        publication_finish(counted, counted_to);
    cached_event_unref(expired);
    if (set_timer)
        set_count_timer(joining->hub, channel, worker);
    if (was_idle)
        channel_idle_end(joining->hub, channel);
    if (attempt == ATTEMPT_DEAD || unused)
        channel_unlink(channel);
    if (attempt == ATTEMPT_DONE) {
        if (member != NULL && member == joining->candidate)
            joining->candidate = NULL; /* the table's now */
        *joining->subscription =
            (struct subscription){.channel = channel_ref(channel), .stream = joining->stream, .member = member};
        audience_add(part, joining->stream, joining->subscription, joined);
    }
    return attempt;
}

enum channel_joined channel_subscribe(struct channel_hub *hub, struct app_slot *slot, struct stream *stream,
                                      struct slice name, struct subscription *subscription, struct channel_join *join) {
    struct joining joining = {.hub = hub, .stream = stream, .subscription = subscription, .join = join};
    enum attempt attempt;

    join->members = NULL;
    join->cached = NULL;
    if (channel_type_of(name).kind == CHANNEL_PRESENCE)
        joining.candidate = presence_member_create(join->user_id, join->user_info);
    do {
        struct channel *channel = channel_find_or_create(hub, slot, name);
        attempt = try_subscribe(&joining, channel);
        channel_unref(channel);
    } while (attempt == ATTEMPT_DEAD || attempt == ATTEMPT_AGAIN);
    presence_member_unref(joining.candidate);
    return attempt == ATTEMPT_FULL ? CHANNEL_FULL : CHANNEL_JOINED;
}

void channel_look_again(const struct subscription *subscription, struct channel_join *join) {
    struct channel *channel = subscription->channel;
    struct cached_event *expired;

    join->cached = NULL;
    pthread_mutex_lock(&channel->mutex);
    expired = channel_take_expired(channel, subscription->stream->worker->now_ms);
    join->members = presence_snapshot(&channel->members);
    if (channel->cached != NULL) {
        join->cached = channel->cached->frame;
        frame_ref(join->cached);
    }
    pthread_mutex_unlock(&channel->mutex);
    cached_event_unref(expired);
}

void channel_watch_user(struct channel_hub *hub, struct app_slot *slot, struct stream *stream, struct slice user_id,
                        struct subscription *subscription, bool *online) {
    struct worker *worker = stream->worker;
    struct buffer name = {0};
    bool dead;

    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&name, user_id);
    do {
        struct channel *channel = channel_find_or_create(hub, slot, buffer_slice(&name));
        uint64_t joined = 0;

        pthread_mutex_lock(&channel->mutex);
        dead = channel->dead;
        if (!dead) {
            channel->watchers++;
            channel->watching.workers |= UINT64_C(1) << worker->index;
            *online = channel->subscribers != 0;
            joined = channel->number;
        }
        pthread_mutex_unlock(&channel->mutex);
        if (dead) {
            channel_unlink(channel);
        } else {
            *subscription = (struct subscription){.channel = channel_ref(channel), .stream = stream, .watcher = true};
            audience_add(&channel->watching.parts[worker->index], stream, subscription, joined);
        }
        channel_unref(channel);
    } while (dead);
    buffer_dispose(&name);
}

/* --- leaving --- */

static void leave_watched(struct subscription *subscription) {
    struct channel *channel = subscription->channel;
    unsigned worker = subscription->stream->worker->index;
    struct audience_part *part = &channel->watching.parts[worker];
    bool dead;

    pthread_mutex_lock(&channel->mutex);
    if (part->count == 1)
        channel->watching.workers &= ~(UINT64_C(1) << worker);
    channel->watchers--;
    dead = channel->dead = channel_is_unused(channel);
    pthread_mutex_unlock(&channel->mutex);
    audience_remove(part, subscription->index);
    if (dead)
        channel_unlink(channel);
}

static void leave_audience(struct channel_hub *hub, struct subscription *subscription, bool counts_wanted) {
    struct channel *channel = subscription->channel;
    struct worker *worker = subscription->stream->worker;
    struct audience_part *part = &channel->audience.parts[worker->index];
    bool counts = counts_wanted && channel->type.kind != CHANNEL_PRESENCE && channel->type.kind != CHANNEL_USER;
    struct publication *removed = NULL, *offline = NULL, *counted = NULL;
    uint64_t removed_to = 0, offline_to = 0, counted_to = 0;
    struct presence_member *member = subscription->member;
    struct cached_event *expired;
    bool dead, idle, set_timer = false, member_gone = false;

    if (member != NULL)
        removed = member_publication(hub, channel, member, false, worker->now_ns);
    if (channel->type.kind == CHANNEL_USER)
        offline = watch_publication(hub, channel, false, worker->now_ns);
    if (counts)
        counted = count_publication(hub, channel, worker->now_ns);

    pthread_mutex_lock(&channel->mutex);
    if (part->count == 1)
        channel->audience.workers &= ~(UINT64_C(1) << worker->index);
    channel->subscribers--;
    if (member != NULL && --member->connections == 0) {
        presence_remove(&channel->members, member);
        member_gone = true;
        removed_to = publication_post(removed);
    }
    if (offline != NULL && channel->subscribers == 0)
        offline_to = publication_post(offline);
    if (counted != NULL)
        set_timer = count_changed(counted, worker->now_ms, &counted_to);
    expired = channel_take_expired(channel, worker->now_ms);
    dead = channel->dead = channel_is_unused(channel);
    idle = channel->subscribers == 0 && channel->cached != NULL;
    pthread_mutex_unlock(&channel->mutex);

    audience_remove(part, subscription->index);
    if (removed != NULL)
        publication_finish(removed, removed_to);
    if (offline != NULL)
        publication_finish(offline, offline_to);
    if (counted != NULL)
        publication_finish(counted, counted_to);
    if (member_gone)
        presence_member_unref(member);
    cached_event_unref(expired);
    if (set_timer)
        set_count_timer(hub, channel, worker);
    if (idle)
        channel_idle_begin(hub, channel);
    if (dead)
        channel_unlink(channel);
}

void channel_leave(struct channel_hub *hub, struct subscription *subscription, bool counts_wanted) {
    if (subscription->watcher)
        leave_watched(subscription);
    else
        leave_audience(hub, subscription, counts_wanted);
    channel_unref(subscription->channel);
    subscription->channel = NULL;
}
