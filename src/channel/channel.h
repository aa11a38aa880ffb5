/*
 * Channels: who is subscribed to what, and how an event reaches all of them in one order.
 *
 *   app slot --> channel table (16 shards, a mutex each) --> channel (a mutex each)
 *                                                              number    counts events, joins and leaves
 *                                                              members   of a presence channel, see presence.h
 *                                                              cached    last event of a cache channel
 *                                                              audience  by worker: array of {stream, subscription,
 * joined}
 *
 * Publishing encodes the event once, takes the channel's mutex, gives it the next number and posts it to the mailbox of
 * each worker that has subscribers, the publisher's own included; each worker then walks its own array. So all
 * subscribers of a channel see one order. Joining and leaving are steps of the same sequence: a subscription
 * remembers the number at which it joined, gets the members and the cached event as of it, and is not given what
 * has that number or a lower one. Nothing is missed or told twice.
 *
 * `#server-to-user-{id}` is a channel too: its subscribers are the connections signed in as that user, its watchers
 * those that have the user on their watchlist.
 *
 * Unless a function says otherwise it is called on a worker's thread. A mutex is held for a few loads and stores: never
 * across a system call or a second lock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app_slot.h"
#include "base/buffer.h"
#include "base/slice.h"
#include "net/stream.h"
#include "net/worker.h"

struct channel;
struct channel_hub;
struct member_list;
struct presence_member;
struct cached_event;

enum channel_kind { CHANNEL_PUBLIC, CHANNEL_PRIVATE, CHANNEL_ENCRYPTED, CHANNEL_PRESENCE, CHANNEL_USER };

struct channel_type {
    enum channel_kind kind;
    bool caches; /* the last event is kept */
};

#define USER_CHANNEL_PREFIX "#server-to-user-"
#define USER_ID_MAX 255

/* What the name's prefix says; `private-my-cache-x` is private and does not cache. */
struct channel_type channel_type_of(struct slice name);

/* True if the name consists of the characters that the protocol allows, or is a user's channel with an id of 1 to 255
 * bytes. The app's max_channel_name_length is the caller's to check. */
bool channel_name_valid(struct slice name);

/* For the metrics: a cache channel counts as one whatever else it is. */
enum channel_label channel_label_of(struct channel_type type);

/* --- sockets' names --- */

struct socket_id {
    uint64_t first, second; /* written "first.second" */
};

/* Parses "123.456"; false if it has another form. */
bool socket_id_parse(struct slice text, struct socket_id *id);

/* --- the hub: what all channels of the process share --- */

struct channel_hub_settings {
    uint32_t cache_ttl_s;        /* how long a cache channel keeps its event; 0: for ever */
    uint32_t cache_max_channels; /* cache channels without subscribers; the oldest goes first; 0: no limit */
    uint32_t group_max_messages; /* how many events one write to a subscriber may carry */
    uint32_t group_max_bytes;
    /* What only the owner of the connections knows; both are called on the connection's worker. */
    void (*terminate)(struct stream *stream); /* close it by order of the API */
    bool (*has_socket_id)(const struct stream *stream, const struct socket_id *id);
};

struct channel_hub *channel_hub_create(struct workers *workers, const struct channel_hub_settings *settings);
/* Before the apps' slots go: it holds channels of theirs. */
void channel_hub_destroy(struct channel_hub *hub);

/* Drops what the cache channels have kept for too long; once a second, on one worker. */
void channel_hub_expire(struct channel_hub *hub, uint64_t now_ms);

/* Frees an app's channel table when the slot goes (see app_slot_destroy). */
void channel_table_destroy(void *table);

/* True if the table holds no channel, not even one that remembers its last event. Any thread. */
bool channel_table_empty(void *table);

/* --- publishing --- */

struct channel_event {
    struct slice event;                    /* the name, as a JSON string with its quotes */
    struct slice data;                     /* JSON text, passed on byte by byte */
    struct slice user_id;                  /* JSON string of the sender on a presence channel, else empty */
    const struct stream *except_stream;    /* the sender's own connection, or NULL */
    const struct socket_id *except_socket; /* a connection that the API leaves out, or NULL */
    bool keep;                             /* a cache channel keeps it: published over the API */
};

struct channel_counts {
    uint32_t subscriptions;
    uint32_t users; /* of a presence channel */
};

/*
 * Publishes an event to a channel whose name was checked. When it returns, the event stands in the mailbox of every
 * worker that has subscribers. `counts` (may be NULL) gets the numbers at that moment.
 */
void channel_publish(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                     const struct channel_event *event, struct channel_counts *counts);

/* Closes all connections that are signed in as `user_id`. */
void channel_terminate_user(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                            struct slice user_id);

/* --- looking --- */

struct channel_info {
    bool occupied;
    struct channel_counts counts;
    struct buffer cached_data; /* JSON string token, empty if nothing is cached; the caller disposes of it */
    uint32_t cached_ttl_s;     /* what is left; 0 with a cached event: it does not expire */
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

/* One end of "this connection is in that channel"; lives in the session. */
struct subscription {
    struct channel *channel; /* holds a reference */
    struct stream *stream;
    struct presence_member *member; /* of a presence channel */
    uint32_t index;                 /* in the worker's array */
    bool watcher;                   /* of a user's channel: only wants to know whether the user is there */
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
    struct member_list *members; /* as of the join; give back with member_list_unref (presence.h) */
    struct frame *cached;        /* the kept event, or NULL; give back with frame_unref */
};

/* The live channel of that name with a reference of the caller's, or NULL. */
struct channel *channel_find(struct app_slot *slot, struct slice name);
void channel_unref(struct channel *channel);

/* Subscribes `stream`; fills `subscription`. Other members are told of a new one. */
enum channel_joined channel_subscribe(struct channel_hub *hub, struct app_slot *slot, struct stream *stream,
                                      struct slice name, struct subscription *subscription, struct channel_join *join);

/* Watches whether a user is signed in; `*online` is as of this moment, changes come as watchlist events. */
void channel_watch_user(struct channel_hub *hub, struct app_slot *slot, struct stream *stream, struct slice user_id,
                        struct subscription *subscription, bool *online);

/* Subscribed already and asked again: fills the join's answers as they are now. */
void channel_look_again(const struct subscription *subscription, struct channel_join *join);

/* Ends either kind. `counts_wanted` as in struct channel_join. */
void channel_leave(struct channel_hub *hub, struct subscription *subscription, bool counts_wanted);

struct slice channel_name(const struct channel *channel);
struct channel_type channel_type(const struct channel *channel);

/* The user id of a member as a JSON string with its quotes. */
struct slice presence_member_id(const struct presence_member *member);
