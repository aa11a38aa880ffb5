/*
 * TLS to Redis: certificates are always verified, for the host name that was asked for.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/error.h"

/* The files of database.redis.tls; each may be NULL. */
struct redis_tls_files {
    const char *ca_path;   /* NULL: the system's authorities */
    const char *cert_path; /* NULL: no certificate of ours */
    const char *key_path;  /* NULL: it is in the file of the certificate */
};

/* Reads the files. NULL with an error that names the setting. Free it with SSL_CTX_free. */
SSL_CTX *redis_tls_context(const struct redis_tls_files *files, struct error *error);

/* Makes a client on a connected socket, for a handshake with `host`. NULL with an error. Free it with SSL_free. */
SSL *redis_tls_create(SSL_CTX *context, int fd, const char *host, struct error *error);

/* The event to wait for after a call that returned `result`: EPOLLIN or EPOLLOUT; 0: the call failed. */
unsigned redis_tls_wants(const SSL *tls, int result);

/* Why the handshake failed, in words. Returns false. */
bool redis_tls_explain(const SSL *tls, struct error *error);
