/*
 * The connection between the two processes of an upgrade: a Unix stream socket that carries the messages of
 * handover_message.h, and descriptors with them (SCM_RIGHTS).
 *
 * The old process makes a folder that only its user can enter (mode 0700), listens on a socket in it (mode 0600) and
 * starts the new process, which connects. Each checks the other (SO_PEERCRED): the same user, and exactly the process
 * that it has started or that has started it. The folder is deleted when the new process is connected, or at the end.
 *
 * A connection belongs to one thread at a time. For sending from several threads: handover_link.h.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/deadline.h"
#include "handover/handover_message.h"

/* Where the new process finds the socket: this variable of its environment. */
#define HANDOVER_VARIABLE "CURLEW_HANDOVER"

/* --- connecting --- */

/* The place where the old process waits for the new one. */
struct handover_place {
    int fd; /* -1: closed */
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* Makes a fresh folder below `parent`, and listens in it. False with an error; nothing is left then. */
bool handover_place_open(struct handover_place *place, const char *parent, struct error *error);
/* Waits for the process `pid` to connect. Connections of others are closed and logged. Returns the connected socket; -1
 * with an error at the deadline. */
int handover_place_accept(struct handover_place *place, pid_t pid, const struct deadline *deadline,
                          struct error *error);
/* Deletes the socket and the folder. Closing it again does nothing. */
void handover_place_close(struct handover_place *place);

/* Connects to the old process, which must be `pid`. Returns the connected socket; -1 with an error. */
int handover_connect(const char *path, pid_t pid, struct error *error);

/* --- messages --- */

/* More than the other side may have in flight before the messages they belong to are handled. */
#define HANDOVER_FDS_MAX 4

struct handover_socket {
    int fd;           /* non-blocking; -1: closed */
    struct buffer in; /* received and not handled, from `in_start` on */
    size_t in_start;
    int fds[HANDOVER_FDS_MAX]; /* received descriptors whose messages were not handled, in order */
    unsigned fd_count;
};

/* Takes a connected socket over. */
void handover_socket_init(struct handover_socket *socket, int fd);
/* Closes it, and what it has received. */
void handover_socket_dispose(struct handover_socket *socket);

enum handover_received { HANDOVER_GOT_MESSAGE, HANDOVER_GOT_NOTHING, HANDOVER_ENDED, HANDOVER_BROKEN };

/* Receives one message without waiting; its payload is valid until the next call. Of HANDOVER_LISTENER, take the
 * descriptor. HANDOVER_GOT_NOTHING: wait for POLLIN; HANDOVER_ENDED: the other side has closed; HANDOVER_BROKEN with an
 * error. */
enum handover_received handover_socket_receive(struct handover_socket *socket, struct handover_message *message,
                                               struct error *error);
/* The descriptor that came with the last message, which the caller then owns; -1: none. */
int handover_socket_take_fd(struct handover_socket *socket);

/* Sends as many of the bytes of frames as the socket takes, and `fd` with the first of them unless it is -1. Returns
 * their number, 0 if it takes none now; -1 with an error. */
ssize_t handover_socket_send(struct handover_socket *socket, struct slice bytes, int fd, struct error *error);

/* The same two, waiting until the deadline. The received message must be of type `type`, unless that is 0. */
bool handover_socket_await(struct handover_socket *socket, uint8_t type, struct handover_message *message,
                           const struct deadline *deadline, struct error *error);
bool handover_socket_write(struct handover_socket *socket, uint8_t type, struct slice payload, int fd,
                           const struct deadline *deadline, struct error *error);

/* Exchanges HANDOVER_HELLO, the first message in both directions. `program` gets the version of the other's program,
 * as a string. False with an error, also if the versions of the messages differ. */
bool handover_socket_greet(struct handover_socket *socket, const char *own_program, char *program, size_t size,
                           const struct deadline *deadline, struct error *error);
