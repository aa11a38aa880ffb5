/*
 * The socket of a link: the library reads and writes when it is ready. On the I/O thread, where nothing else is said.
 */
#pragma once

#include "cluster/nats/nats_internal.h"

/* Has the end of each turn of the I/O thread write what the turn has handed to the library. Before the threads start.
 */
void nats_socket_init_threads(struct nats_threads *threads);

/* Makes a link that connects use the I/O thread. Thread that waits. */
void nats_socket_init(struct nats_link *link);
/* Tells the library to use the link as its event loop. Thread that waits. */
natsStatus nats_socket_set_options(struct nats_link *link, natsOptions *options);

/* Begin and end to read and write. */
void nats_socket_open(struct nats_link *link);
void nats_socket_close(struct nats_link *link);
