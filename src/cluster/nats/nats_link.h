/*
 * A connection to a NATS server, from its connect to its end, and the threads that a bus needs for it.
 *
 *   cluster's thread --- operations ---> I/O thread --- natsConnection_* , socket
 *          ^                                  |
 *          |                                  | messages
 *          +---- notices <--- delivery thread of the library
 *          +---- notices <--- waiting thread: connects, round trips of flushes, destroying
 *
 * The library is used in its mode with an event loop of ours, which is one for NATS alone: with TLS its reads and
 * writes may block, and nothing on the cluster's thread may. A flush waits for the server's answer, so it has a thread
 * of its own, which connects as well.
 *
 * All functions are for the cluster's thread, and so are the callbacks.
 */
#pragma once

#include <stdint.h>

#include "cluster/bus.h"
#include "cluster/loop.h"
#include "cluster/nats/nats_address.h"
#include "cluster/nats/nats_info.h"

struct nats_threads;
struct nats_link;

/* The interest in a subject. Embedded in the structure of the subject; the members belong to the I/O thread. */
struct nats_interest {
    void *handle;        /* of the library; NULL: none yet */
    const char *subject; /* set before the first use */
};

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

/* Releases the messages that have arrived and were not handed on. When no link is open. */
void nats_threads_drop_messages(struct nats_threads *threads);

/* Begins to connect; `connected` follows. `address` must stay until then. One at a time. */
void nats_link_connect(struct nats_threads *threads, const struct nats_address *address, uint32_t timeout_ms);
/* Ends an attempt that waits for a name or for a server's first line. For the last one: no other is begun. */
void nats_link_cancel(struct nats_threads *threads);

/* Begins to use a link: messages are read. One is open at a time. */
void nats_link_open(struct nats_link *link);
/* Ends the connection at once; `closed` follows, and nothing else for this link. */
void nats_link_close(struct nats_link *link);

uint64_t nats_link_id(const struct nats_link *link);
/* HOST:PORT, for people. */
const char *nats_link_server(const struct nats_link *link);
const struct nats_info *nats_link_info(const struct nats_link *link);

/* Publishes; takes its own reference to the bytes. */
void nats_link_publish(struct nats_link *link, struct slice subject, struct bus_bytes *bytes);
/* Subscribes on this link. A handle of an older link is destroyed. */
void nats_link_subscribe(struct nats_link *link, struct nats_interest *interest);
/* Unsubscribes on whatever link it was, and calls `forgotten`. */
void nats_link_forget(struct nats_threads *threads, struct nats_interest *interest);
/* Asks the server for an answer, which comes behind all that was handed over before; with `drained` also what still
 * waits to be. */
void nats_link_flush(struct nats_link *link, uint64_t number, bool drained);

/* Wakes the I/O thread, if it sleeps. After what was called of the above. */
void nats_link_wake(struct nats_threads *threads);
