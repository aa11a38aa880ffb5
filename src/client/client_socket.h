/*
 * A connection of the command line to a server, TCP or a Unix socket, with TLS if the address says so. libcurl makes
 * it: names, proxies, TLS and certificates are as for HTTP requests. Blocking, each wait with a deadline.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/deadline.h"
#include "base/error.h"
#include "client/server_address.h"

struct client_socket;

enum client_received {
    CLIENT_RECEIVED,     /* some bytes */
    CLIENT_TIMED_OUT,    /* the deadline passed */
    CLIENT_CANCELLED,    /* the deadline's descriptor became readable */
    CLIENT_DISCONNECTED, /* the server closed, or the connection failed; with an error */
};

/* Connects. NULL with an error. Close it with client_socket_close. */
struct client_socket *client_socket_open(const struct server_address *address, const struct deadline *deadline,
                                         struct error *error);
void client_socket_close(struct client_socket *socket);

/* Waits for bytes and receives up to `size` of them; `*length` is their number. */
enum client_received client_socket_receive(struct client_socket *socket, void *data, size_t size, size_t *length,
                                           const struct deadline *deadline, struct error *error);

/* Sends all of the bytes; false with an error. */
bool client_socket_send(struct client_socket *socket, const void *data, size_t length, const struct deadline *deadline,
                        struct error *error);
