/*
 * Connecting to a NATS server with the library, and its errors as sentences that name the setting. Blocks: for the
 * thread of a bus that may wait.
 */
#pragma once

#include <nats/nats.h>

#include "base/deadline.h"
#include "cluster/nats/nats_address.h"
#include "cluster/nats/nats_info.h"

/*
 * Connects with `options`, to which server, credentials and TLS are added here. NULL with an error; `info` needs no
 * nats_info_dispose then.
 */
natsConnection *nats_connect(natsOptions *options, const struct nats_settings *settings,
                             const struct nats_address *address, const struct deadline *deadline,
                             struct nats_info *info, struct error *error);

/* What the library's text for a connection that ended means for the one who runs the server. */
void nats_explain(const struct nats_settings *settings, const char *server, const char *text, struct error *error);
