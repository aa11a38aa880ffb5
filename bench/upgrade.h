/*
 * Client side of the WebSocket opening handshake with an app (RFC 6455 section 4).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "target.h"

/* Appends the handshake request for the app with this key. */
void upgrade_append_request(struct buffer *request, const struct target *target, const char *app_key);

/* Length of the answer at the start of `text`; 0 if it is incomplete, SIZE_MAX if the server did not upgrade, or does
 * not `compress` as it should. */
size_t upgrade_answer_length(struct slice text, bool compress);
