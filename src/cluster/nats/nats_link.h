/*
 * A connection to a NATS server: what the cluster's thread asks of it. Each call is an operation that is posted to the
 * I/O thread, or a job for the thread that waits; nats_threads.h has the answers. For the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "cluster/bus.h"
#include "cluster/nats/nats_address.h"
#include "cluster/nats/nats_info.h"
#include "cluster/nats/nats_threads.h"

/* The interest in a subject. Embedded in the structure of the subject; the members belong to the I/O thread. */
struct nats_interest {
    void *handle;        /* of the library; NULL: none yet */
    const char *subject; /* set before the first use */
};

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

/* Wakes the I/O thread, if it sleeps and something was posted to it. After what was called of the above. */
void nats_link_wake(struct nats_threads *threads);
