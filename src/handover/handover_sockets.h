/*
 * The listening sockets that the old process passes to the new one.
 *
 * The new process takes those that its configuration asks for, and closes the others. The queue of a socket is shared
 * by all processes that have it: no client in it is lost while one of them accepts.
 */
#pragma once

#include "handover/handover_socket.h"
#include "net/worker.h"

/* What a socket is for. */
#define HANDOVER_MAIN "main"
#define HANDOVER_METRICS "metrics"
#define HANDOVER_ADMIN "admin"
#define HANDOVER_REDIRECT "redirect"

/* The main port of each worker, and three others. */
#define PASSED_SOCKETS_MAX (WORKERS_MAX + 3)

struct passed_socket {
    char name[HANDOVER_NAME_MAX + 1];
    bool supervised; /* opened by a supervisor */
    int fd;          /* -1: taken */
};

struct passed_sockets {
    unsigned count;
    struct passed_socket list[PASSED_SOCKETS_MAX];
};

/* Passes a socket on. */
bool passed_socket_send(struct handover_socket *connection, const struct passed_socket *passed,
                        const struct deadline *deadline, struct error *error);

/* Receives all that the old process passes, up to HANDOVER_LISTENERS_END. False with an error. */
bool passed_sockets_receive(struct passed_sockets *sockets, struct handover_socket *connection,
                            const struct deadline *deadline, struct error *error);

/* Take a socket of this name: its descriptor, which the caller then owns; -1: there is none (any more). The first takes
 * what a supervisor has opened, the others what is on an address of the configuration (listens_on_tcp). */
int passed_sockets_take_supervised(struct passed_sockets *sockets, const char *name);
int passed_sockets_take_tcp(struct passed_sockets *sockets, const char *name, const char *host, uint16_t port);
int passed_sockets_take_unix(struct passed_sockets *sockets, const char *name, const char *path);

/* Closes those that were not taken; the old process goes on accepting from them. */
void passed_sockets_forget(struct passed_sockets *sockets);

/* Closes those that were not taken for good, with a line in the log for each, and removes the file of a Unix socket. */
void passed_sockets_close(struct passed_sockets *sockets);
