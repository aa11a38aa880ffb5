/*
 * The socket of a connection to a node: TCP, with TLS if database.scylladb.tls wants it. Every wait ends at a deadline.
 * Used by cql_connection.c only.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"
#include "config/config.h"

struct cql_node_address {
    const char *host;
    uint16_t port;
};

struct cql_socket {
    int fd;               /* -1: closed */
    SSL_CTX *tls_context; /* NULL: no TLS */
    SSL *tls;
};

/* Connects to the node. False with an error, and then the socket is closed. */
bool cql_socket_open(struct cql_socket *socket, const struct cql_node_address *address,
                     const struct config_tls *settings, const struct deadline *deadline, struct error *error);
void cql_socket_close(struct cql_socket *socket);

/* Sends or receives all of the bytes. False with an error: the socket is of no further use. */
bool cql_socket_send(struct cql_socket *socket, const void *data, size_t length, const struct deadline *deadline,
                     struct error *error);
bool cql_socket_receive(struct cql_socket *socket, void *data, size_t length, const struct deadline *deadline,
                        struct error *error);
