/*
 * Connecting a link, and destroying its connection: both may wait for the network, so they are jobs of the thread that
 * waits.
 */
#pragma once

#include <stdint.h>

#include "cluster/nats/nats_internal.h"

/* Begins to connect, which a notice ends. Cluster's thread. */
void nats_opening_begin(struct nats_threads *threads, const struct nats_address *address, uint32_t timeout_ms);
/* Destroys the connection, then frees the link, and a notice says so. I/O thread. */
void nats_opening_undo(struct nats_link *link);

/* Frees a link, with its connection, that nobody uses. When the threads have ended. */
void nats_opening_free(struct nats_link *link);
