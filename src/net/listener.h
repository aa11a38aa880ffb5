/*
 * Listening sockets: a TCP socket for each worker (with SO_REUSEPORT the kernel spreads connections, and workers never
 * pass sockets to each other), or one unix socket that all workers accept from.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/worker.h"

struct listener {
    struct poll_target target;
    struct worker *worker;
    int fd;
    uint32_t events; /* epoll events to wait for */
    bool filtered;   /* after listener_finish: the kernel drops new connections */
    bool limits_ttl; /* by their TTL */
    bool resting;    /* out of descriptors: accepts nothing until the pause is over */
    struct descriptor_pause pause;
    /* A descriptor at or above it is the last one before a pause; NULL: no bound. */
    const atomic_int *bound;
    /* Called on the worker's thread with an accepted, non-blocking socket, which the callee owns. */
    void (*on_accept)(struct worker *worker, int fd, void *context);
    void *context;
};

/*
 * Opens a listening TCP socket and returns its descriptor; -1 with an error that names the address and the remedy. With
 * `*port` 0 the kernel chooses the port, and `*port` is set to it. Any thread.
 */
int listen_tcp(const char *host, uint16_t *port, struct error *error);

/*
 * The same for the first socket of a port: fails if another process listens there, even one that starts in the same
 * moment. SO_REUSEPORT alone would let two servers of one user share a port, and each would get only some of the
 * clients. So the socket gets that option only when it listens. On success listen_tcp may open further ones.
 */
int listen_tcp_alone(const char *host, uint16_t *port, struct error *error);

/* True if the listening socket `fd` is the one that listen_tcp would open; port 0 is every port. */
bool listens_on_tcp(int fd, const char *host, uint16_t port);

/* True if the listening socket `fd` is the unix socket `path`. */
bool listens_on_unix(int fd, const char *path);

/* Opens another listening socket on the address of the TCP socket `fd`, as listen_tcp does. -1 with an error. */
int listen_beside(int fd, struct error *error);

/* Opens a listening unix socket with file mode `mode` and returns its descriptor; -1 with an error. Creates the folder
 * and removes a stale socket. */
int listen_unix(const char *path, unsigned mode, struct error *error);

/* Starts to accept connections from `fd` on `worker`; false with an error. `shared`: other workers accept from the same
 * socket. The listener owns `fd` from now on. Call before the workers run, or on the worker's thread. */
bool listener_start(struct listener *listener, struct worker *worker, int fd, bool shared, struct error *error);

/*
 * Lets no new client in, and goes on accepting those that the kernel has already connected, so that each of them gets
 * an answer. Of TCP the kernel drops new requests without an answer: clients repeat them after a second, and reach the
 * next process then. (The file of a unix socket has to be removed instead. Where a filter needs a right that the
 * process does not have, requests are dropped by their TTL. Those of a machine on the same link whose TTL is 255, the
 * highest one, still come in, and the last of them may be cut.) On the worker's thread.
 */
void listener_finish(struct listener *listener);

/* Lets another process alone accept from the socket, and accepts again. On the worker's thread. */
void listener_pause(struct listener *listener);
void listener_resume(struct listener *listener);

/* Stops accepting and closes the socket. The kernel then resets connections that were not accepted yet, unless another
 * process has the socket, too. Does nothing if it was not started. On the worker's thread, or after its end. */
void listener_stop(struct listener *listener);
