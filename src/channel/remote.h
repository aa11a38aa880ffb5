/*
 * The side of channels towards other nodes, for cluster/. Without hooks (adapter local) nothing here is in use, and a
 * channel has no struct channel_cluster.
 *
 *   sets        Of each channel with state this node keeps its own set: the members that have connections here, or just
 *               "occupied". Each other node's set is kept as that node told it, with the version that it has. A user is
 *               there while any node has it: struct presence_member has a bit for each node (presence.h).
 *   versions    come from one counter of this run, hub-wide, and are given under the channel's mutex.
 *   interest    A channel with subscribers, watchers or waiters is wanted. cluster/ takes that as a notice, subscribes
 *               to the channel's subject, asks for its state, and says channel_ready. Until then subscriptions wait
 *               (channel_await). When nobody is left, cluster/ waits 10 s and says channel_let_go.
 *   nodes       have numbers: 0 is this one, 1 to 63 others. A number may be given to another node when
 *               channel_remote_forget is done with it on all workers.
 *
 * Threads. "Worker" is the thread of the worker hash_bytes(name) % workers: everything that other nodes say of a
 * channel is applied there, so it stays in order. "Any thread" must hold a reference to the channel, and be in a
 * worker's turn or between reclaim_read_begin and reclaim_read_end. Hooks that are called under the channel's mutex
 * must not allocate, wait, or take a lock: loop_post is what they may do. The mutex is a leaf: hooks never call back
 * into channel/.
 *
 * Lifetime. A channel that is held (from its first notice until channel_let_go has succeeded) stays in the table of its
 * app, and so the slot of the app stays. After that the slot may go: keep a copy of the app's id from the first notice.
 */
#pragma once

#include "channel/channel.h"
#include "channel/presence.h"

#define CHANNEL_NODES 64

/* --- what cluster/ hears: hooks --- */

/* A change of the own set, from a worker to the cluster's thread. The hook that makes it embeds this in memory of its
 * own, with its message. Filled in before change_post. */
struct channel_own_change {
    struct channel *channel;        /* a reference, which goes with the change */
    struct presence_member *member; /* a reference, too. NULL: the set is just "occupied" */
    uint64_t version;
    uint64_t before;   /* the version of the set before; 0: it was empty */
    uint64_t since_ms; /* of the member: wall clock */
    bool added;
    bool becomes_empty; /* with this change the set is empty */
    bool webhooks;      /* the app has webhooks that take such changes of the channel */
};

struct channel_hooks {
    /* Bytes of zeroed memory in each channel that belong to cluster/ (channel_hook_memory): room for the message of the
     * notice, and what else the table of interests wants. */
    size_t memory_bytes;
    /* A notice: what channel_take_interest returns has changed. Under the mutex. It comes with a reference to the
     * channel, and not again before channel_take_interest was called. */
    void (*interest)(void *context, struct channel *channel);
    /* Makes a change before the mutex is taken. NULL: no other node needs it; the version counts on all the same, and
     * the hook is asked once more after the change has happened. Without the mutex. */
    struct channel_own_change *(*change_create)(void *context, bool webhooks);
    /* It has happened. Under the mutex, unless it was made after that. */
    void (*change_post)(void *context, struct channel_own_change *change);
    /* Frees a change that has not happened. Without the mutex. */
    void (*change_free)(void *context, struct channel_own_change *change);
    /* This node's subscription count of a channel (never a presence channel) has changed: at most once a second per
     * channel, 0 too, for apps whose clients or webhooks get counts. Without the mutex; the channel is held, and the
     * hook may take a reference. A lower version is older. */
    void (*own_count)(void *context, struct channel *channel, uint64_t version, uint32_t count);
    /* Wakes the thread after a notice or a change. Without the mutex. */
    void (*wake)(void *context);
    void *context;
};

/* Sets the hooks, which outlive the hub. On the main thread, before the first channel. */
void channel_hub_set_hooks(struct channel_hub *hub, const struct channel_hooks *hooks);

/* Tells the id of a node, also the own one (number 0), before anything with that number. It decides between equal
 * times. Any thread. */
void channel_hub_name_node(struct channel_hub *hub, unsigned node, const uint64_t id[2]);

/* The memory of cluster/ in the channel. It lives as long as a reference to the channel. */
void *channel_hook_memory(struct channel *channel);

/* --- interest --- */

struct channel_interest {
    bool wanted; /* there are subscribers, watchers or waiters */
    /* The channel counts on the subject: until channel_let_go. False: end the subscription; if `generation` is another
     * one than before and this is true, it was let go and wanted again meanwhile: ask for its state again. */
    bool held;
    bool stateful;       /* ask the other nodes for its state; it may become true later */
    bool waits;          /* subscriptions wait for channel_ready */
    uint32_t generation; /* counts how often it became held */
};

/* Answers the notice: returns what is wanted now, and lets the next change give a notice again. The caller drops the
 * reference that came with the notice when it needs it no more. On the cluster's thread; it takes the mutex for a few
 * loads. */
struct channel_interest channel_take_interest(struct channel *channel);

/* The subject is in force and the answers are in, or it cannot be had now (the bus is down): waiting subscriptions go
 * on, on their workers, and later ones do not wait. Ignored if the generation is not the present one. Any thread. */
void channel_ready(struct channel_hub *hub, struct channel *channel, uint32_t generation);

/* Lets new subscriptions wait again, until channel_ready: the subject is not in force any more, though it soon may be.
 * Those that there are stay as they are. Any thread. */
void channel_unready(struct channel *channel, uint32_t generation);

/* The same for all channels at once. On the thread that calls channel_ready. */
void channel_hub_unready(struct channel_hub *hub);

/* Gives the interest up if nobody has come meanwhile: what other nodes have is dropped, and a notice with `held` false
 * follows. Else nothing happens. On the worker. */
void channel_let_go(struct worker *worker, struct channel *channel, uint32_t generation);

/* A walk over the channels of a worker that are held; those that come meanwhile may be in it or not. */
struct channel_held;
struct channel_held_walk {
    struct channel_held *cursor;
    unsigned worker;
};

/* On the worker, over several turns if you like. channel_held_next returns a reference, NULL after the last one. */
void channel_held_begin(struct channel_hub *hub, const struct worker *worker, struct channel_held_walk *walk);
struct channel *channel_held_next(struct channel_hub *hub, struct channel_held_walk *walk);
void channel_held_end(struct channel_hub *hub, struct channel_held_walk *walk);

/* The id of the channel's app. While the channel is held. */
struct slice channel_app_id(const struct channel *channel);
/* The slot of the channel's app, valid until the end of the turn; NULL: the channel is not held. On its worker. */
struct app_slot *channel_held_slot(struct channel *channel);
/* The version of another node's set, or the own one (node 0); 0: none. An empty set may have one. Any thread. */
uint64_t channel_set_version(struct channel *channel, unsigned node);

/* --- this node's own set --- */

/* A walk over the own set, for an answer in parts. It may take several turns: changes after `version` may be in it
 * already, or not, so apply those with a higher version afterwards, in their order. */
struct channel_own_walk {
    struct channel *channel; /* a reference */
    uint64_t version;        /* 0: the set was never used */
    bool occupied;           /* the set is not empty */
    bool presence;           /* it has members */
    uint32_t subscriptions;  /* this node's count, as of `count_version` */
    uint64_t count_version;
    struct channel_kept_event kept; /* if has_kept: what the channel keeps, with its stamp */
    bool has_kept;
    struct member_list *list;
    uint32_t block;
    unsigned taken; /* members of the last channel_own_next; released by the next one */
    struct presence_member *members[MEMBERS_PER_BLOCK];
};

/* Begins a walk; false if there is no such channel here. In a worker's turn, with the slot from a lookup. */
bool channel_own_begin(struct app_slot *slot, struct slice name, uint64_t now_ms, struct channel_own_walk *walk);
/* Puts the next members into walk->members; false after the last. Any thread. */
bool channel_own_next(struct channel_own_walk *walk);
/* Ends it at any time. Any thread; with a kept event in the turn of the begin, or after channel_own_drop_kept in it. */
void channel_own_end(struct channel_own_walk *walk);
void channel_own_drop_kept(struct channel_own_walk *walk);

/* --- what other nodes say --- */

enum remote_result {
    REMOTE_DONE,
    REMOTE_OLD,     /* not newer than what is known: ignored */
    REMOTE_GAP,     /* a change before it is missing, or a set of the node is being taken in: ask for the set */
    REMOTE_UNKNOWN, /* the channel is not held here */
    REMOTE_FULL,    /* no room in the account of memory: the version stays, so ask again later */
};

/* The caller keeps the texts. */
struct remote_member {
    struct slice id;   /* decoded, 1 to USER_ID_MAX bytes of valid UTF-8 */
    struct slice info; /* JSON text, checked */
    uint64_t since_ms; /* wall clock */
};

/* A change of another node's set. `member` without an id: of a set that is just "occupied". */
struct remote_change {
    unsigned node;
    uint64_t version, before;
    bool added;
    struct remote_member member;
};

enum remote_result channel_remote_change(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                         struct slice name, const struct remote_change *change);

/*
 * Taking in a whole set, in parts: begin, add each part, end. Members that the node had and that no part names are
 * removed at the end, over several turns if they are many. From begin until `done` changes of that node get REMOTE_GAP:
 * keep them.
 */
struct remote_set;

/* Begins; NULL with REMOTE_OLD, REMOTE_UNKNOWN or REMOTE_GAP (another one of the node is under way) in `*result`. A set
 * whose version is the known one is taken in, too: it mends what is wrong. `occupied` is for channels without members.
 */
struct remote_set *channel_remote_set_begin(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                            struct slice name, unsigned node, uint64_t version, bool occupied,
                                            enum remote_result *result);
void channel_remote_set_add(struct remote_set *set, const struct remote_member *members, size_t count);
/* Ends the set and frees it. `done` (may be NULL) is called on the worker, from within or in a later turn, with
 * REMOTE_DONE, REMOTE_UNKNOWN (it was let go meanwhile) or REMOTE_FULL. `complete` false: give it up, and remove
 * nothing. */
void channel_remote_set_end(struct remote_set *set, bool complete,
                            void (*done)(void *context, enum remote_result result), void *context);

/* Forgets all sets and counts of a node in the channels of this worker, over several turns; `done` is called on the
 * worker at the end, or from within. Call it on each worker, after what the node had said was passed on. */
void channel_remote_forget(struct channel_hub *hub, struct worker *worker, unsigned node, void (*done)(void *context),
                           void *context);

/* The same for one channel, when the set of the node that replaces this one is there. */
void channel_remote_forget_in(struct channel_hub *hub, struct app_slot *slot, struct worker *worker, struct slice name,
                              unsigned node, void (*done)(void *context), void *context);

/* Takes in the subscription count of a node. `version` 0: any later count of the node is newer. */
enum remote_result channel_remote_count(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                        struct slice name, unsigned node, uint64_t version, uint32_t count);

/* Takes in what another node keeps for a cache channel, if it is newer than what is kept here, without delivering it.
 * Of `event` name, data, tags, and the stamp count. `left_ms` 0: it does not expire. */
enum remote_result channel_remote_cached(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                         struct slice name, const struct channel_event *event, uint64_t left_ms);
