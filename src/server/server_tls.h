/*
 * TLS of the main listener, from the configuration's `ssl`.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "net/tls.h"
#include "net/worker.h"

/* Reads certificate and key; `*tls` is the caller's to destroy, NULL when `ssl.enabled` is false. False with an error
 * that names the setting and the file. */
bool server_tls_create(const struct config *config, struct tls_context **tls, struct error *error);

/* What new connections are accepted with; NULL: plain. */
typedef _Atomic(struct tls_context *) server_tls;

/*
 * Reads certificate, key and authorities of a server that speaks TLS again, for connections to come: those that are
 * open stay as they are. What cannot be used is an error in the log, and the ones from before stay. On the main thread.
 */
void server_tls_reload(server_tls *tls, const struct config *config, struct workers *workers);
