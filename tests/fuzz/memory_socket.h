/*
 * Sockets in memory, so that a fuzz target runs the server without system calls.
 *
 * The linker gives the calls that streams make for their sockets (recv, send, epoll_ctl and so on; meson.build has the
 * list) to memory_socket.c. A descriptor from MEMORY_FD_FIRST on is a socket in memory; other descriptors go to the C
 * library. Random bytes come from a generator, so that an input always does the same. The clock stands still unless the
 * target moves it.
 *
 * What is checked by itself: the server uses no socket that it has closed, and has closed every socket when
 * memory_socket_free is called.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/list.h"

struct epoll_event;
struct worker;

#define MEMORY_FD_FIRST (1 << 24)
#define MEMORY_SOCKETS_MAX 64

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

struct memory_socket {
    int fd; /* the server's end */
    bool used;
    bool server_open;  /* not closed by the server */
    bool server_ended; /* the server sends no more: it has shut down or closed its end */
    bool client_ended; /* the client sends no more */
    bool client_gone;  /* the client has closed its end: it does not read, either */
    int epoll_fd;      /* of the worker that watches; -1: none */
    uint32_t events;   /* what it waits for */
    void *target;
    struct buffer to_server;
    size_t taken; /* bytes of `to_server` that the server has received */
    /* Bytes that the server has sent. The client removes them. */
    struct buffer to_client;
    size_t room; /* bytes that `to_client` may hold before the server has to wait */
};

/* Connects a client; the server's end is `fd`. At most MEMORY_SOCKETS_MAX at a time. */
struct memory_socket *memory_socket_open(void);

/* What the client does. Bytes to a server that has closed are lost. */
void memory_socket_send(struct memory_socket *socket, const void *data, size_t length);
void memory_socket_end(struct memory_socket *socket);   /* sends no more, and reads on */
void memory_socket_close(struct memory_socket *socket); /* the same, and does not read any more */

/* Forgets a socket that both sides have closed. */
void memory_socket_free(struct memory_socket *socket);

/* Lists what is ready for a worker's epoll descriptor, as epoll_wait does; returns the count, at most
 * MEMORY_SOCKETS_MAX. */
int memory_socket_poll(int epoll_fd, struct epoll_event *events);

/* Starts the generator of random bytes anew; different seeds give different bytes. */
void memory_random_reset(uint64_t seed);

/* Sets both clocks of the process to `ns`. */
void memory_clock_set(uint64_t monotonic_ns, uint64_t wall_ns);
