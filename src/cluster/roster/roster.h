/*
 * The roster: who is in the channels of apps with webhooks, on which nodes, and what of that webhooks were told.
 *
 *   Every channel has a sender, the node that sends its events to webhooks, and a deputy, which takes over when the
 *   sender dies. They are the first and the second of all live nodes in an order that depends on the channel
 *   (rendezvous hashing), so all nodes agree on them without talking.
 *
 *   node with clients --- items: its own part ---> sender, deputy
 *   sender --- items: what was told ---> deputy
 *   sender --- events ---> webhooks
 *
 * What is there and was not told is told at once; what was told and is not there any more, after a grace of 3 seconds.
 * When the sender changes, the old one says what it has told, and the new one waits for that, a second at most. If
 * nothing comes, it takes what nodes had before the change as told: nothing is told twice.
 *
 * Items from one node to another arrive in their order or not at all: roster_reports.c numbers them, and asks for
 * everything anew when some are missing. The own part of this node is in its roster, too, whoever the sender is.
 *
 * Pure logic with the monotonic time of the caller. On the cluster's thread. Hooks must not call back.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "cluster/nodes/node_id.h"

#define ROSTER_NODES 64
#define ROSTER_GRACE_MS 3000
/* How long a new sender waits for what the old one has told. */
#define ROSTER_HANDOVER_MS 1000
/* Graces that end in one call, and users of channels that settle in it: about a millisecond. */
#define ROSTER_DUE_AT_ONCE 1000

/* The numbers are part of the protocol. An item is about a channel, but for the two ROSTER_ALL_. */
enum roster_item_type {
    ROSTER_ADDED = 1,   /* `user` has come to the reporting node; empty: the channel is occupied there */
    ROSTER_REMOVED = 2, /* the opposite */
    ROSTER_COUNT = 3,   /* its number of subscriptions; with ROSTER_COUNT_RECENT */
    ROSTER_SET = 4,     /* all of its part follows; `number`: ROSTER_HERE, with ROSTER_RECENT; 0: it is not occupied */
    ROSTER_MEMBER = 5,  /* a user of that part; `number`: ROSTER_RECENT or 0 */
    ROSTER_SET_END = 6,
    ROSTER_TOLD = 7,   /* the sender has told webhooks that `user` is there, or that the channel is occupied */
    ROSTER_UNTOLD = 8, /* or is not */
    ROSTER_TOLD_COUNT = 9,
    ROSTER_TOLD_ALL = 10,     /* what the sender has told follows */
    ROSTER_TOLD_PART = 11,    /* one of that; `number`: milliseconds until its grace ends, 0: it is there */
    ROSTER_TOLD_ALL_END = 12, /* it was all */
    ROSTER_ALL = 13,          /* everything that the receiver is to know follows */
    ROSTER_ALL_END = 14,
    ROSTER_NEWS = 15, /* the sender, which may not know what was told, knows that `user` was not told as there */
};

/* Of what a node tells anew: it came there after the live nodes changed, so no sender before has told it. */
#define ROSTER_HERE 1
#define ROSTER_RECENT 2
#define ROSTER_COUNT_RECENT (UINT64_C(1) << 32)

struct roster_item {
    enum roster_item_type type;
    struct slice app, channel;
    struct slice user; /* decoded */
    uint64_t number;
};

enum roster_event_kind { ROSTER_OCCUPIED, ROSTER_VACATED, ROSTER_JOINED, ROSTER_LEFT, ROSTER_COUNTED };

struct roster_event {
    enum roster_event_kind kind;
    struct slice app, channel;
    struct slice user; /* decoded; of ROSTER_JOINED and ROSTER_LEFT */
    uint32_t count;    /* of ROSTER_COUNTED */
};

struct roster_hooks {
    /* An item for another node. */
    void (*say)(void *context, unsigned node, const struct roster_item *item);
    /* Webhooks are to be told. The deputy was told before. */
    void (*tell)(void *context, const struct roster_event *event);
    void *context;
};

struct roster;

struct roster *roster_create(const struct roster_hooks *hooks);
/* NULL is accepted. */
void roster_destroy(struct roster *roster);

/* This node's own part has changed. `user` empty: the channel is occupied here, or not any more; a presence channel
 * says both. */
void roster_own_change(struct roster *roster, struct slice app, struct slice channel, struct slice user, bool added,
                       uint64_t now_ms);
void roster_own_count(struct roster *roster, struct slice app, struct slice channel, uint32_t count, uint64_t now_ms);

/* An item of another node. */
void roster_take(struct roster *roster, unsigned node, const struct roster_item *item, uint64_t now_ms);

/* The live nodes: a bit for each, and their ids by number; `ids[0]` is the own one. What those had that are not in
 * `alive` any more is removed. `forget`: nodes that have another id now, or are new under their number. */
void roster_set_nodes(struct roster *roster, uint64_t alive, const struct node_id ids[ROSTER_NODES], uint64_t forget,
                      uint64_t now_ms);

/* This node was away, and another one may have been the sender: what webhooks were told is not known any more. */
void roster_was_away(struct roster *roster, uint64_t now_ms);

/* Says everything to the nodes of the mask that they are to know. */
void roster_tell_all(struct roster *roster, uint64_t nodes, uint64_t now_ms);

/* The process ends, and its clients have gone: hands over to the next senders, in as many calls as it takes. False when
 * all is said. Without another node, what is in its grace is told now. */
bool roster_leave(struct roster *roster, uint64_t now_ms);

/* True while a walk over all channels is under way: roster_run goes on with it. */
bool roster_is_walking(const struct roster *roster);

/* Does what is due, or a part of it. Returns when to call it again; UINT64_MAX: after the next change. */
uint64_t roster_run(struct roster *roster, uint64_t now_ms);

/* The channels and users in it, for the metrics. */
struct roster_size {
    uint64_t channels, users;
    uint64_t refused; /* for want of room */
};
void roster_read_size(const struct roster *roster, struct roster_size *size);
