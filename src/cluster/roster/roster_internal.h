/*
 * Types and functions that the files of the roster share.
 *
 *   roster_rank.c   which node sends the events of a channel
 *   roster_table.c  channels and users, and their indexes
 *   roster_weigh.c  what is there, and what of it webhooks were told
 *   roster_walk.c   work on all channels, in slices: senders change, a node leaves or is told everything
 *   roster.c        what nodes report, and time
 */
#pragma once

#include "base/hash_index.h"
#include "base/heap.h"
#include "base/list.h"
#include "cluster/roster/roster.h"

struct roster_channel;

/* A user in a channel, or with an empty id, that the channel is occupied. */
struct roster_user {
    struct hash_link link;
    struct list in_channel;
    struct roster_channel *channel;
    uint64_t nodes; /* a bit for each node that has it */
    uint64_t stale; /* of these: nodes that are telling all they have, and have not named it */
    struct heap_node grace;
    bool told : 1;   /* webhooks know it as there */
    bool known : 1;  /* while the channel settles: it was there before the sender changed */
    bool news : 1;   /* while the channel settles: the sender before has not told it */
    bool recent : 1; /* it came to this node after the live nodes changed */
    uint8_t length;
    char id[];
};

/* What one node reports of a channel, beside the bits of its users. */
struct roster_report {
    uint8_t node;
    uint32_t epoch; /* of the last ROSTER_ALL of the node */
    uint32_t count; /* of subscriptions */
    bool tells;     /* it is telling all that it has of the channel */
    bool recent;    /* of this node: the count has changed after the live nodes did */
};

/* A channel. While this node neither sends its events nor is the deputy, it has only the own part. */
struct roster_channel {
    struct hash_link link;
    struct list in_all;
    uint64_t rank_hash;           /* the same on all nodes */
    struct roster_user *occupied; /* NULL: as one without nodes that was not told */
    struct list users;
    struct roster_report *reports;
    uint8_t report_count;
    uint8_t sender, deputy; /* numbers of nodes; the deputy is NO_NODE if there is none */
    bool settled;           /* what was told is known here; else it waits for the handover, or is not the sender */
    bool counted;           /* while the channel settles: a count has changed */
    bool telling;           /* between ROSTER_TOLD_ALL and its end */
    struct heap_node settles;
    uint32_t told_count;
    uint32_t told_epoch; /* the last ROSTER_ALL of the node that has said what was told */
    uint32_t user_count;
    uint16_t app_length, name_length;
    char text[];
};

/* For so long after the live nodes changed, a channel that a node tells as a whole is one that there was before. */
#define SETS_TOLD_MS 10000

#define NO_NODE ROSTER_NODES

struct roster_walk {
    bool away;           /* this node was away: what was told is not known any more */
    bool ranks;          /* senders and deputies may have changed */
    uint64_t forget;     /* nodes whose part goes */
    uint64_t forget_old; /* nodes of whose part goes what is older than their last ROSTER_ALL */
    uint64_t tell;       /* nodes that are told everything */
};

struct roster {
    struct roster_hooks hooks;
    struct hash_index channels, users;
    struct list all; /* channels, oldest first */
    uint64_t refused;
    struct heap graces;  /* of users */
    struct heap settles; /* of channels */
    uint64_t serial;     /* keeps the order of those that are due at the same time */
    uint64_t alive;
    struct node_id ids[ROSTER_NODES];
    uint64_t changed_ms;   /* when the live nodes changed; 0: never */
    uint64_t alive_before; /* the live nodes before those changes, and their ids */
    struct node_id ids_before[ROSTER_NODES];
    uint32_t epochs[ROSTER_NODES];
    bool leaving;
    bool ends_graces; /* it leaves, and there is no other node */
    bool away;        /* until a walk has seen to all channels */

    /* The walk under way visits `at` next, and begins again with what `next_walk` asks for. */
    struct roster_walk walk, next_walk;
    struct list *at; /* NULL: no walk */
};

/* --- roster_rank.c --- */

/* Decides the sender and the deputy of a channel. */
void roster_rank(const struct roster *roster, struct roster_channel *channel);
/* True if this node sent its events also before the live nodes changed. */
bool roster_was_sender(const struct roster *roster, const struct roster_channel *channel);

/* --- roster_table.c --- */

struct roster_channel *roster_find_channel(const struct roster *roster, struct slice app, struct slice name);
/* Finds or makes it; NULL if there is no room. */
struct roster_channel *roster_make_channel(struct roster *roster, struct slice app, struct slice name);
/* A user, or with an empty id whether the channel is occupied. */
struct roster_user *roster_find_user(const struct roster *roster, const struct roster_channel *channel,
                                     struct slice id);
struct roster_user *roster_make_user(struct roster *roster, struct roster_channel *channel, struct slice id);
void roster_free_user(struct roster *roster, struct roster_user *user);
/* Frees the channel if nothing is known of it any more. */
bool roster_free_unused(struct roster *roster, struct roster_channel *channel);
void roster_free_channel(struct roster *roster, struct roster_channel *channel);
/* The node's report; NULL: there is none. roster_make_report makes it. */
struct roster_report *roster_find_report(const struct roster_channel *channel, unsigned node);
struct roster_report *roster_make_report(struct roster_channel *channel, unsigned node);
void roster_drop_report(struct roster_channel *channel, unsigned node);

static inline struct slice roster_app(const struct roster_channel *channel) {
    return (struct slice){channel->text, channel->app_length};
}

static inline struct slice roster_name(const struct roster_channel *channel) {
    return (struct slice){channel->text + channel->app_length, channel->name_length};
}

static inline struct slice roster_user_id(const struct roster_user *user) {
    return (struct slice){user->id, user->length};
}

/* --- roster_weigh.c --- */

/* True if this node sends the events of the channel now. */
bool roster_is_sending(const struct roster *roster, const struct roster_channel *channel);
/* Sets the time of a timer; those of the same millisecond are due in this order. */
void roster_set_due(struct roster *roster, struct heap *heap, struct heap_node *node, uint64_t due_ms);
/* Tells webhooks, and before them the deputy. */
void roster_tell_user(struct roster *roster, struct roster_user *user, bool there);
/* Frees the user if nothing is known of it any more. */
void roster_forget_unneeded(struct roster *roster, struct roster_user *user);
/* Forgets what was told, of a user or of all; the users stay. */
void roster_forget_told_of(struct roster *roster, struct roster_user *user);
void roster_forget_told(struct roster *roster, struct roster_channel *channel);
/* Without word from the sender before: what was there before is taken as told. */
void roster_take_known_as_told(struct roster_channel *channel);

/* Compares what is there with what was told, and acts on it if this node is the sender. */
void roster_weigh(struct roster *roster, struct roster_user *user, uint64_t now_ms);
void roster_weigh_count(struct roster *roster, struct roster_channel *channel);
/* All of a channel. */
void roster_weigh_all(struct roster *roster, struct roster_channel *channel, uint64_t now_ms);
/* What was told is known from now on. */
void roster_settle(struct roster *roster, struct roster_channel *channel, uint64_t now_ms);
/* Waits with that for the handover. */
void roster_settle_later(struct roster *roster, struct roster_channel *channel, uint64_t now_ms);
/* Frees the users of whom nothing is known any more. */
void roster_forget_all_unneeded(struct roster *roster, struct roster_channel *channel);
/* Takes the node out of the user; frees the user if it is not needed any more. */
void roster_drop_node(struct roster *roster, struct roster_user *user, uint64_t nodes, uint64_t now_ms);
/* Says what was told, to one who may have to go on. */
void roster_say_all_told(struct roster *roster, unsigned node, const struct roster_channel *channel, uint64_t now_ms);
/* Says an item about the channel. */
void roster_say(struct roster *roster, unsigned node, const struct roster_channel *channel, enum roster_item_type type,
                struct slice user, uint64_t number);

/* --- roster_walk.c --- */

/* Asks for a walk over all channels. */
void roster_want_walk(struct roster *roster, const struct roster_walk *walk);
/* Goes on with it for a while. False: there is no walk. */
bool roster_walk_on(struct roster *roster, uint64_t now_ms);
