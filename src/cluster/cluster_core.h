/*
 * What the parts of the cluster share: the thread, the bus, the table of nodes, and the handlers by kind of message.
 *
 *   bus ---> cluster_core.c: header, sender ---> nodes.h ---> the handler of the kind, in the file that owns it
 *   bus <--- cluster_core_publish, outgoing.h <--- parts
 *
 * A part is a file of cluster/ (interest, state, incoming, ...): its `..._create` gets the core, adds a struct
 * cluster_part and the kinds that it handles, and cluster.c has a line for it. A part includes this header, never
 * cluster.h. On the cluster's thread, but for what says otherwise.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/slice.h"
#include "cluster/bus.h"
#include "cluster/loop.h"
#include "cluster/message/message.h"
#include "cluster/message/subject.h"
#include "cluster/nodes/nodes.h"

struct app_manager;
struct channel_hub;
struct config;
struct reclaimer;
struct worker;
struct workers;

#define CLUSTER_PARTS_MAX 16

/* What a part is told. Each function may be NULL. They are called in the order in which the parts were added, `dispose`
 * in the reverse one. */
struct cluster_part {
    /* The bus came up: publishing works, and what is subscribed to is not in force yet. */
    void (*bus_up)(void *context);
    /* After that this node's inbox and the subject of all nodes have come in force; again after `renamed`. */
    void (*up)(void *context);
    /* The bus went down. Also called when it could not be reached at first. */
    void (*down)(void *context);
    /* After `up`: the nodes that were alive before have said hello again, or a second is over. */
    void (*gathered)(void *context);
    /* Of any subject; a part ignores those of others. */
    void (*in_force)(void *context, struct slice subject);
    void (*interrupted)(void *context, struct slice subject);
    /* Other nodes, by number. The number of one that left or was replaced is given again unless it is held (nodes_hold)
     * in this call. `node_replaced`: a process has taken a new id; `node_left` is not called for the old one. */
    void (*node_came)(void *context, unsigned node);
    void (*node_left)(void *context, unsigned node);
    void (*node_replaced)(void *context, unsigned before, unsigned now);
    /* Add to the `hello` that this node says, and take what another one's says. Texts that are added live until the
     * next call. */
    void (*say_hello)(void *context, struct message_hello *hello);
    void (*hello)(void *context, unsigned node, const struct message_hello *hello);
    /* This node has taken a new id: the others do not know what it told under the old one. */
    void (*renamed)(void *context);
    /* All clients have gone. This node says `bye` when each part that has this function has called cluster_core_left,
     * or after a second. */
    void (*leaving)(void *context);
    /* The end of each turn of the thread, before the bus is flushed. */
    void (*end_of_turn)(void *context);
    /* Frees the part. The thread has ended, or was not started. */
    void (*dispose)(void *context);
    void *context;
};

/* Handles a message of a node (0: it is not known yet, or not any more). True: it has taken `bus_message` and releases
 * that, on any thread; texts of `message` point into it. */
typedef bool cluster_handler(void *context, unsigned node, const struct cluster_message *message,
                             struct bus_message *bus_message);

struct cluster_kind {
    cluster_handler *handle;
    void *context;
    bool strangers; /* also from nodes that are not known yet */
    bool departed;  /* also from those that left a moment ago */
    struct counter received, received_bytes, sent, sent_bytes;
};

struct cluster_core {
    struct loop *loop;
    struct bus *bus;
    struct key_store *store; /* made by cached_events.c, as the next; NULL: cache.driver names none */
    struct cached_events *cached_events;
    struct subjects subjects;
    struct nodes *nodes; /* made by node_messages.c */
    /* Of the process; some are NULL in tests. */
    const struct config *config;
    struct workers *workers;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct reclaimer *reclaimer;

    bool up;             /* the bus is up */
    uint64_t run_number; /* of the last message of this node */

    struct cluster_kind kinds[MESSAGE_KINDS];
    struct cluster_part parts[CLUSTER_PARTS_MAX];
    unsigned part_count;
    unsigned leaving;                /* parts that have not called cluster_core_left yet */
    void (*all_left)(void *context); /* of cluster.c */
    void *all_left_context;
    bool silent; /* `bye` was said: nothing is published any more */
    bool ended;  /* the thread and the workers have ended */

    struct counter malformed; /* messages that do not parse */
    struct counter skipped;   /* of unknown kinds or versions */
    struct counter dropped;   /* from nodes that are dead, refused or not known */
    struct counter unsent;    /* the bus was down or full */
    uint64_t malformed_logged_ms;
    struct counter outages, outage_ms;  /* of those that are over */
    atomic_uint_fast64_t down_since_ms; /* monotonic; 0: the bus is up */

    /* Read by any thread. */
    atomic_uint_fast64_t alive; /* as nodes_alive */
};

/* Add a part, and the handler of a kind. Before the thread runs. */
void cluster_core_add_part(struct cluster_core *core, const struct cluster_part *part);
void cluster_core_handle(struct cluster_core *core, unsigned kind, cluster_handler *handle, bool strangers,
                         void *context);
/* The same for a kind that does not depend on what is known of the sender: it may travel on another way than `hello`
 * and `bye`, and come before the one or after the other. The node is 0 then. */
void cluster_core_handle_of_any(struct cluster_core *core, unsigned kind, cluster_handler *handle, void *context);

/* Encodes a message and hands it to the bus; kind and body are the caller's. False, and nothing is queued: the bus is
 * down, or more waits in it than adapter.outage_buffer_mb (signs of life go all the same). What is to survive an outage
 * goes through outgoing.h. */
bool cluster_core_say(struct cluster_core *core, struct slice subject, struct cluster_message *message);
bool cluster_core_say_to_all(struct cluster_core *core, struct cluster_message *message);
bool cluster_core_say_to(struct cluster_core *core, struct node_id node, struct cluster_message *message);

/* The same with an encoded message, which gets its sender and number now. It is published once only. The caller keeps
 * its reference. */
bool cluster_core_publish(struct cluster_core *core, struct slice subject, struct bus_bytes *bytes);

/* Posts a message to a worker; handles it at once when the workers have ended. */
void cluster_core_post(const struct cluster_core *core, struct worker *worker, struct message *message);

/* A part that was told `leaving` has said all that it has to say. */
void cluster_core_left(struct cluster_core *core);

/* --- of cluster.c and node_messages.c --- */

/* What the driver calls; the context is the core. */
struct bus_events cluster_core_events(struct cluster_core *core);

/* Call the parts. */
void cluster_core_tell_up(struct cluster_core *core);
void cluster_core_tell_down(struct cluster_core *core);
void cluster_core_tell_gathered(struct cluster_core *core);
void cluster_core_tell_came(struct cluster_core *core, unsigned node);
void cluster_core_tell_gone(struct cluster_core *core, unsigned node);
void cluster_core_tell_replaced(struct cluster_core *core, unsigned before, unsigned now);
void cluster_core_tell_renamed(struct cluster_core *core);
void cluster_core_say_hello(struct cluster_core *core, struct message_hello *hello);
void cluster_core_take_hello(struct cluster_core *core, unsigned node, const struct message_hello *hello);
void cluster_core_tell_leaving(struct cluster_core *core);
void cluster_core_tell_turn_end(struct cluster_core *core);
void cluster_core_dispose_parts(struct cluster_core *core);
