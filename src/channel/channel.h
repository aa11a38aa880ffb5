/*
 * Channels: their subscribers, and how an event reaches all of them in one order.
 *
 *   app slot --> channel table (16 shards, a mutex each) --> channel (a mutex each)
 *                                                              number       counts events, joins and leaves
 *                                                              members      of a presence channel, see presence.h
 *                                                              cached       last event of a cache channel
 *                                                              subscribers  by worker: an array of
 *                                                                           {stream, subscription, joined}
 *
 * Publishing encodes the event once, takes the channel's mutex, gives the event the next number and posts it to the
 * mailbox of each worker that has subscribers, the publisher's own included. Each worker then walks its own array. So
 * all subscribers of a channel see one order. Joins and leaves are steps of the same sequence: a subscription remembers
 * the number at which it joined, gets the member list and the cached event as of that number, and only later events. No
 * event is missed, and none comes twice.
 *
 * `#server-to-user-{id}` is a channel, too: its subscribers are the connections signed in as that user, its watchers
 * the connections that have the user on their watchlist.
 *
 * Functions are for a worker's thread unless they say otherwise. A channel's mutex is held for a few loads and stores:
 * never across a system call or a second lock. Under it only the head and a chunk of a member list are allocated.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app_slot.h"
#include "base/buffer.h"
#include "base/slice.h"
#include "channel/channel_name.h"
#include "channel/socket_id.h"
#include "net/stream.h"
#include "net/worker.h"

struct channel;
struct channel_hub;
struct member_list;
struct presence_member;
struct cached_event;

/* --- the hub: what all channels of the process share --- */

struct channel_hub_settings {
    uint32_t cache_ttl_s;        /* how long a cache channel keeps its event; 0: for ever */
    uint32_t cache_max_channels; /* cache channels without subscribers; the oldest goes first; 0: no limit */
    uint32_t group_max_messages; /* how many events one write to a subscriber may carry */
    uint32_t group_max_bytes;
    /* Callbacks to the owner of the connections, on the connection's worker. */
    void (*terminate)(struct stream *stream); /* closes it for the API */
    bool (*has_socket_id)(const struct stream *stream, const struct socket_id *id);
};

struct channel_hub *channel_hub_create(struct workers *workers, const struct channel_hub_settings *settings);
/* Call it before the apps' slots are destroyed: the hub holds channels of theirs. */
void channel_hub_destroy(struct channel_hub *hub);

/* Drops expired events of cache channels without subscribers. Once a second, on one worker. */
void channel_hub_expire(struct channel_hub *hub, uint64_t now_ms);

/* Frees an app's channel table with its slot (see app_slot_destroy). */
void channel_table_destroy(void *table);

/* True if the table holds no channel, not even one with a cached event. Any thread. */
bool channel_table_empty(void *table);

/* --- publishing --- */

struct channel_event {
    struct slice event;                    /* the name, as a JSON string with its quotes */
    struct slice data;                     /* JSON text, passed on byte by byte */
    struct slice user_id;                  /* JSON string of the sender on a presence channel, else empty */
    const struct stream *except_stream;    /* the sender's own connection, or NULL */
    const struct socket_id *except_socket; /* a connection that the API excludes, or NULL */
    bool keep;                             /* a cache channel keeps it: it comes from the API */
};

struct channel_counts {
    uint32_t subscriptions;
    uint32_t users; /* of a presence channel */
};

/*
 * Publishes an event to a channel whose name is valid. When it returns, the event is in the mailbox of every worker
 * that has subscribers. `counts` (may be NULL) gets the counts at that moment.
 */
void channel_publish(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                     const struct channel_event *event, struct channel_counts *counts);

/* Closes all connections that are signed in as `user_id`. */
void channel_terminate_user(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                            struct slice user_id);

/* --- reading --- */

struct channel_info {
    bool occupied;
    struct channel_counts counts;
    struct buffer cached_data; /* JSON string token, empty if nothing is cached; the caller disposes of it */
    uint32_t cached_ttl_s;     /* seconds left; 0 with a cached event: it does not expire */
};

/* An unknown channel is not occupied. Any thread. */
void channel_inspect(struct app_slot *slot, struct slice name, bool with_cached, struct channel_info *info);

/* Calls `each` for every occupied channel whose name begins with `prefix`; users' channels are left out. Any thread. */
void channel_each(struct app_slot *slot, struct slice prefix,
                  void (*each)(void *context, struct slice name, struct channel_type type,
                               struct channel_counts counts),
                  void *context);

/* Appends the members of a presence channel as `{"id":"1"},{"id":"2"}`. Any thread. */
void channel_append_users(struct app_slot *slot, struct slice name, struct buffer *out);

/* Occupied channels by label, for the metrics. Any thread. */
void channel_count_active(struct app_slot *slot, uint32_t counts[CHANNEL_LABEL_COUNT]);

/* --- joining and leaving --- */

/* A connection's subscription to a channel; part of the session. */
struct subscription {
    struct channel *channel; /* holds a reference */
    struct stream *stream;
    struct presence_member *member; /* of a presence channel */
    uint32_t index;                 /* in the worker's array */
    bool watcher;                   /* of a user's channel: gets only online and offline events */
};

enum channel_joined {
    CHANNEL_JOINED,
    CHANNEL_FULL, /* a presence channel has as many members as `max_members` allows */
};

struct channel_join {
    /* In. For a presence channel: the user, and the exact JSON text of user_info. */
    struct slice user_id;
    struct slice user_info;
    uint32_t max_members; /* 0: no limit */
    bool counts_wanted;   /* the app wants subscription_count events */
    /* Out. */
    struct member_list *members; /* as of the join; release with member_list_unref (presence.h) */
    struct frame *cached;        /* the cached event, or NULL; release with frame_unref */
};

/* The channel of that name with a reference for the caller, or NULL. */
struct channel *channel_find(struct app_slot *slot, struct slice name);
void channel_unref(struct channel *channel);

/* Subscribes `stream` and fills `subscription`. Other members of a presence channel are told of a new one. */
enum channel_joined channel_subscribe(struct channel_hub *hub, struct app_slot *slot, struct stream *stream,
                                      struct slice name, struct subscription *subscription, struct channel_join *join);

/* Watches whether a user is signed in: `*online` is the state now, changes arrive as watchlist events. */
void channel_watch_user(struct channel_hub *hub, struct app_slot *slot, struct stream *stream, struct slice user_id,
                        struct subscription *subscription, bool *online);

/* For a client that subscribes again: fills the results of the join as they are now. */
void channel_snapshot(const struct subscription *subscription, struct channel_join *join);

/* Ends a subscription or a watch. `counts_wanted` as in struct channel_join. */
void channel_leave(struct channel_hub *hub, struct subscription *subscription, bool counts_wanted);

struct slice channel_name(const struct channel *channel);
struct channel_type channel_type(const struct channel *channel);
