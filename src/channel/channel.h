/*
 * Channels: their subscribers, and the delivery of events to all subscribers in the same order.
 *
 *   app slot --> channel table (16 shards, a mutex each) --> channel (a mutex each)
 *                                                              number       the number of the latest event
 *                                                              members      members of a presence channel (presence.h)
 *                                                              cached       last event of a cache channel
 *                                                              deltas       NULL until a subscriber takes deltas
 *                                                              subscribers  by worker: an array of
 *                                                                           {stream, subscription, joined}
 *
 * Publishing encodes the event once, takes the channel's mutex, gives the event the next number and posts it to the
 * mailbox of each worker that has subscribers, including the publisher's own. Each worker then iterates over its own
 * array. So all subscribers of a channel get events in the same order. Joins and leaves are serialised by the same
 * mutex: a subscription stores the number at which it joined, gets the member list and the cached event as of that
 * number, and after that only events with higher numbers. So it neither misses an event nor gets one twice. A client
 * that subscribes again gets a new member list, and member_added and member_removed only from its number on.
 *
 * `#server-to-user-{id}` is a channel, too: its subscribers are the connections that are signed in as that user, its
 * watchers are the connections that have the user on their watchlist.
 *
 * Functions are for a worker's thread unless they say otherwise. A channel's mutex is held only for a few loads and
 * stores, never across a system call or another lock. The only allocations under it are the head and the chunks of a
 * member list that a change copies. The mutex of a channel's state of deltas (delta_state.h) is taken before it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app_slot.h"
#include "app/webhook_event.h"
#include "base/buffer.h"
#include "base/slice.h"
#include "channel/channel_name.h"
#include "channel/socket_id.h"
#include "net/stream.h"
#include "net/worker.h"

struct channel;
struct channel_event;
struct channel_hub;
struct filter;
struct filter_set;
struct member_list;
struct presence_place;
struct tags;
struct cached_event;

/* --- the hub: state that all channels of the process share --- */

/* The settings `delta_compression` of the server. */
struct delta_settings {
    enum app_delta_algorithm algorithm;
    uint32_t interval;     /* deltas under a key after which an event goes whole to all; 0: all do */
    uint32_t min_size;     /* shorter events go whole */
    uint32_t max_age_s;    /* of the text that a delta is based on; 0: no limit */
    uint32_t max_keys;     /* conflation keys of a channel; 0: no limit but the next one */
    uint64_t max_bytes;    /* of all texts; a channel may have a quarter of them */
    struct slice key_path; /* of the conflation key; empty: none. The caller keeps it. */
    bool omit_algorithm;   /* Fossil deltas do not name their algorithm while no client was told another one */
};

struct channel_hub_settings {
    /* Time for which a cache channel keeps its event; 0: without limit. */
    uint32_t cache_ttl_s;
    /* Limit on cache channels without subscribers, 0: no limit. Over it the oldest one of the app goes that has the
     * most of them. */
    uint32_t cache_max_channels;
    uint32_t group_max_messages;     /* limit on events that are joined into one chunk */
    uint32_t group_max_bytes;        /* limit on the bytes of such a chunk */
    struct webhook_outlet *webhooks; /* of channels' events; NULL: no webhooks are sent */
    bool filters;                    /* the filters of subscriptions are used */
    bool show_tags;                  /* subscribers get the tags of events, unless the app decides otherwise */
    struct delta_settings deltas;
    /* Callbacks to the owner of the connections, called on the connection's worker. */
    /* Closes the connection for the API if it was made before a (monotonic) time. `reconnect`: the client is to come
     * back at once. */
    void (*terminate)(struct stream *stream, bool reconnect, uint64_t before_ms);
    bool (*has_socket_id)(const struct stream *stream, const struct socket_id *id);
};

/* What an event has for each channel on its way to another process, beside its texts; more than enough. */
#define CHANNEL_RELAY_BYTES 512

/* Where published events go beside the subscribers of this process: to another process that has clients of the same
 * channels. Called on the publisher's thread before the event is delivered here, so it must not wait. */
struct channel_relay {
    void (*published)(void *context, struct app_slot *slot, struct slice channel, const struct channel_event *event);
    void (*terminated)(void *context, struct app_slot *slot, struct slice user_id, bool reconnect);
    /* NULL if events of the app with so many bytes find room on their way; else what is wrong, for the publisher. */
    const char *(*refusal)(void *context, const struct app_slot *slot, size_t bytes);
    /* The bytes of the largest event, with its texts; 0: no limit. NULL: no limit. */
    size_t (*most_bytes)(void *context);
    void *context;
};

/* Sets the relay (NULL: none) and returns the one before, which may be in use until a grace period later. Any thread.
 */
const struct channel_relay *channel_hub_set_relay(struct channel_hub *hub, const struct channel_relay *relay);

/* Who hears of the events that cache channels keep, before they are published; not of those from other processes. */
struct channel_keeper {
    void (*kept)(void *context, struct app_slot *slot, struct slice channel, const struct channel_event *event);
    void *context;
};

/* Sets the keeper; NULL: none. It is heard only with the hooks of remote.h. On the main thread, while no worker runs.
 */
void channel_hub_set_keeper(struct channel_hub *hub, const struct channel_keeper *keeper);

/* Creates the hub; `workers` must outlive it. On the main thread. */
struct channel_hub *channel_hub_create(struct workers *workers, const struct channel_hub_settings *settings);

/* Frees the hub. Call it before the apps' slots are destroyed, since the hub holds references to their channels. */
void channel_hub_destroy(struct channel_hub *hub);

/* Drops expired events of cache channels, and texts that are too old to be a base of deltas or whose memory is needed.
 * Once a second, on one worker. */
void channel_hub_expire(struct channel_hub *hub, uint64_t now_ms);

/* Notes that a client is about to be told that deltas have the algorithm xdelta3. Call it before. */
void channel_hub_told_xdelta3(struct channel_hub *hub);

/* Frees an app's channel table; passed to app_slot_destroy. */
void channel_table_destroy(void *table);

/* True if the table contains no channel, including channels with only a cached event. Any thread. */
bool channel_table_empty(void *table);

/* --- publishing --- */

/* When an event was published, for the choice among kept ones: the highest time is the newest, then the node with the
 * higher id. */
struct channel_stamp {
    uint64_t ms;      /* wall clock, raised above those that the channel had before; 0: none */
    uint64_t node[2]; /* the id of the node, which may be unknown or have left */
};

struct channel_event {
    struct slice event;                    /* the name, as a JSON string with its quotes */
    struct slice data;                     /* JSON text, sent unchanged */
    struct slice user_id;                  /* JSON string of the sender on a presence channel, else empty */
    struct tags *tags;                     /* channel/filter/tags.h; NULL: none. The caller keeps its reference. */
    bool whole;                            /* the publisher wants no delta of this event */
    const struct stream *except_stream;    /* the sender's own connection, or NULL */
    const struct socket_id *except_socket; /* a connection that the API excludes, or NULL */
    bool keep;                             /* an event from the API, which a cache channel keeps */
    bool relayed;                          /* it came from another process, and does not go back there */
    /* Of an event from another node, or, for the relay, of one that a cache channel keeps. */
    struct channel_stamp stamp;
    uint64_t left_ms; /* of an event with a stamp from another node: until it expires; 0: it does not */
    /* What cache channels keep of it, if it goes to several: channel_publish makes it, and they share it. Pass it to
     * channel_event_end after the last channel. */
    struct cached_event **shared;
    /* The work that its deltas were so far, if it goes to several: over a bound the next channels get it whole. NULL:
     * it goes to one. */
    size_t *delta_work;
    struct webhook_draft *webhook; /* posted with the event; NULL: none */
};

/* With other nodes: of all of them, as far as they were heard. */
struct channel_counts {
    uint32_t subscriptions;
    uint32_t users; /* members of a presence channel */
};

/*
 * Publishes an event to a channel; `name` must be valid. On return the event is in the mailbox of every worker that has
 * subscribers. `counts` (may be NULL) gets the channel's counts at the time of publishing.
 */
void channel_publish(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                     const struct channel_event *event, struct channel_counts *counts);

/* If events of the app with so many bytes may not all find room on their way to another process, returns what is wrong:
 * refuse them before the first is published. Else NULL. Any worker. */
const char *channel_relay_refusal(struct channel_hub *hub, const struct app_slot *slot, size_t bytes);

/* The bytes of the largest event that finds its way to other processes; 0: no limit. Any worker. */
size_t channel_relay_most_bytes(struct channel_hub *hub);

/* Releases what the channels of an event have shared; NULL is ignored. In the same turn. */
void channel_event_end(struct cached_event *shared);

/* Closes all connections that are signed in as `user_id`. `reconnect`: their clients are to come back at once. */
void channel_terminate_user(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice user_id,
                            bool reconnect);

/* The same for an order that came from another process, and does not go back there. It has waited for `waited_ms`:
 * connections that were made since then stay. */
void channel_terminate_relayed(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                               struct slice user_id, bool reconnect, uint64_t waited_ms);

/* Puts an event that another process has kept into a cache channel that has none here. `ttl_s` 0: it does not expire.
 */
void channel_keep(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                  const struct channel_event *event, uint32_t ttl_s);

/* --- reading --- */

/* A walk over the kept events of all apps. Channels that begin to keep one after its begin are left out. */
struct channel_kept_walk {
    struct channel **channels; /* references */
    size_t count, at;
};

/* The texts are valid until channel_kept_release, in the same turn. */
struct channel_kept_event {
    struct slice app_id, channel, name, data;
    uint64_t left_ms; /* until it expires; 0: it does not */
    struct channel_stamp stamp;
    struct cached_event *cached;
    struct channel *owner;
};

/* Begin a walk; take the next event, false after the last one; release it; end the walk at any time. */
void channel_kept_begin(struct channel_hub *hub, struct channel_kept_walk *walk);
bool channel_kept_next(struct channel_kept_walk *walk, uint64_t now_ms, struct channel_kept_event *event);
void channel_kept_release(struct channel_kept_event *event);
void channel_kept_end(struct channel_kept_walk *walk);

struct channel_info {
    bool occupied;
    bool whole;                 /* what other nodes have is in it */
    uint32_t own_subscriptions; /* of this node alone */
    struct channel_counts counts;
    /* JSON string token, empty if nothing is cached; the caller disposes of it. */
    struct buffer cached_data;
    /* Seconds until the cached event expires; 0: it does not expire. */
    uint32_t cached_ttl_s;
};

/* Reads the state of a channel; an unknown channel is not occupied. Any thread. */
void channel_inspect(struct app_slot *slot, struct slice name, bool with_cached, struct channel_info *info);

/* The subscriptions of this node, and the users of all. Any thread that has a reference. */
void channel_own_counts(struct channel *channel, struct channel_counts *counts);

/* The number of channels that there are, occupied or not. Any thread. */
uint64_t channel_count_all(struct app_slot *slot);

/* Calls `each` for every channel with subscribers on this node whose name begins with `prefix`, except users' channels;
 * `counts` has the subscriptions on this node. Any thread. */
void channel_each(struct app_slot *slot, struct slice prefix,
                  void (*each)(void *context, struct slice name, struct channel_type type,
                               struct channel_counts counts),
                  void *context);

/* Appends the members of a presence channel as `{"id":"1"},{"id":"2"}`. Any thread. */
void channel_append_users(struct app_slot *slot, struct slice name, struct buffer *out);

/* Counts the occupied channels by label, for the metrics. Any thread. */
void channel_count_active(struct app_slot *slot, uint32_t counts[CHANNEL_LABEL_COUNT]);

/* --- joining and leaving --- */

/* A connection's subscription to a channel; owned by its session. */
struct subscription {
    struct channel *channel; /* holds a reference */
    struct stream *stream;
    struct presence_place *place; /* in a presence channel (presence.h); else NULL */
    /* Which events it gets; a reference, NULL: all. Set it with channel_set_filter. */
    struct filter *filter;
    uint32_t index; /* index in the worker's array */
    /* A watcher of a user's channel, which gets only online and offline events. */
    bool watcher;
    /* enum delta_takes: for who calls channel_set_deltas, what the client wanted before its list limited it. */
    uint8_t wanted;
    bool waiting; /* of its session only: it has not joined yet, and `channel` is not a reference */
};

enum channel_joined {
    CHANNEL_JOINED,
    CHANNEL_WAITS,        /* other nodes have to be heard first: `waiter` is called, then try again */
    CHANNEL_FULL,         /* the presence channel has `max_members` members */
    CHANNEL_FILTERS_FULL, /* the filters of the channel's subscriptions are too much work with this one */
    CHANNEL_NO_MEMORY,    /* there is no room in the account of memory (base/budget.h) */
};

/* A subscription that waits until other nodes were heard. The caller fills in `ready`, and owns the memory: until it
 * was called, or channel_await_end. */
struct channel_waiter {
    /* Called once on the connection's worker. The waiter is not in use any more when it is called. */
    void (*ready)(struct channel_waiter *waiter);
    struct channel *channel; /* a reference while it waits; NULL: it does not */
    unsigned worker;
    struct list link;
};

struct channel_join {
    /* In. For a presence channel: the user, and the exact JSON text of user_info. */
    struct slice user_id;
    struct slice user_info;
    uint32_t max_members;  /* 0: no limit */
    const struct app *app; /* the record in force: its webhooks; NULL: none */
    /* What channel_set_filter will give the subscription; NULL: none. */
    const struct filter *filter;
    struct channel_waiter *waiter; /* NULL: do not wait */
    /* Out. */
    /* Members as of the join; release with member_list_unref (presence.h). */
    struct member_list *members;
    struct frame *cached; /* the cached event, or NULL; release with frame_unref */
};

/* Finds a channel and takes a reference for the caller; NULL if there is none. Any thread. */
struct channel *channel_find(struct app_slot *slot, struct slice name);

/* Takes a reference, and drops one; the last one frees the channel. Any thread. */
struct channel *channel_ref(struct channel *channel);
void channel_unref(struct channel *channel);

/* Subscribes `stream` to a channel and fills `subscription`; if it fails, nothing is changed. A channel that is made
 * for it is taken from the account of memory. In a presence channel, the other members get member_added for a new
 * member.
 */
enum channel_joined channel_subscribe(struct channel_hub *hub, struct app_slot *slot, struct stream *stream,
                                      struct slice name, struct subscription *subscription, struct channel_join *join);

/* True if subscriptions may have to wait: this process has other nodes. */
bool channel_hub_waits(const struct channel_hub *hub);

/* Makes other nodes heard about a channel, as channel_subscribe does: CHANNEL_JOINED if they were, CHANNEL_WAITS, or
 * CHANNEL_NO_MEMORY. What is to be done then must begin within 10 s, or it waits again. */
enum channel_joined channel_await(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                  struct slice name, struct channel_waiter *waiter);

/* Ends the wait; a waiter that does not wait is accepted. On its worker. */
void channel_await_end(struct channel_waiter *waiter);

/* The number of waiters. Any thread. */
uint32_t channel_hub_waiting(const struct channel_hub *hub);

/* Watches whether a user is signed in: `*online` gets the current state, and the connection gets changes as watchlist
 * events. False if there is no room in the account of memory for the user's channel. */
bool channel_watch_user(struct channel_hub *hub, struct app_slot *slot, struct stream *stream, struct slice user_id,
                        struct subscription *subscription, bool *online);

/* Fills the results of `join` with the current state, for a client that subscribes again. Events that are on their way
 * to it still arrive, but not those about members up to now: the new list has them. */
void channel_snapshot(struct subscription *subscription, struct channel_join *join);

/* Ends a subscription or a watch. `app` as in struct channel_join. */
void channel_leave(struct channel_hub *hub, struct subscription *subscription, const struct app *app);

/* --- deltas and filters of a subscription, on its worker's thread --- */

/* How a subscription takes the events of its channel. */
enum delta_takes {
    TAKES_WHOLE, /* no deltas */
    TAKES_FOSSIL,
    TAKES_XDELTA3,
    TAKES_DEFAULT, /* deltas with the algorithm that the app sets for the channel, else with the server's */
};

/*
 * Sets how the subscription takes events, from the next event on. `asked`: the subscription itself has decided that, so
 * a setting of the app that turns deltas off for the channel does not change it; (TAKES_WHOLE, true) is a subscription
 * that does not want them although its connection does. False, and nothing is changed, if there is no room in the
 * account of memory. The channels of channel_type_has_deltas only.
 */
bool channel_set_deltas(struct channel_hub *hub, struct subscription *subscription, enum delta_takes takes, bool asked);

/* What was set, `*asked` (may be NULL) too; (TAKES_WHOLE, false) if nothing was. */
enum delta_takes channel_deltas(const struct subscription *subscription, bool *asked);

/* The client has lost its texts: the next event is whole. */
void channel_forget_base(struct subscription *subscription);

/* True if the subscription may get the filter; false if the filters of the channel's subscriptions on its worker would
 * be too much work (FILTERS_WORK_MAX). */
bool channel_takes_filter(const struct subscription *subscription, const struct filter *filter);

/* Sets the filter, made for the channel, from the next event on; NULL: none. Takes over the reference to it, and
 * releases the filter that was there. */
void channel_set_filter(struct channel_hub *hub, struct subscription *subscription, struct filter *filter);

/* Returns the filters of the subscriptions on a worker (channel/filter/filter_set.h). */
struct filter_set *channel_hub_filters(struct channel_hub *hub, const struct worker *worker);

/* The name and type of a channel, immutable. Any thread. */
struct slice channel_name(const struct channel *channel);
struct channel_type channel_type(const struct channel *channel);
