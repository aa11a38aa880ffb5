/*
 * TLS to a node, by the settings database.scylladb.tls. Used by cql_socket.c only.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/deadline.h"
#include "base/error.h"
#include "config/config.h"

/* Reads the files that the settings name. NULL with an error that names the setting. Free it with SSL_CTX_free. */
SSL_CTX *cql_tls_context(const struct config_tls *settings, struct error *error);

/* Runs the handshake on a connected socket that does not block. The certificate has to be for `host`. NULL with an
 * error. Free it with SSL_free. */
SSL *cql_tls_start(SSL_CTX *context, int fd, const char *host, const struct deadline *deadline, struct error *error);

/* The event to wait for after a call that returned `result`: POLLIN or POLLOUT; 0: the call failed. */
short cql_tls_wants(const SSL *tls, int result);

/* Why the last call to OpenSSL on this thread failed; NULL: unknown. */
const char *cql_tls_reason(void);
