/*
 * The threads that a bus on NATS needs beside the cluster's thread, and what they call on that one.
 *
 *   cluster's thread --- operations ---> I/O thread --- natsConnection_* , socket
 *          ^                                  |
 *          |                                  | messages
 *          +---- arrivals <--- delivery thread of the library
 *          +---- notices <--- waiting thread: connects, round trips of flushes, destroying
 *
 * The library is used in its mode with an event loop of ours, which is one for NATS alone: with TLS its reads and
 * writes may block, and nothing on the cluster's thread may. A flush waits for the server's answer, so it has a thread
 * of its own, which connects as well.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cluster/bus.h"
#include "cluster/loop.h"
#include "cluster/nats/nats_address.h"

struct nats_threads;
struct nats_link;
struct nats_interest;

/* On the cluster's thread, if nothing else is said. */
struct nats_callbacks {
    /* An attempt to connect has ended: `link`, or NULL with the cause. The receiver owns the link. */
    void (*connected)(void *context, struct nats_link *link, const struct error *error);
    /* A link that was opened has lost its connection. */
    void (*lost)(void *context, uint64_t link, const char *why);
    /* The server has answered to the flush of that number, and so has taken all that was handed over before. */
    void (*flushed)(void *context, uint64_t link, uint64_t number);
    /* Owns the message. */
    void (*message)(void *context, struct bus_message *message);
    /* A link that was closed is gone: nothing comes from it any more. */
    void (*closed)(void *context);
    /* Frees the interest that was passed to nats_link_forget, and what it is embedded in. I/O thread. */
    void (*forgotten)(struct nats_interest *interest);
    void *context;
};

/* Starts the two threads; `cluster` is the loop of the cluster's thread. NULL with an error. Main thread. */
struct nats_threads *nats_threads_create(struct loop *cluster, const struct nats_settings *settings,
                                         const struct nats_callbacks *callbacks, struct error *error);
/* Ends the threads, with all links. Notices that are still on their way do nothing any more. The library and its own
 * threads stay: closing it could miss subscriptions that they have not freed yet. When the cluster's thread has ended.
 */
void nats_threads_destroy(struct nats_threads *threads);

/* Bytes of messages that wait to be handed to the library. Any thread. */
size_t nats_threads_unsent_bytes(const struct nats_threads *threads);

/* Releases the messages that have arrived and were not handed on. When no link is open. Cluster's thread. */
void nats_threads_drop_messages(struct nats_threads *threads);
