/*
 * Types and functions that the files of channel/ share: the table, the channel, its subscribers and publications.
 *
 *   channel_name.c   channel names and the types that their prefixes give
 *   socket_id.c      ids of connections
 *   presence.c       members of a presence channel
 *   cached_event.c   last event of a cache channel
 *   channel_table.c  finding, creating and unlinking channels
 *   channel_hub.c    state that all channels share
 *   kept_events.c    room for the events of cache channels, fair among apps
 *   kept_walk.c      reading all of them, for another process
 *   event_frame.c    encoding of events
 *   conflation_key.c the key of a message, by which deltas find their base
 *   delta_texts.c    the texts that deltas are based on, of all channels
 *   delta_state.c    what a channel knows for deltas: its takers, its keys with their texts
 *   delta_step.c     deltas of an event, when it is published
 *   delta_delivery.c its delivery to subscribers of which some take deltas
 *   publication.c    delivery of an event: into the mailboxes of workers, and from there to their subscribers
 *   announce.c       events that channels generate: members, counts, watchlists
 *   channel_publish.c  events from the API and from clients
 *   membership.c     joining and leaving
 *   channel_cluster.h  what a channel knows of other nodes, with the files that work on it
 *   subscriber.c     how a subscription takes events: deltas, its filter
 *   channel_query.c  reading the state of channels
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "channel/channel.h"
#include "channel/channel_cluster.h"
#include "channel/delta_texts.h"
#include "channel/filter/filter_set.h"
#include "channel/kept_events.h"
#include "channel/presence.h"
#include "net/chunk.h"

/* --- a channel --- */

/* The channel's side of a subscription; the session's side is struct subscription. */
struct subscriber {
    struct stream *stream;
    struct subscription *subscription;
    /* The subscriber gets only events with a higher number, and knows the texts of those only: it is raised to the
     * latest event that the list has had when a client has lost its texts. */
    uint64_t joined : 60;
    uint64_t takes : 2; /* enum delta_takes */
    uint64_t asked : 1; /* see channel_set_deltas */
    uint64_t filtered : 1;
};

/* The subscribers (or watchers) on one worker; used on that worker's thread only, without a lock. */
struct subscriber_list {
    struct subscriber *entries;
    uint32_t count, capacity;
    uint64_t newest; /* upper bound of all `joined` and `listed` */
    uint64_t latest; /* number of the latest event that was delivered */
    uint32_t deltas; /* entries that take deltas */
    /* The most that evaluating the different filters of all entries takes (filter_set.h); 0: no entry has a filter. */
    uint32_t filter_work;
};

/* The subscribers (or watchers) on all workers. */
struct subscribers {
    /* Bit n: worker n has subscribers; protected by the channel's mutex. */
    uint64_t workers;
    struct subscriber_list *lists;
};

struct channel {
    atomic_uint references;
    struct channel_type type;
    /* The app's slot and table. They may be freed as soon as the channel is unlinked and has no subscribers, even if
     * references to the channel are left. */
    struct app_slot *slot;
    struct channel_table *table;
    uint64_t hash;
    struct channel *next; /* next in the shard's bucket; protected by the shard's mutex */

    pthread_mutex_t mutex;
    /* Protected by the mutex. */
    /* Unlinked from the table, or about to be: look up the name again. */
    bool dead;
    uint64_t number;           /* number of the latest event */
    uint32_t subscriber_count; /* on all workers */
    uint32_t watcher_count;
    struct presence_members members;
    struct cached_event *cached;
    uint64_t count_sent_ms; /* time of the last subscription_count */
    uint32_t count_sent;    /* its count */
    bool count_due;         /* a timer is set to send subscription_count */
    /* Protected by the mutex of the hub's kept events: what the lists there have of this channel. */
    struct list kept_link;
    struct cached_event *kept; /* NULL: it is in no list */
    bool kept_idle;

    /* See delta_state.h. NULL until the first subscriber takes deltas; never changed after that. */
    _Atomic(struct delta_state *) deltas;

    struct channel_cluster *cluster; /* NULL: there are no other nodes; never changed */

    struct subscribers subscribers;
    struct subscribers watchers;

    uint32_t name_length;
    uint32_t list_count;
    char *name;

    /* Memory of the lists of `subscribers` and `watchers`, by worker; the name follows. */
    struct subscriber_list lists[];
};

/* True if the channel can be unlinked from the table. The caller holds its mutex. */
static inline bool channel_is_unused(const struct channel *channel) {
    return channel->subscriber_count == 0 && channel->watcher_count == 0 && channel->cached == NULL &&
           (channel->cluster == NULL || !channel->cluster->held);
}

/* The subscriptions on all nodes, as far as they were heard. The caller holds the mutex. */
static inline uint32_t channel_subscriptions(const struct channel *channel) {
    return channel->subscriber_count + (channel->cluster != NULL ? channel->cluster->told_subscriptions : 0);
}

/* Returns the channel's counts. The caller holds its mutex. */
static inline struct channel_counts channel_counts_of(const struct channel *channel) {
    return (struct channel_counts){channel_subscriptions(channel), presence_count(&channel->members)};
}

/* --- cached_event.c --- */

/* The last event of a cache channel: its name and data, which all channels of one publish share. Immutable. It must be
 * released in the turn in which the reference was taken, or while it is the event of a channel in the table: the app's
 * account may go after that. */
struct cached_event {
    atomic_uint references;
    uint32_t event_length, data_length;
    uint32_t listed; /* channels that have it in the lists of kept_events.c; protected by the mutex there */
    struct app_slot *slot;
    uint64_t expires_ms; /* monotonic time; UINT64_MAX: never */
    char texts[];        /* the event's name and its data, JSON texts */
};

/* The memory of a cached event in the account. */
size_t cached_event_bytes(size_t event_length, size_t data_length);
/* Creates a cached event with one reference, and counts its memory; NULL if the system has no memory for it. `left_ms`
 * 0: it never expires. */
struct cached_event *cached_event_create(struct app_slot *slot, const struct channel_event *event, uint64_t now_ms,
                                         uint64_t left_ms);
struct cached_event *cached_event_ref(struct cached_event *cached);
/* Drops a reference; NULL is ignored. */
void cached_event_unref(struct cached_event *cached);
struct slice cached_event_name(const struct cached_event *cached);
struct slice cached_event_data(const struct cached_event *cached);
/* Returns a reference to the channel's event; NULL if there is none, or it has expired. The caller holds the channel's
 * mutex. */
struct cached_event *channel_cached(const struct channel *channel, uint64_t now_ms);

/* --- channel_table.c --- */

#define CHANNEL_SHARDS 16

struct channel_shard {
    pthread_mutex_t mutex;
    struct channel **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
};

/* The channels of one app. */
struct channel_table {
    struct channel_shard shards[CHANNEL_SHARDS];
    struct kept_app kept;
    struct delta_app_texts deltas;
    atomic_uint active[CHANNEL_LABEL_COUNT]; /* number of channels with subscribers, except users' channels */
};

/* Finds or creates a channel and takes a reference for the caller. NULL if there is no room for a new channel in the
 * account of memory. */
struct channel *channel_find_or_create(struct channel_hub *hub, struct app_slot *slot, struct slice name);
/* Removes a dead channel from the table and drops the table's reference; does nothing if another thread has done so.
 * The caller holds no lock. */
void channel_unlink(struct channel *channel);

/* --- channel_hub.c --- */

struct channel_hub {
    struct workers *workers;
    struct channel_hub_settings settings;
    struct kept_events kept;
    struct filter_set *filters; /* by worker */
    struct delta_texts texts;
    atomic_bool xdelta3_announced;               /* a client was told that deltas have this algorithm */
    _Atomic(const struct channel_relay *) relay; /* NULL: this process is alone */
    const struct channel_hooks *hooks;           /* NULL: there are no other nodes, and the rest is not in use */
    const struct channel_keeper *keeper;         /* NULL: none */
    struct held_list *held;                      /* by worker */
    atomic_uint_fast64_t versions;               /* the last one that was given */
    atomic_uint waiting;
    /* Calls of channel_hub_unready. A channel that became ready before the last one is not ready any more. */
    atomic_uint readiness;
    atomic_uint_fast64_t node_ids[CHANNEL_NODES][2];
};

static inline const struct channel_relay *channel_hub_relay(struct channel_hub *hub) {
    return atomic_load_explicit(&hub->relay, memory_order_acquire);
}

/* --- event_frame.c --- */

/* Encodes an event as a frame with one reference. `event`, `data`, `user_id` and `tags` (may be empty) are JSON text;
 * `channel` is a name. */
struct frame *event_frame(struct slice event, struct slice channel, struct slice data, struct slice user_id,
                          struct slice tags);

/* True for the name of an event of the protocol, which begins with `pusher:` or `pusher_internal:`. It is a JSON
 * string. */
bool event_is_protocol(struct slice name);

/* --- publication.c --- */

struct publication;

/* The message of a publication to one worker. */
struct delivery {
    struct message message;
    struct publication *publication;
};

/* The delivery of an event to all workers, in one allocation: created before the channel's mutex is taken, posted under
 * it. */
struct publication {
    atomic_uint references; /* one for each pending delivery, and one for the creator */
    struct channel *channel;
    struct frame *frame;         /* NULL: close the subscribers' connections */
    struct delta_frames *deltas; /* for subscribers that take deltas (delta_step.h); NULL: the same */
    struct tags *tags;           /* for the filters of subscriptions; NULL: none */
    uint64_t number;
    uint64_t born_ns;   /* time of publishing, for the latency; connections that were made later are not closed */
    uint64_t posted_to; /* mask of the workers that got it; for the creator only */
    bool to_watchers;
    bool about_member; /* member_added or member_removed */
    bool reconnect;    /* the clients of closed connections are to come back at once */
    bool has_except_socket;
    bool filterable; /* the filters of subscriptions apply to it */
    const struct stream *except_stream;
    struct socket_id except_socket;
    struct channel_hub *hub;
    struct delivery deliveries[];
};

/* Creates a publication with one reference. Takes over the reference to `frame`, and takes one to the channel. */
struct publication *publication_create(struct channel_hub *hub, struct channel *channel, struct frame *frame,
                                       uint64_t now_ns);
/* Gives the publication the next number and posts it to the workers that have subscribers. The caller holds the
 * channel's mutex. */
void publication_post(struct publication *publication);
/* Wakes the workers if the publication was posted, and drops the creator's reference. The caller does not hold the
 * mutex; NULL is ignored. */
void publication_finish(struct publication *publication);

/* --- subscriber.c --- */

/* Queues an event for a stream. Events of small channels do not wait in the fan-out queue of large ones. */
static inline ssize_t subscriber_send(const struct subscriber_list *list, struct stream *stream, struct chunk *chunk) {
    return list->count > STREAM_FAN_OUT_LEAST ? stream_fan_out(stream, chunk) : stream_send(stream, chunk);
}

/* True if the subscriber has joined after the event, or has a member list that is newer than an event about a member.
 */
static inline bool subscriber_is_later(const struct subscriber *entry, const struct publication *publication) {
    return entry->joined >= publication->number ||
           (publication->about_member && entry->subscription->place->listed >= publication->number);
}

/* True if the subscriber has a filter that the event does not pass. `filters` are those of its worker. */
static inline bool subscriber_filters(const struct subscriber *entry, const struct publication *publication,
                                      struct filter_set *filters) {
    return entry->filtered && publication->filterable &&
           !filter_passes(filters, entry->subscription->filter, FILTER_EVENT, publication->tags);
}

/* Notes that the subscriber lacks the texts of the events up to `number`, all of which the list has had. */
void subscriber_forget(struct subscriber_list *list, struct subscriber *entry, uint64_t number);
/* The most that evaluating the different filters of a channel's subscribers may take on one worker: about 20 ms. */
#define FILTERS_WORK_MAX (200 * WORK_PER_CLOCK)

/* True if a subscription may get the filter `next` in place of `filter`: the work of the list's filters has a limit.
 * NULL: none. */
bool subscriber_takes_filter(const struct subscriber_list *list, const struct filter *filter,
                             const struct filter *next);
/* Takes the work of the subscription's filter out of the list's, if it has one: before it leaves the channel. */
void subscriber_stops_filter(struct subscription *subscription);
/* Counts the subscriber out of those that take deltas, if it does: before it leaves the channel. */
void subscriber_stops_deltas(struct channel_hub *hub, struct channel *channel, struct subscriber_list *list,
                             struct subscriber *entry);

/* --- announce.c --- */

/* The events that a join or leave causes: created before the channel's mutex is taken, posted under it if they are
 * needed, finished after it is released. */
struct announcements {
    struct publication *member; /* member_added or member_removed; NULL: not a presence channel */
    struct publication *watch;  /* online or offline, to watchers; NULL: not a user's channel */
    struct publication *count;  /* subscription_count; NULL: not wanted */
    struct worker *worker;
    struct channel_hub *hub;
    struct channel *channel;
    bool count_later; /* set a timer to send the count */
    /* The app has webhooks. Else the events of webhooks below are not initialised, to save time. */
    bool has_webhooks;
    unsigned wanted_webhooks; /* of enum app_webhook_event: what webhooks take of this channel */
    struct webhook_draft occupancy_webhook, member_webhook, count_webhook;
    struct own_news news; /* with other nodes only; else not initialised, too */
};

/* The event that a member was added or removed, and that a user is online or offline. */
struct publication *member_publication(struct channel_hub *hub, struct channel *channel,
                                       const struct presence_member *member, bool added, uint64_t now_ns);
struct publication *watch_publication(struct channel_hub *hub, struct channel *channel, bool online, uint64_t now_ns);

/* Create and finish the event subscription_count alone, if the app wants it. */
void announcements_create_count(struct announcements *announcements, struct channel_hub *hub, struct channel *channel,
                                struct worker *worker, const struct app *app);
void announcements_finish_count(struct announcements *announcements);

/* Creates the events. `member` is NULL unless the channel is a presence channel. `app` (may be NULL) is the record
 * whose webhooks count. The caller does not hold the mutex. */
void announcements_create(struct announcements *announcements, struct channel_hub *hub, struct channel *channel,
                          struct worker *worker, const struct presence_member *member, bool joins,
                          const struct app *app);
/* Posts that the first subscriber has come, or the last one has left. The caller holds the mutex. */
void announcements_post_occupancy(struct announcements *announcements);
/* Posts that a member was added or removed. The caller holds the mutex. */
void announcements_post_member(struct announcements *announcements);
/* Posts the new count, or leaves it to a timer. The caller holds the mutex. */
void announcements_post_count(struct announcements *announcements);
/* Finishes all publications and sets the timer if it is needed. The caller does not hold the mutex. */
void announcements_finish(struct announcements *announcements);
