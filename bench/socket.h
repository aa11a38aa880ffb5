/*
 * Sockets of the generator's clients: TCP, or TLS if the target's URL begins with https://.
 *
 * Certificates are not verified: the generator is for servers that one owns.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "poller.h"
#include "target.h"

/* Starts to connect; `source->ready` is the caller's. The first writes and reads make the TLS handshake. */
void socket_open(struct source *source, const struct target *target);
void socket_close(struct source *source);

/* As send and recv: a count, 0 at the end of the server's data (reading only), or -1 with errno. With EAGAIN of a
 * write, the same bytes are sent again when the socket is readable or writable. */
ssize_t socket_send(struct source *source, const void *data, size_t length);
ssize_t socket_receive(struct source *source, void *data, size_t length);
