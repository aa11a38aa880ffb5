/*
 * The table of nodes: which others there are, and which of them are alive.
 *
 *   node_messages.c --- nodes_heard, nodes_hello, nodes_bye, ... ---> table --- struct nodes_hooks ---> what is to be
 *                                                                                said, and which nodes came and left
 *
 * Pure logic: it has no descriptor and no timer. The caller passes the monotonic time, and calls nodes_run when that
 * asks for it. Another node has a number from 1 to 63, this node is 0; numbers of those that have left are given again.
 * A node is known by the id of its run.
 *
 * Silence counts only while the bus was up and this node ran: nodes_up, and a call of nodes_run that comes late by more
 * than a heartbeat interval, start every other's silence anew. What one node says of another's death is believed when
 * that one has been silent here for half of the timeout: a node that lives hears it, too, and takes a new id.
 *
 * On the cluster's thread. Hooks may call nodes_hold, nodes_release and the functions that only read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "cluster/message/message.h"

/* Numbers of nodes are below this one. */
#define NODES_MAX 64
/* Bytes of a name and of an address, with the zero byte; longer ones are cut. */
#define NODE_TEXT_MAX 128
/* Ids of nodes that have left; the oldest is forgotten first. */
#define NODES_GONE_MAX 1024

/* What a node says of itself for people. */
struct node_load {
    uint64_t connections;
    uint64_t channels;
    uint32_t permille; /* of the busiest worker's time */
};

/* A `hello`. */
struct node_hello {
    struct node_id replaces; /* none: the run is new */
    struct message_versions versions;
    uint64_t started_ms; /* wall clock */
    struct slice name, address;
    struct node_load load;
};

enum node_state {
    NODE_FREE,
    NODE_ALIVE,
    NODE_GONE, /* left, and its number is held */
};

/* Another node. */
struct node {
    struct node_id id;
    enum node_state state;
    uint32_t holds;         /* see nodes_hold */
    bool no_version;        /* there is no version that both speak */
    bool awaited;           /* it was alive when the bus came up, and has not said hello since */
    bool renamed;           /* it had another id when it came */
    uint64_t heard_ms;      /* monotonic */
    uint64_t heard_wall_ms; /* wall clock, as for those below */
    uint64_t came_wall_ms;
    uint64_t started_ms;
    struct message_versions versions;
    struct node_load load;
    char name[NODE_TEXT_MAX], address[NODE_TEXT_MAX];
};

/* Who has sent a message. */
enum nodes_sender {
    NODES_KNOWN,
    NODES_SELF,
    NODES_UNKNOWN, /* it was asked for its hello, unless this is one */
    NODES_LEFT,    /* a node that said bye, or took a new id, a few seconds ago */
    NODES_DROP,    /* a node that is dead or departed */
};

struct nodes_hooks {
    /* What is to be said. `to` NULL: to all. An answer is not answered. */
    void (*say_hello)(void *context, const struct node_id *to, bool answer);
    void (*say_heartbeat)(void *context);
    void (*say_dead)(void *context, struct node_id dead, const struct node_id *to);
    /* This node has a new id. It is silent until nodes_up, when its new inbox is in force. */
    void (*renamed)(void *context, struct node_id before);
    /* Others have come and left. `replaced`: a process has taken a new id; `left` is not called for the old one. The
     * number of one that left may be held. */
    void (*came)(void *context, unsigned number);
    void (*left)(void *context, unsigned number);
    void (*replaced)(void *context, unsigned before, unsigned now);
    /* All that were alive when the bus came up have said hello again, or a second is over. */
    void (*gathered)(void *context);
    void *context;
};

struct nodes_settings {
    uint64_t heartbeat_ms, timeout_ms;
    uint64_t outage_ms; /* all others are forgotten when the bus has been down for so long */
    struct message_versions versions;
};

struct nodes;

struct nodes *nodes_create(const struct nodes_settings *settings, const struct nodes_hooks *hooks, uint64_t now_ms);
/* NULL is accepted. */
void nodes_destroy(struct nodes *nodes);

/* --- this node --- */

struct node_id nodes_own_id(const struct nodes *nodes);
/* The id that the own one replaces; none at first. */
struct node_id nodes_replaced_id(const struct nodes *nodes);

/* The highest version that all live nodes speak. */
uint8_t nodes_version(const struct nodes *nodes);

/* The bus is up and this node's own subscriptions are in force: says hello, at 0, 250 and 500 ms. Also after a rename.
 */
void nodes_up(struct nodes *nodes, uint64_t now_ms);
void nodes_down(struct nodes *nodes, uint64_t now_ms);
/* True between the two: this node says hello before anything else that is said now. */
bool nodes_are_up(const struct nodes *nodes);

/* Does what is due; returns when to call it again. */
uint64_t nodes_run(struct nodes *nodes, uint64_t now_ms);

/* --- what was heard --- */

/* Any message with a valid header: a sign of life. Sets `number` to that of a known node, else 0. What the kind says
 * comes next, unless NODES_SELF or NODES_DROP was returned; after NODES_LEFT only what was said before it left. */
enum nodes_sender nodes_heard(struct nodes *nodes, struct node_id sender, bool is_hello, unsigned *number,
                              uint64_t now_ms);
/* Returns the number of the node; 0: there are too many. `answer`: it was said to all, or is a question. */
unsigned nodes_hello(struct nodes *nodes, struct node_id sender, const struct node_hello *hello, bool answer,
                     uint64_t now_ms);
void nodes_heartbeat(struct nodes *nodes, unsigned number, const struct node_load *load);
void nodes_bye(struct nodes *nodes, struct node_id sender, uint64_t now_ms);
void nodes_dead(struct nodes *nodes, struct node_id dead, uint64_t now_ms);

/* --- the table --- */

/* Of a number from 1 to 63; its state may be NODE_FREE. */
const struct node *nodes_at(const struct nodes *nodes, unsigned number);
/* The number of a live node; 0: no live node has that id. */
unsigned nodes_find(const struct nodes *nodes, struct node_id id);
/* A bit for the number of each live node. 0: this node is alone. */
uint64_t nodes_alive(const struct nodes *nodes);
unsigned nodes_alive_count(const struct nodes *nodes);

/* Keep the number of a node that left from being given to another one, and give it back. */
void nodes_hold(struct nodes *nodes, unsigned number);
void nodes_release(struct nodes *nodes, unsigned number);

/* The last hello to all went to so many others. */
void nodes_expect(struct nodes *nodes, uint64_t others);
/* True if all that are expected are alive; if it is not known how many that are, if no new node was heard of for
 * `quiet_ms` since the bus came up. */
bool nodes_settled(const struct nodes *nodes, uint64_t quiet_ms, uint64_t now_ms);
/* True if a node was refused lately, or a node speaks no version of this one's. */
bool nodes_in_trouble(const struct nodes *nodes, uint64_t now_ms);
