/*
 * TLS on a stream, with OpenSSL: the context of a listener (certificate, key) and the state of a connection.
 *
 * A stream with TLS reads and writes through these functions and is otherwise the same. The handshake runs inside the
 * first reads; the time limit on a request's head covers it too.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct tls_tickets;

struct tls_settings {
    const char *cert_path;  /* PEM: the server's certificate, followed by its chain */
    const char *key_path;   /* PEM */
    const char *passphrase; /* passphrase of the key, or NULL */
    /* PEM: certificate authorities, one of which must have signed the client's certificate; NULL: clients need none. */
    const char *ca_path;
    /* Keys with which clients resume their sessions, unless they need certificates; NULL: each handshake is a full one.
     * They outlive the context. */
    struct tls_tickets *tickets;
};

struct tls_context;    /* shared by all connections of a listener; immutable */
struct tls_connection; /* the TLS state of one stream */

/* Loads the certificate and the key. NULL with an error that names the setting, the file and OpenSSL's reason. */
struct tls_context *tls_context_create(const struct tls_settings *settings, struct error *error);

/* Drops the caller's reference; connections keep the context alive. NULL is ignored. */
void tls_context_destroy(struct tls_context *context);

/* True if there is room in the account of memory for one more handshake. */
bool tls_has_room(void);

/* Creates the server side of TLS on a connected, non-blocking socket; NULL if there is no memory. The caller keeps the
 * socket. */
struct tls_connection *tls_connection_create(struct tls_context *context, int fd);

/* What the connection holds in the account of memory, which counts it for no app; the same from the first input on. */
size_t tls_held_bytes(const struct tls_connection *connection);

/* Frees the TLS state; NULL is ignored. */
void tls_connection_destroy(struct tls_connection *connection);

/*
 * Read and write like recv and send: they return a count, 0 at the end of the peer's data (reading only), or -1 with
 * errno set. EAGAIN: wait until the socket is readable, or writable if `*want_write`. A write that returned EAGAIN must
 * be repeated with the same bytes, behind which there may be more. TLS_RECORD_MAX bytes are written at most.
 */
#define TLS_RECORD_MAX 16384

ssize_t tls_read(struct tls_connection *connection, void *data, size_t length, bool *want_write);
ssize_t tls_write(struct tls_connection *connection, const void *data, size_t length, bool *want_write);

/* True if the kernel encrypts what is sent on the socket (kernel TLS), so that send and sendmsg take the place of
 * tls_write. It does not become false again. */
bool tls_is_sent_by_kernel(const struct tls_connection *connection);

/* True if the handshake goes on: a step of it takes much longer than reading. */
bool tls_in_handshake(const struct tls_connection *connection);

/* True if OpenSSL holds input that was already read from the socket, so that epoll does not report it. */
bool tls_has_pending(const struct tls_connection *connection);

/* Sends close_notify, the end of our data; does not wait for the peer's. */
void tls_shutdown(struct tls_connection *connection);
