/*
 * The opening handshake of a WebSocket connection to an app (RFC 6455 section 4), from the client's side.
 */
#pragma once

#include <stddef.h>

#include "base/buffer.h"
#include "target.h"

/* Appends the request for the app with this key. */
void upgrade_append_request(struct buffer *request, const struct target *target, const char *app_key);

/* The length of the answer at the front of `text`; 0 if it is not complete, SIZE_MAX if the server did not upgrade. */
size_t upgrade_answer_length(struct slice text);
