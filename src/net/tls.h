/*
 * TLS on a stream, by OpenSSL: the certificate and key of the listener, and what one connection keeps of it.
 *
 * A stream with TLS reads and writes through here and is otherwise the same. The handshake happens by itself inside the
 * first reads; the time limit on a request's head covers it too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct tls_settings {
    const char *cert_path;  /* PEM, with the chain behind the server's own certificate */
    const char *key_path;   /* PEM */
    const char *passphrase; /* of the key, or NULL */
    const char *ca_path;    /* PEM: clients must show a certificate that one of these signed; NULL: none is asked for */
};

struct tls_context;    /* shared by all connections of a listener; immutable */
struct tls_connection; /* one stream's */

/* NULL with an error that names the setting, the file, and what OpenSSL said of it. */
struct tls_context *tls_context_create(const struct tls_settings *settings, struct error *error);
/* Connections that it made stay as they are. NULL is accepted. */
void tls_context_destroy(struct tls_context *context);

/* Server side of a connected, non-blocking socket. NULL if there is no memory. */
struct tls_connection *tls_connection_create(struct tls_context *context, int fd);
void tls_connection_destroy(struct tls_connection *connection);

/*
 * As recv and send: a count, 0 for the peer's end (reading only), or -1 with errno set; EAGAIN: wait until the socket
 * is readable, or writable if `*want_write`. A write that said EAGAIN is repeated with the same bytes.
 */
ssize_t tls_read(struct tls_connection *connection, void *data, size_t length, bool *want_write);
ssize_t tls_write(struct tls_connection *connection, const void *data, size_t length, bool *want_write);

/* True if bytes are decrypted and wait here, of which the socket knows nothing. */
bool tls_has_pending(const struct tls_connection *connection);

/* Tells the peer that nothing more will be written (close_notify); does not wait. */
void tls_shutdown(struct tls_connection *connection);
