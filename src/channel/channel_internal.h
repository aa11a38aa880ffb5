/*
 * What the files of channel/ share: the table, the channel, its subscribers, and a publication on its way to the
 * workers.
 *
 *   channel_name.c   names of channels and what their prefixes say
 *   socket_id.c      names of connections
 *   presence.c       the members of a presence channel
 *   cached_event.c   the last event of a cache channel
 *   channel_table.c  finding, creating and unlinking channels
 *   channel_hub.c    what all channels share; cache channels without subscribers
 *   event_frame.c    an event as bytes
 *   publication.c    an event on its way: into the mailboxes of workers, and from there to their subscribers
 *   announce.c       events that channels send by themselves: members, counts, watchlists
 *   channel_publish.c  publishing over the API and by clients
 *   membership.c     joining and leaving
 *   channel_query.c  reading
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "channel/channel.h"
#include "channel/presence.h"
#include "net/chunk.h"

/* --- a channel --- */

/* A subscription as its channel sees it; the session's end is struct subscription. */
struct subscriber {
    struct stream *stream;
    struct subscription *subscription;
    uint64_t joined; /* events up to this number are not for this subscriber */
};

/* The subscribers (or watchers) on one worker; used by that worker only, without a lock. */
struct subscriber_list {
    struct subscriber *entries;
    uint32_t count, capacity;
    uint64_t newest; /* the highest `joined`, or more */
};

/* The subscribers (or watchers) on all workers. */
struct subscribers {
    uint64_t workers; /* bit n: worker n has some; under the channel's mutex */
    struct subscriber_list *lists;
};

struct channel {
    atomic_uint references;
    struct channel_type type;
    /* The app's: gone when the channel is out of the table and nobody is in it, although references may be left. */
    struct app_slot *slot;
    struct channel_table *table;
    uint64_t hash;
    struct channel *next; /* in the shard's bucket; under the shard's mutex */

    pthread_mutex_t mutex;
    /* Under the mutex. */
    bool dead; /* unlinked from the table, or about to be: look the name up again */
    uint64_t number;
    uint32_t subscriber_count; /* on all workers */
    uint32_t watcher_count;
    struct presence_members members;
    struct cached_event *cached;
    uint64_t count_sent_ms; /* when subscription_count was last sent */
    bool count_due;         /* a timer will send it */
    /* Under the hub's idle mutex. */
    struct list idle_link;

    struct subscribers subscribers;
    struct subscribers watchers;

    uint32_t name_length;
    uint32_t list_count;
    char *name;

    struct subscriber_list lists[]; /* by worker, for `subscribers` and `watchers`; the name follows */
};

/* True if nothing keeps the channel in the table. Under its mutex. */
static inline bool channel_is_unused(const struct channel *channel) {
    return channel->subscriber_count == 0 && channel->watcher_count == 0 && channel->cached == NULL;
}

/* Under the channel's mutex. */
static inline struct channel_counts channel_counts_of(const struct channel *channel) {
    return (struct channel_counts){channel->subscriber_count, presence_count(&channel->members)};
}

/* --- cached_event.c --- */

/* The kept event of a cache channel. */
struct cached_event {
    atomic_uint references;
    struct frame *frame;
    uint32_t data_offset, data_length; /* the token of `data` in the frame */
    uint64_t expires_ms;               /* monotonic; 0: never */
};

/* Takes a reference of its own to the frame. `ttl_s` 0: it does not expire. */
struct cached_event *cached_event_create(struct frame *frame, uint32_t data_offset, size_t data_length, uint64_t now_ms,
                                         uint32_t ttl_s);
/* May be NULL. */
void cached_event_unref(struct cached_event *cached);
/* Takes an expired event out of the channel; NULL: there is none. Under the channel's mutex; unref it after. */
struct cached_event *channel_take_expired(struct channel *channel, uint64_t now_ms);

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
    atomic_uint active[CHANNEL_LABEL_COUNT]; /* channels with subscribers, without users' channels */
};

/* The channel of that name, created if need be, with a reference for the caller. */
struct channel *channel_find_or_create(struct channel_hub *hub, struct app_slot *slot, struct slice name);
/* Takes a channel that was marked dead out of the table, and drops the table's reference. No lock held. */
void channel_unlink(struct channel *channel);
struct channel *channel_ref(struct channel *channel);

/* --- channel_hub.c --- */

struct channel_hub {
    struct workers *workers;
    struct channel_hub_settings settings;
    pthread_mutex_t idle_mutex;
    struct list idle; /* cache channels without subscribers, in the order of their last event or leave */
    uint32_t idle_count;
};

/* A cache channel has an event and no subscribers: it goes to the end of the idle list, and the oldest one over the
 * limit is dropped. No lock held. */
void channel_idle_begin(struct channel_hub *hub, struct channel *channel);
/* It has subscribers again. No lock held. */
void channel_idle_end(struct channel_hub *hub, struct channel *channel);

/* --- event_frame.c --- */

/*
 * The frame of an event: the one place where an event becomes bytes. `event`, `data` and `user_id` (may be empty) are
 * JSON text; `channel` is a name. `data_offset` (may be NULL) gets the place of `data` in the frame.
 */
struct frame *event_frame(struct slice event, struct slice channel, struct slice data, struct slice user_id,
                          uint32_t *data_offset);

/* --- publication.c --- */

struct publication;

/* A publication's message to one worker. */
struct delivery {
    struct message message;
    struct publication *publication;
};

/* An event on its way, in one allocation: created before the channel's mutex is taken, posted under it. */
struct publication {
    atomic_uint references; /* deliveries under way, and the creator */
    struct channel *channel;
    struct frame *frame; /* NULL: close the subscribers' connections */
    uint64_t number;
    uint64_t born_ns;
    uint64_t posted_to; /* bits of workers; the creator's */
    bool to_watchers;
    bool has_except_socket;
    const struct stream *except_stream;
    struct socket_id except_socket;
    struct channel_hub *hub;
    struct delivery deliveries[];
};

/* Takes over the reference to `frame`, and takes one of its own to the channel. */
struct publication *publication_create(struct channel_hub *hub, struct channel *channel, struct frame *frame,
                                       uint64_t now_ns);
/* Gives it the next number and posts it to the workers that have subscribers. Under the channel's mutex. */
void publication_post(struct publication *publication);
/* Wakes those workers, if it was posted, and drops the creator's reference. Without the mutex; may be NULL. */
void publication_finish(struct publication *publication);

/* --- announce.c --- */

/* The events that one join or leave causes: created before the channel's mutex is taken, posted under it when they turn
 * out to be needed, finished after it. */
struct announcements {
    struct publication *member; /* member_added or member_removed; NULL: not a presence channel */
    struct publication *watch;  /* online or offline, to watchers; NULL: not a user's channel */
    struct publication *count;  /* subscription_count; NULL: not wanted */
    struct worker *worker;
    struct channel_hub *hub;
    struct channel *channel;
    bool count_later; /* a timer has to send the count */
};

/* `member` is NULL unless the channel is a presence channel. */
void announcements_create(struct announcements *announcements, struct channel_hub *hub, struct channel *channel,
                          struct worker *worker, const struct presence_member *member, bool joins, bool counts_wanted);
/* Posts the new count, or leaves it to a timer. Under the mutex. */
void announcements_post_count(struct announcements *announcements);
void announcements_finish(struct announcements *announcements);
