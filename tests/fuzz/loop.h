/*
 * A harness for fuzz targets that need a connection: a worker whose turns the target runs itself, and sockets in
 * memory.
 */
#pragma once

#include <sys/epoll.h>

#include "memory_socket.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/worker_loop.h"

/* Runs one turn of the worker's loop if there is anything to do; false if there is not. */
static inline bool loop_turn(struct worker *worker) {
    bool busy = atomic_load(&worker->mailbox.head) != NULL || worker_has_work(worker);

    if (worker->ready_at >= worker->ready_count) { /* as worker_poll does */
        worker->ready_at = 0;
        worker->ready_count = (unsigned)memory_socket_poll(worker->epoll_fd, worker->ready);
    }
    if (worker->ready_count == 0 && !busy)
        return false;
    worker_turn(worker);
    return true;
}

/* Runs turns until the worker is idle; a loop that spins is a finding. */
static inline void loop_until_idle(struct worker *worker) {
    for (unsigned turns = 0; loop_turn(worker); turns++)
        MUST(turns < 100000);
}

/* Serves HTTP on a new connection. */
static inline struct memory_socket *loop_connect(struct worker *worker, const struct http_handler *handler) {
    struct memory_socket *socket = memory_socket_open();

    http_accept(worker, socket->fd, NULL, handler);
    return socket;
}

/* Sends bytes and lets the server handle them; it may have closed. */
static inline void loop_send(struct worker *worker, struct memory_socket *client, const void *data, size_t length) {
    memory_socket_send(client, data, length);
    loop_until_idle(worker);
}

/* Closes the client's end and lets the server do the same. */
static inline void loop_close(struct worker *worker, struct memory_socket *client) {
    memory_socket_close(client);
    loop_until_idle(worker);
    memory_socket_free(client);
}
