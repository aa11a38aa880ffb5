/*
 * Arrivals: messages on their way from the library's delivery thread to the cluster's thread, and what the library
 * complains of. Reading stops while too many wait.
 *
 * The library's callbacks may run after a link is gone, so they hold the number of a link only, which is looked up in
 * a list of all links that get messages.
 */
#pragma once

#include <nats/nats.h>
#include <stdbool.h>

#include "cluster/nats/nats_internal.h"

/* Before the threads start. */
void nats_arrivals_init(struct nats_threads *threads);

/* Begin and end to get messages for the link. Cluster's thread. */
void nats_arrivals_open(struct nats_link *link);
void nats_arrivals_close(struct nats_link *link);

/* Releases the messages that have arrived and were not handed on. When no link is open. Cluster's thread. */
void nats_arrivals_drop(struct nats_threads *threads);

/* True, and noted, if so much waits that reading has to stop; nats_threads.resume comes when it may go on. I/O thread.
 */
bool nats_arrivals_are_full(struct nats_threads *threads);

/* A handler for messages and one for errors, both with the number of the link. The library's threads. */
void nats_arrivals_on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *msg, void *closure);
void nats_arrivals_on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                            void *closure);
