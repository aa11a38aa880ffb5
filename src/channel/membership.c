#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "channel/channel_internal.h"

/* Lists with room for more subscribers than this shrink when most of them have left. */
#define LIST_SHRINKS_FROM 64

/* --- the subscribers on this worker --- */

/* The list's memory in the account. */
static size_t list_bytes(const struct subscriber_list *list) {
    return list->capacity != 0 ? alloc_footprint(list->capacity * sizeof list->entries[0]) : 0;
}

/* Sets the capacity of the list; 0: frees it. */
static void resize_list(struct subscriber_list *list, struct app_slot *slot, uint32_t capacity) {
    if (list->capacity != 0)
        budget_give(BUDGET_CHANNELS, slot->budget, list_bytes(list));
    list->capacity = capacity;
    if (capacity != 0) {
        list->entries = alloc_array(list->entries, capacity, sizeof list->entries[0]);
        budget_add(BUDGET_CHANNELS, slot->budget, list_bytes(list));
    } else {
        free(list->entries);
        list->entries = NULL;
    }
}

static void list_subscriber(struct subscriber_list *list, struct stream *stream, struct subscription *subscription,
                            uint64_t joined) {
    if (list->count == list->capacity)
        resize_list(list, subscription->channel->slot, list->capacity < 4 ? 4 : list->capacity + list->capacity / 2);
    subscription->index = list->count;
    list->entries[list->count++] =
        (struct subscriber){.stream = stream, .subscription = subscription, .joined = joined};
    if (joined > list->newest)
        list->newest = joined;
}

static void unlist_subscriber(struct subscriber_list *list, struct app_slot *slot, uint32_t index) {
    list->count--;
    if (index != list->count) {
        list->entries[index] = list->entries[list->count];
        list->entries[index].subscription->index = index;
    }
    if (list->count == 0)
        resize_list(list, slot, 0);
    else if (list->capacity > LIST_SHRINKS_FROM && list->count < list->capacity / 4)
        resize_list(list, slot, list->capacity / 2);
}

/* --- the channel's counts; the caller holds its mutex --- */

static void count_active(struct channel *channel, unsigned change) {
    if (channel->type.kind != CHANNEL_USER)
        atomic_fetch_add_explicit(&channel->table->active[channel_label_of(channel->type)], change,
                                  memory_order_relaxed);
}

static void count_in(struct channel *channel, const struct worker *worker) {
    if (channel->subscriber_count++ == 0)
        count_active(channel, 1);
    channel->subscribers.workers |= UINT64_C(1) << worker->index;
}

/* Call it before the subscriber is removed from its worker's list. */
static void count_out(struct channel *channel, const struct worker *worker) {
    if (channel->subscribers.lists[worker->index].count == 1)
        channel->subscribers.workers &= ~(UINT64_C(1) << worker->index);
    if (--channel->subscriber_count == 0)
        count_active(channel, -1u);
}

/* --- joining --- */

enum attempt {
    ATTEMPT_DONE,
    ATTEMPT_WAIT,
    ATTEMPT_FULL,
    ATTEMPT_FILTERS,
    ATTEMPT_NO_MEMORY,
    ATTEMPT_DEAD,
    ATTEMPT_AGAIN
};

/* Grows the members' hash table before it is full, so that buckets are not allocated under the mutex. */
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

struct joining {
    struct channel_hub *hub;
    struct stream *stream;
    struct subscription *subscription;
    struct channel_join *join;
    struct presence_member *candidate; /* added to the table if the user is a new member */
    bool candidate_fits;               /* its memory was taken from the account */
};

/* Finds the member with the candidate's id, and if there is none, room for a new one. The caller holds the mutex. */
static enum attempt find_member_place(struct channel *channel, const struct joining *joining,
                                      struct presence_member **member) {
    const struct presence_member *candidate = joining->candidate;
    struct presence_members *members = &channel->members;
    uint32_t max_members = joining->join->max_members;

    *member = presence_find(members, presence_member_key(candidate), candidate->hash);
    if (*member != NULL)
        return ATTEMPT_DONE;
    if (max_members != 0 && presence_count(members) >= max_members)
        return ATTEMPT_FULL;
    if (!joining->candidate_fits)
        return ATTEMPT_NO_MEMORY;
    return presence_wants_buckets(members) != 0 ? ATTEMPT_AGAIN : ATTEMPT_DONE;
}

/* Adds a connection to the member, or, if it is NULL, the candidate to the members. The caller holds the mutex. */
static void add_to_members(struct channel *channel, struct presence_member *candidate,
                           struct announcements *announcements, struct presence_member **member) {
    if (*member == NULL) {
        presence_add(&channel->members, candidate);
        *member = candidate;
        announcements_post_member(announcements);
    }
    (*member)->connections++;
    (*member)->nodes |= 1;
}

/* Takes a reference to the current member list, and returns one to the cached event. The caller holds the mutex. */
static struct cached_event *take_snapshot(const struct channel *channel, uint64_t now_ms, struct channel_join *join) {
    join->members = presence_snapshot(&channel->members);
    return channel_cached(channel, now_ms);
}

/* Encodes the cached event (may be NULL) for the client, and drops the reference to it. Without the mutex. */
static void encode_cached(const struct channel *channel, struct cached_event *cached, struct channel_join *join) {
    if (cached == NULL)
        return;
    join->cached =
        event_frame(cached_event_name(cached), channel_name(channel), cached_event_data(cached), SLICE(""), SLICE(""));
    frame_assign(join->cached, channel->slot->budget);
    cached_event_unref(cached);
}

/* Results of the step under the mutex, to be handled after it. */
struct join_result {
    struct presence_member *member;
    bool first_member;           /* it is the only one */
    uint64_t joined;             /* the channel's number at the join */
    struct cached_event *cached; /* for the client */
    bool was_idle;               /* the first subscriber has come to a channel with an event */
    bool unused;                 /* the channel must be unlinked */
};

/* Creates the place of the connection in a presence channel; NULL in others. */
static struct presence_place *place_create(const struct channel *channel, const struct join_result *result) {
    struct presence_place *place;

    if (result->member == NULL)
        return NULL;
    place = alloc(sizeof *place);
    *place = (struct presence_place){result->member, result->joined};
    budget_add(BUDGET_PRESENCE, channel->slot->budget, alloc_footprint(sizeof *place));
    return place;
}

/* True if the subscription has to wait for other nodes; it is among those that do then. The caller holds the mutex. */
static bool join_waits(const struct joining *joining, struct channel *channel, struct own_news *news) {
    channel->cluster->stateful |= news->stateful;
    if (joining->join->waiter == NULL || !interest_enter(channel, joining->stream->worker, joining->join->waiter))
        return false;
    news->wake = interest_changed(channel);
    return true;
}

/* Joins the channel, in one step in the order of its events. The caller holds the mutex. */
static enum attempt join_channel(struct joining *joining, struct channel *channel, struct announcements *announcements,
                                 struct join_result *result) {
    const struct worker *worker = joining->stream->worker;
    enum attempt attempt = ATTEMPT_DONE;

    if (channel->dead)
        return ATTEMPT_DEAD;
    if (__builtin_expect(channel->cluster != NULL, false) && join_waits(joining, channel, &announcements->news))
        return ATTEMPT_WAIT;
    if (joining->candidate != NULL)
        attempt = find_member_place(channel, joining, &result->member);
    if (attempt == ATTEMPT_FULL || attempt == ATTEMPT_NO_MEMORY)
        result->unused = channel->dead = channel_is_unused(channel);
    if (attempt != ATTEMPT_DONE)
        return attempt;
    if (channel->subscriber_count == 0)
        announcements_post_occupancy(announcements);
    result->first_member = presence_count(&channel->members) == 0;
    if (joining->candidate != NULL)
        add_to_members(channel, joining->candidate, announcements, &result->member);
    result->was_idle = channel->subscriber_count == 0 && channel->cached != NULL;
    count_in(channel, worker);
    result->joined = channel->number;
    result->cached = take_snapshot(channel, worker->now_ms, joining->join);
    announcements_post_count(announcements);
    if (__builtin_expect(channel->cluster != NULL, false))
        own_news_note(&announcements->news, channel,
                      result->member != NULL && result->member->connections == 1 ? result->member : NULL, true,
                      worker->now_ms);
    return ATTEMPT_DONE;
}

/* The candidate is a member now: the table owns it, and its memory stays taken. */
static void adopt_candidate(struct joining *joining, struct channel *channel, bool first) {
    if (first)
        budget_add(BUDGET_PRESENCE, channel->slot->budget,
                   presence_member_bytes(joining->candidate, true) - presence_member_bytes(joining->candidate, false));
    joining->candidate = NULL;
}

/* Makes the candidate and takes its memory, if there is room: a user who is a member already needs none. */
static void make_candidate(struct joining *joining, struct app_slot *slot) {
    joining->candidate = presence_member_create(joining->join->user_id, joining->join->user_info);
    if (joining->hub->hooks != NULL)
        joining->candidate->since_ms = clock_wall_ms();
    joining->candidate_fits =
        budget_take(BUDGET_PRESENCE, slot->budget, presence_member_bytes(joining->candidate, false));
}

/* Frees the candidate if it has not become a member. */
static void drop_candidate(struct joining *joining, struct app_slot *slot) {
    if (joining->candidate == NULL)
        return;
    if (joining->candidate_fits)
        budget_give(BUDGET_PRESENCE, slot->budget, presence_member_bytes(joining->candidate, false));
    presence_member_unref(joining->candidate);
}

static enum attempt try_subscribe(struct joining *joining, struct channel *channel) {
    struct worker *worker = joining->stream->worker;
    struct subscriber_list *list = &channel->subscribers.lists[worker->index];
    struct announcements announcements;
    struct join_result result = {0};
    enum attempt attempt;

    if (!subscriber_takes_filter(list, NULL, joining->join->filter)) /* not if the channel was made for it */
        return ATTEMPT_FILTERS;
    if (joining->candidate != NULL)
        make_room_for_member(channel);
    announcements_create(&announcements, joining->hub, channel, worker, joining->candidate, true, joining->join->app);

    pthread_mutex_lock(&channel->mutex);
    attempt = join_channel(joining, channel, &announcements, &result);
    pthread_mutex_unlock(&channel->mutex);

    announcements_finish(&announcements);
    if (result.was_idle)
        kept_events_changed(joining->hub, channel, worker->now_ms);
    if (attempt == ATTEMPT_DEAD || result.unused)
        channel_unlink(channel);
    if (attempt != ATTEMPT_DONE)
        return attempt;
    if (result.member != NULL && result.member == joining->candidate)
        adopt_candidate(joining, channel, result.first_member);
    *joining->subscription = (struct subscription){
        .channel = channel_ref(channel), .stream = joining->stream, .place = place_create(channel, &result)};
    list_subscriber(list, joining->stream, joining->subscription, result.joined);
    encode_cached(channel, result.cached, joining->join);
    return ATTEMPT_DONE;
}

enum channel_joined channel_subscribe(struct channel_hub *hub, struct app_slot *slot, struct stream *stream,
                                      struct slice name, struct subscription *subscription, struct channel_join *join) {
    struct joining joining = {.hub = hub, .stream = stream, .subscription = subscription, .join = join};
    enum attempt attempt;

    join->members = NULL;
    join->cached = NULL;
    if (join->waiter != NULL)
        join->waiter->channel = NULL;
    if (channel_type_of(name).kind == CHANNEL_PRESENCE)
        make_candidate(&joining, slot);
    do {
        struct channel *channel = channel_find_or_create(hub, slot, name);
        if (channel == NULL) {
            attempt = ATTEMPT_NO_MEMORY;
            break;
        }
        attempt = try_subscribe(&joining, channel);
        channel_unref(channel);
    } while (attempt == ATTEMPT_DEAD || attempt == ATTEMPT_AGAIN);
    drop_candidate(&joining, slot);
    if (attempt == ATTEMPT_WAIT)
        return CHANNEL_WAITS;
    if (attempt == ATTEMPT_NO_MEMORY)
        return CHANNEL_NO_MEMORY;
    if (attempt == ATTEMPT_FILTERS)
        return CHANNEL_FILTERS_FULL;
    return attempt == ATTEMPT_FULL ? CHANNEL_FULL : CHANNEL_JOINED;
}

void channel_snapshot(struct subscription *subscription, struct channel_join *join) {
    struct channel *channel = subscription->channel;
    const struct worker *worker = subscription->stream->worker;
    struct subscriber_list *list = &channel->subscribers.lists[worker->index];
    struct cached_event *cached;
    uint64_t number;

    join->cached = NULL;
    pthread_mutex_lock(&channel->mutex);
    cached = take_snapshot(channel, worker->now_ms, join);
    number = channel->number;
    pthread_mutex_unlock(&channel->mutex);
    if (subscription->place != NULL)
        subscription->place->listed = list->newest = number;
    encode_cached(channel, cached, join);
}

bool channel_watch_user(struct channel_hub *hub, struct app_slot *slot, struct stream *stream, struct slice user_id,
                        struct subscription *subscription, bool *online) {
    struct worker *worker = stream->worker;
    struct buffer name = {0};
    bool dead = true;

    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append(&name, user_id);
    do {
        struct channel *channel = channel_find_or_create(hub, slot, buffer_slice(&name));
        uint64_t joined = 0;
        bool wake = false;

        if (channel == NULL)
            break;
        pthread_mutex_lock(&channel->mutex);
        dead = channel->dead;
        if (!dead) {
            channel->watcher_count++;
            channel->watchers.workers |= UINT64_C(1) << worker->index;
            *online = channel->subscriber_count != 0 || cluster_is_occupied(channel->cluster);
            joined = channel->number;
            wake = channel->cluster != NULL && interest_changed(channel);
        }
        pthread_mutex_unlock(&channel->mutex);
        if (wake)
            interest_wake(channel);
        if (dead) {
            channel_unlink(channel);
        } else {
            *subscription = (struct subscription){.channel = channel_ref(channel), .stream = stream, .watcher = true};
            list_subscriber(&channel->watchers.lists[worker->index], stream, subscription, joined);
        }
        channel_unref(channel);
    } while (dead);
    buffer_dispose(&name);
    return !dead;
}

/* --- leaving --- */

static void stop_watching(struct subscription *subscription) {
    struct channel *channel = subscription->channel;
    unsigned worker = subscription->stream->worker->index;
    struct subscriber_list *list = &channel->watchers.lists[worker];
    bool dead, wake;

    pthread_mutex_lock(&channel->mutex);
    if (list->count == 1)
        channel->watchers.workers &= ~(UINT64_C(1) << worker);
    channel->watcher_count--;
    wake = channel->cluster != NULL && interest_changed(channel);
    dead = channel->dead = channel_is_unused(channel);
    pthread_mutex_unlock(&channel->mutex);
    if (wake)
        interest_wake(channel);
    unlist_subscriber(list, channel->slot, subscription->index);
    if (dead)
        channel_unlink(channel);
}

static void leave_channel(struct channel_hub *hub, struct subscription *subscription, const struct app *app) {
    struct channel *channel = subscription->channel;
    struct worker *worker = subscription->stream->worker;
    struct subscriber_list *list = &channel->subscribers.lists[worker->index];
    struct presence_place *place = subscription->place;
    struct presence_member *member = place != NULL ? place->member : NULL;
    struct announcements announcements;
    struct presence_member **buckets = NULL;
    bool dead, idle, left_here, member_left, last_member = false;

    announcements_create(&announcements, hub, channel, worker, member, false, app);
    subscriber_stops_deltas(hub, channel, list, &list->entries[subscription->index]);

    pthread_mutex_lock(&channel->mutex);
    count_out(channel, worker);
    left_here = member != NULL && --member->connections == 0;
    if (left_here)
        member->nodes &= ~UINT64_C(1);
    member_left = left_here && member->nodes == 0;
    if (member_left) {
        presence_remove(&channel->members, member);
        last_member = presence_count(&channel->members) == 0;
        buckets = last_member ? presence_take_buckets(&channel->members) : NULL;
        announcements_post_member(&announcements);
    }
    announcements_post_count(&announcements);
    if (channel->subscriber_count == 0)
        announcements_post_occupancy(&announcements);
    if (__builtin_expect(channel->cluster != NULL, false))
        own_news_note(&announcements.news, channel, left_here ? member : NULL, false, worker->now_ms);
    dead = channel->dead = channel_is_unused(channel);
    idle = channel->subscriber_count == 0 && channel->cached != NULL;
    pthread_mutex_unlock(&channel->mutex);

    unlist_subscriber(list, channel->slot, subscription->index);
    announcements_finish(&announcements);
    if (place != NULL)
        budget_give(BUDGET_PRESENCE, channel->slot->budget, alloc_footprint(sizeof *place));
    free(place);
    if (member_left) {
        budget_give(BUDGET_PRESENCE, channel->slot->budget, presence_member_bytes(member, last_member));
        presence_member_unref(member);
    }
    free(buckets);
    if (idle)
        kept_events_changed(hub, channel, worker->now_ms);
    if (dead)
        channel_unlink(channel);
}

void channel_leave(struct channel_hub *hub, struct subscription *subscription, const struct app *app) {
    subscriber_stops_filter(subscription);
    if (subscription->watcher)
        stop_watching(subscription);
    else
        leave_channel(hub, subscription, app);
    filter_release(channel_hub_filters(hub, subscription->stream->worker), subscription->filter);
    channel_unref(subscription->channel);
    subscription->channel = NULL;
}
