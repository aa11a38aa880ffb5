/*
 * CORS headers from the `cors` section of the configuration: which web pages of other origins may read an answer (Fetch
 * standard, section "CORS protocol").
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "config/config.h"
#include "net/http.h"

/*
 * The header lines for an answer to `request`: constant, or appended to `storage`. `*` allows any origin, without
 * credentials; a listed origin is repeated, with `Vary: Origin`.
 */
struct slice cors_headers(const struct config *config, const struct http_request *request, struct buffer *storage);

/* Appends the further header lines of an answer to a preflight request. */
void cors_append_preflight(const struct config *config, struct buffer *headers);
