/*
 * What the files of channel/ share: the table, the channel, the audience, and a publication on its way to the workers.
 *
 *   channel_name.c    kinds and names
 *   channel_table.c   finding, making and dropping channels; what is kept of idle cache channels
 *   channel.c         joining and leaving
 *   publish.c         one event into all mailboxes
 *   deliver.c         out of a mailbox to the subscribers of one worker
 *   channel_query.c   looking
 *   presence.c        members
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "channel/channel.h"
#include "channel/presence.h"
#include "net/chunk.h"

/* One end of a subscription; the other is struct subscription in the session. */
struct audience_entry {
    struct stream *stream;
    struct subscription *subscription;
    uint64_t joined; /* what has this number or a lower one is not for this entry */
};

/* The audience on one worker; touched by that worker only, without a lock. */
struct audience_part {
    struct audience_entry *entries;
    uint32_t count, capacity;
    uint64_t newest; /* the highest `joined`, or higher */
};

struct audience {
    uint64_t workers; /* bit n: worker n has entries. Under the channel's mutex */
    struct audience_part *parts;
};

/* The kept event of a cache channel. */
struct cached_event {
    atomic_uint references;
    struct frame *frame;
    uint32_t data_offset, data_length; /* the token of `data` inside the frame */
    uint64_t expires_ms;               /* monotonic; 0: never */
};

void cached_event_unref(struct cached_event *cached);

struct channel_shard;

struct channel {
    atomic_uint references;
    struct channel_type type;
    /* Both are the app's: gone once the channel is out of the table and nobody is in it, whoever still has a reference.
     */
    struct app_slot *slot;
    struct channel_shard *shard;
    uint64_t hash;
    struct channel *next; /* in the shard's bucket; under the shard's mutex */

    pthread_mutex_t mutex;
    /* Under the mutex. */
    bool dead; /* out of the table, or about to be: look again */
    uint64_t number;
    uint32_t subscribers; /* on all workers */
    uint32_t watchers;
    struct presence_members members;
    struct cached_event *cached;
    uint64_t count_sent_ms; /* when subscription_count was last sent */
    bool count_due;         /* a timer will send it */
    /* Under the hub's idle mutex. */
    struct list idle_link;

    /* By worker. */
    struct audience audience;
    struct audience watching;

    uint32_t name_length;
    uint32_t part_count;
    char *name;

    struct audience_part parts[]; /* what the audiences' `parts` point to; the name follows */
};

struct channel_shard {
    pthread_mutex_t mutex;
    struct channel **buckets;
    uint32_t bucket_count; /* a power of two */
    uint32_t count;
};

#define CHANNEL_SHARDS 16

struct channel_table {
    struct channel_shard shards[CHANNEL_SHARDS];
};

struct channel_hub {
    struct workers *workers;
    struct channel_hub_settings settings;
    pthread_mutex_t idle_mutex;
    struct list idle; /* cache channels without subscribers, the one that was filled or left first in front */
    uint32_t idle_count;
};

/* --- channel_table.c --- */

/* The channel of that name, made if need be, with a reference for the caller. */
struct channel *channel_find_or_create(struct channel_hub *hub, struct app_slot *slot, struct slice name);
/* Takes a channel that was marked dead out of the table. Drops the table's reference. No lock held. */
void channel_unlink(struct channel *channel);
struct channel *channel_ref(struct channel *channel);

/* True if nothing keeps the channel in the table. Under its mutex. */
static inline bool channel_is_unused(const struct channel *channel) {
    return channel->subscribers == 0 && channel->watchers == 0 && channel->cached == NULL;
}

/* Notes that a cache channel has an event and no subscribers, or that this is over; drops the oldest beyond the limit.
 * No lock held. */
void channel_idle_begin(struct channel_hub *hub, struct channel *channel);
void channel_idle_end(struct channel_hub *hub, struct channel *channel);

/* Forgets a kept event that is too old. Under the mutex; what it returns is to be unreferenced after it. */
struct cached_event *channel_take_expired(struct channel *channel, uint64_t now_ms);

/* --- publish.c --- */

struct publication;

/* What goes to one worker. */
struct delivery {
    struct message message;
    struct publication *publication;
};

/* One event on its way, in one allocation: made before the mutex is taken, posted under it. */
struct publication {
    atomic_uint references; /* deliveries that are posted and not done, and the maker */
    struct channel *channel;
    struct frame *frame; /* NULL: terminate the audience */
    uint64_t number;
    uint64_t born_ns;
    bool to_watchers;
    bool has_except_socket;
    const struct stream *except_stream;
    struct socket_id except_socket;
    struct channel_hub *hub;
    struct delivery deliveries[];
};

/* Takes over the reference to `frame`, and one of its own to the channel. */
struct publication *publication_create(struct channel_hub *hub, struct channel *channel, struct frame *frame,
                                       uint64_t now_ns);
/* Under the channel's mutex: gives it the next number and posts it to the workers of its audience. Returns them. */
uint64_t publication_post(struct publication *publication);
/* After the mutex: wakes those workers and drops the maker's reference. Also for a publication that was not posted. */
void publication_finish(struct publication *publication, uint64_t workers);
void publication_unref(struct publication *publication);

/* --- deliver.c --- */

void deliver(struct worker *worker, struct message *message, struct message **rest);

/* --- channel.c --- */

struct frame *event_frame(struct slice event, struct slice channel, struct slice data, struct slice user_id,
                          uint32_t *data_offset);
