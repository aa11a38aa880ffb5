/*
 * The bus: an existing message system (Redis, Redis Cluster, NATS) that carries messages between nodes.
 *
 * A driver is the code for one kind; it has a folder in cluster/ and a line in cluster/bus_drivers.c. It embeds struct
 * bus as the first member of its own structure. All functions and callbacks are for the cluster's thread (loop.h);
 * a library's own threads hand over to it by loop_post. Nothing blocks.
 *
 * What a driver promises:
 *   - messages that one node publishes on one subject arrive in that order, each once at most;
 *   - a subscription is in force when `in_force` was called: every message that any node publishes afterwards arrives,
 *     as long as the bus stays up;
 *   - it is up while all its connections are up. Between `down` and the next `up` messages may be lost, and none that
 *     was handed to a connection is sent again. After `up` all subscriptions that were not ended are made anew, and
 *     `in_force` is called for each of them again.
 *
 * A driver with several servers is down as a whole when one connection breaks, not only for the subjects of that
 * server: what this node had handed to the connection is lost without a trace, and only `up` makes nodes tell each
 * other anew what they have. `interrupted` is for a subject of which only messages of others may be lost, while this
 * node's wait: one that moves to another server.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "cluster/loop.h"
#include "config/config.h"

struct bus;

/* The bytes of a message, shared by those who wait to send it. */
struct bus_bytes {
    atomic_uint references;
    size_t length;
    char data[];
};

/* Makes bytes with one reference and room for `length`; NULL if the system has no memory. Any thread, as below. */
struct bus_bytes *bus_bytes_create(size_t length);
struct bus_bytes *bus_bytes_ref(struct bus_bytes *bytes);
/* NULL is ignored. */
void bus_bytes_unref(struct bus_bytes *bytes);

/* A message that has arrived. The receiver owns it, may pass it to another thread, and releases it there. */
struct bus_message {
    struct slice subject; /* as it was subscribed to */
    struct slice payload;
    void (*release)(struct bus_message *message);
};

struct bus_events {
    /* All connections are up: publishing works. Subscriptions are not in force yet. */
    void (*up)(void *context);
    /* `why` names the cause, with the setting to look at if that may be wrong. Called once for each time that the bus
     * was up, and for the first failure before it was ever up. */
    void (*down)(void *context, const char *why);
    void (*in_force)(void *context, struct slice subject);
    /* Of one subject messages may have been lost; `in_force` follows when that is over. */
    void (*interrupted)(void *context, struct slice subject);
    void (*message)(void *context, struct bus_message *message);
    /* The message that was to be counted has gone to so many connections, this node's own one among them. */
    void (*counted)(void *context, uint64_t connections);
    void *context;
};

/* What a driver has at the moment. */
struct bus_state {
    bool up;
    size_t waiting_bytes;     /* published and not handed to the kernel or the library yet */
    size_t max_message_bytes; /* of the system; 0: no limit */
    /* The system is several servers that tell each other of subscriptions: after `in_force` a message may still miss
     * this node, until the other nodes have answered a request that was published afterwards. */
    bool needs_answers;
};

struct bus_driver {
    const char *name; /* the value of adapter.driver */
    /* Makes a bus, which connects when it is started. False with an error that names the setting if the configuration
     * can never work. `config` and `loop` outlive the bus. Before the loop's thread is started. */
    struct bus *(*create)(struct loop *loop, const struct config *config, const struct bus_events *events,
                          struct error *error);
    /* Begins to connect. On the thread. */
    void (*start)(struct bus *bus);
    /* Queues a message; takes its own reference to the bytes. False, and nothing is queued, while the bus is down.
     * Order is kept for each subject. What a turn has queued is written at its end (bus_flush). */
    bool (*publish)(struct bus *bus, struct slice subject, struct bus_bytes *bytes);
    /* Has the next message that is published in this turn counted; `counted` may follow. NULL: the system does not say
     * how many get a message. */
    void (*count_next)(struct bus *bus);
    /* Write what publish has queued. */
    void (*flush)(struct bus *bus);
    /* Begin and end a subscription; while the bus is down they are noted. `in_force` is never called from within. A
     * subject is subscribed to once at a time. */
    void (*subscribe)(struct bus *bus, struct slice subject);
    void (*unsubscribe)(struct bus *bus, struct slice subject);
    void (*state)(const struct bus *bus, struct bus_state *state);
    /* Closes connections after what was queued is written or `within_ms` is over, then calls `closed(context)`. */
    void (*close)(struct bus *bus, uint64_t within_ms, void (*closed)(void *context), void *context);
    /* Frees the bus. When the thread has ended. */
    void (*destroy)(struct bus *bus);
};

struct bus {
    const struct bus_driver *driver;
    struct bus_events events;
};

/* The driver of that name; NULL: there is none. */
const struct bus_driver *bus_driver_find(struct slice name);

/* The name of the driver at that place of the list; NULL behind the last one. */
const char *bus_driver_name(size_t index);
