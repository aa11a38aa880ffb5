/*
 * Listening sockets: a TCP port on every worker (SO_REUSEPORT, so the kernel spreads connections and no worker hands
 * sockets to another), or one unix socket that all workers accept from.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/timer.h"
#include "net/worker.h"

struct listener {
    struct poll_target target;
    struct worker *worker;
    int fd;
    uint32_t events; /* what is waited for */
    bool resting;    /* out of descriptors: not accepting until the timer fires */
    struct timer rest_timer;
    /* Takes over an accepted, non-blocking socket. */
    void (*on_accept)(struct worker *worker, int fd, void *context);
    void *context;
};

/*
 * Opens a listening TCP socket. `*port` 0 lets the kernel choose, and is set to what it chose. The error names the
 * address and what to do.
 */
int listen_tcp(const char *host, uint16_t *port, struct error *error);

/*
 * True if no other process listens on the port; 0 always is. listen_tcp would share it with another server of the same
 * user, which SO_REUSEPORT allows: each would get some of the clients and neither all events.
 */
bool tcp_port_is_free(const char *host, uint16_t port, struct error *error);

/* Opens a listening unix socket with `mode`, after removing a stale one; the folder is created. */
int listen_unix(const char *path, unsigned mode, struct error *error);

/* Accepts on `worker` from `fd`, which the listener owns from now on. Before the workers run, or on the worker's
 * thread. */
bool listener_start(struct listener *listener, struct worker *worker, int fd, bool shared, struct error *error);

/* On the worker's thread. Connections that were waiting to be accepted are refused by the kernel. */
void listener_stop(struct listener *listener);
