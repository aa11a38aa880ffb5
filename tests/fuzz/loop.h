/*
 * A harness for fuzz targets that need a connection: a worker whose turns the target runs itself, and a socket to it.
 */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/worker_loop.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

/* Runs one turn of the worker's loop without waiting; true if there was anything to do. */
static inline bool loop_turn(struct worker *worker) {
    bool busy =
        atomic_load(&worker->mailbox.head) != NULL || !list_empty(&worker->flush_queue) || worker->fan_out_count != 0;
    struct epoll_event events[16];
    int count = epoll_wait(worker->epoll_fd, events, 16, 0);

    worker_turn(worker, events, count < 0 ? 0 : count);
    return busy || count > 0;
}

/* Runs turns until the worker is idle; a loop that spins is a finding. */
static inline void loop_settle(struct worker *worker) {
    unsigned quiet = 0;

    for (unsigned turns = 0; quiet < 2; turns++) {
        MUST(turns < 100000);
        quiet = loop_turn(worker) ? 0 : quiet + 1;
    }
}

/* Serves HTTP on a new connection and returns the client's end. */
static inline int loop_connect(struct worker *worker, const struct http_handler *handler) {
    int ends[2];

    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    http_accept(worker, ends[0], NULL, handler);
    return ends[1];
}

/* Sends as much as the server accepts; it may have closed. */
static inline void loop_send(struct worker *worker, int client, const void *data, size_t length) {
    const char *at = data;

    while (length != 0) {
        ssize_t sent = send(client, at, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            return;
        at += sent > 0 ? sent : 0;
        length -= sent > 0 ? (size_t)sent : 0;
        loop_settle(worker);
    }
}

/* Appends the bytes that the server has sent; false if it has closed. */
static inline bool loop_receive(int client, struct buffer *in) {
    for (;;) {
        ssize_t length;

        buffer_reserve(in, 65536);
        length = recv(client, in->data + in->length, in->capacity - in->length, 0);
        if (length < 0 && errno == EAGAIN)
            return true;
        if (length <= 0)
            return false;
        in->length += (size_t)length;
    }
}
