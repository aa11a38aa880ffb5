/*
 * The messages that survive an outage of the bus: events, orders to close a user's connections, changes of apps.
 *
 *   outgoing_publish --- the bus takes it ---> target
 *        \--- held, or something waits ---> queue --- outgoing_run ---> target
 *
 * First in, first out: what is published while the queue is not empty goes behind it. The queue and what the bus has
 * not written yet are bounded together; beyond that the oldest go. An event that has waited too long is dropped when
 * its turn comes. The other kinds of messages do not come here: they are told anew after an outage.
 *
 * On the cluster's thread, but for outgoing_item_create and the counters.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"
#include "base/slice.h"
#include "cluster/bus.h"
#include "cluster/loop.h"

/* So much may wait in the bus before messages wait here: what waits there is lost when the connection breaks. */
#define OUTGOING_BUS_BYTES (1024 * 1024)

/* What outgoing_run publishes at once, in bytes and messages: a piece in the sense of loop.h. */
#define OUTGOING_RUN_BYTES (256 * 1024)
#define OUTGOING_RUN_MESSAGES 250

/* A message on its way to the bus. */
struct outgoing_item {
    struct loop_message message; /* for the way from a worker to the thread, with a context */
    void *context;
    struct outgoing_item *next;
    struct bus_bytes *bytes; /* a reference */
    uint64_t published_ms;   /* monotonic */
    bool expires;            /* it is dropped when it has waited too long */
    bool kept;               /* an event of a cache channel; this and the next two are for publisher.c */
    uint64_t stored_number;  /* it waits until events up to this one are stored; 0: for none */
    uint64_t wait_ends_ms;
    size_t subject_length;
    char subject[];
};

/* Makes an item; takes over the reference to `bytes`. NULL, and the reference is dropped, if the system has no memory.
 * Any thread, as for the next. */
struct outgoing_item *outgoing_item_create(struct slice subject, struct bus_bytes *bytes, bool expires,
                                           uint64_t now_ms);
void outgoing_item_free(struct outgoing_item *item);

/* The bus, as it is used here. */
struct outgoing_target {
    bool (*publish)(void *context, struct slice subject, struct bus_bytes *bytes);
    void (*flush)(void *context);
    size_t (*waiting_bytes)(void *context);
    void *context;
};

struct outgoing {
    struct outgoing_target target;
    size_t most_bytes;
    uint64_t max_age_ms;
    bool held; /* nothing is published: the bus is down, or has just come up */
    struct outgoing_item *first, **last;
    size_t bytes; /* in the queue */
    /* Read by any thread. */
    struct counter waiting, waiting_bytes; /* in the queue now */
    struct counter dropped;                /* for want of room */
    struct counter expired;
};

/* The queue is held at first. `max_age_ms` is for messages that expire. */
void outgoing_init(struct outgoing *outgoing, const struct outgoing_target *target, size_t most_bytes,
                   uint64_t max_age_ms);
/* Drops what waits. */
void outgoing_dispose(struct outgoing *outgoing);

/* Takes over an item. True: it was published; false: something waits, for outgoing_run. */
bool outgoing_publish(struct outgoing *outgoing, struct outgoing_item *item);

/* Publishes nothing from now on. */
void outgoing_hold(struct outgoing *outgoing);
/* Publishes again: call outgoing_run until it returns true. */
void outgoing_release(struct outgoing *outgoing);

/* Publishes some of what waits. False: some still waits; call it again a little later, or after outgoing_release. */
bool outgoing_run(struct outgoing *outgoing, uint64_t now_ms);

/* Drops everything that waits: nobody is there to hear it. */
void outgoing_clear(struct outgoing *outgoing);
