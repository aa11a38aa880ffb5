/*
 * The structures that the files of a bus's threads and links share.
 *
 *   nats_threads.c    the threads from their start to their end
 *   nats_link.c       operations: what the cluster's thread asks of the I/O thread
 *   nats_opening.c    connecting, and destroying a connection, on the thread that waits
 *   nats_socket.c     reading and writing when the socket is ready, on the I/O thread
 *   nats_output.c     messages that wait until the library has room for them
 *   nats_flush.c      round trips to the server, on the thread that waits
 *   nats_arrivals.c   messages from the library to the cluster's thread
 *   nats_notice.c     what the other threads tell the cluster's thread
 */
#pragma once

#include <nats/nats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "cluster/loop.h"
#include "cluster/nats/nats_info.h"
#include "cluster/nats/nats_threads.h"

struct nats_threads {
    struct loop *cluster, *io, *waiting;
    const struct nats_settings *settings;
    struct nats_callbacks callbacks;
    int cancel_fd;
    atomic_size_t unsent_bytes, unread_bytes;
    atomic_bool reading_stopped;
    atomic_uint references; /* of the bus, and of each notice on its way */
    bool ended;             /* written when the cluster's thread has ended */
    bool unwoken;           /* the I/O thread has got an operation and may sleep; cluster's thread */

    /* Messages that have arrived, under the mutex of the receivers, and those that the cluster's thread has taken of
     * them. */
    struct nats_message *arrived, **arrived_end;
    struct nats_message *taken;
    struct loop_message take;
    bool take_posted; /* under the mutex */

    struct loop_message resume; /* to the I/O thread: reading goes on */
    atomic_bool resume_posted;

    struct nats_link *open;                /* I/O thread */
    _Atomic(struct nats_link *) delivered; /* connected; the notice is on its way */
};

struct nats_link {
    struct nats_threads *threads;
    uint64_t id;
    struct list place; /* in the list of links that get messages */
    natsOptions *options;
    natsConnection *connection;
    struct nats_info info;
    char server[256];
    int fd; /* a duplicate of the library's, which closes its own at any time */

    /* I/O thread */
    struct loop_target target;
    bool watched;
    uint32_t events; /* that are watched, EPOLL* bits */
    struct list unsent;
    size_t handed_bytes;

    /* Set by the library on the thread that calls it. */
    atomic_bool wants_write, ended;
    atomic_bool wake_posted;
    struct loop_message wake;
    struct loop_message gone; /* to the I/O thread: the connection is destroyed */
    bool told;                /* that it has ended */
};
