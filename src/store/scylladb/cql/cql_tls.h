/*
 * TLS to a node, as database.scylladb.tls asks for it. Used by cql_connection.c only.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/deadline.h"
#include "base/error.h"
#include "config/config.h"

/* Reads the files that the settings name. NULL with an error that names the setting. Free it with SSL_CTX_free. */
SSL_CTX *cql_tls_context(const struct config_tls *settings, struct error *error);

/* Begins TLS on a connected socket that does not block; `host` is whose certificate is expected. NULL with an error.
 * Free it with SSL_free. */
SSL *cql_tls_start(SSL_CTX *context, int fd, const char *host, const struct deadline *deadline, struct error *error);

/* What a call that returned `result` waits for: POLLIN, POLLOUT; 0: it failed. */
short cql_tls_wants(const SSL *tls, int result);

/* Why the last call to OpenSSL of this thread failed; NULL: it does not say. */
const char *cql_tls_reason(void);
