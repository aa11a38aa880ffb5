/*
 * TLS of the main listener, from the configuration's `ssl`.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "net/reclaim.h"
#include "net/tls.h"
#include "net/tls_tickets.h"

/* Reads certificate and key; `*tls` is the caller's to destroy, NULL when `ssl.enabled` is false. `tickets` are as in
 * struct tls_settings. False with an error that names the setting and the file. */
bool server_tls_create(const struct config *config, struct tls_tickets *tickets, struct tls_context **tls,
                       struct error *error);

/* The context for new connections; NULL: without TLS. */
typedef _Atomic(struct tls_context *) server_tls;

/*
 * Reads certificate, key and authorities again, for new connections; open ones keep theirs. If the files cannot be
 * used, an error is logged and the old certificate stays. Nothing happens without TLS. Sessions from
 * before are resumed with the same `tickets`. On the main thread.
 */
void server_tls_reload(server_tls *tls, const struct config *config, struct tls_tickets *tickets,
                       struct reclaimer *reclaimer);
