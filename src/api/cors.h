/*
 * What the `cors` section of the configuration makes of an answer: which pages of other origins may read it.
 * Fetch standard, section "CORS protocol".
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "config/config.h"
#include "net/http.h"

/*
 * The header lines for an answer to `request`. They are constant, or appended to `storage`.
 * Any origin is allowed with `*`, without credentials; listed ones are named back, and `Vary` says so.
 */
struct slice cors_headers(const struct config *config, const struct http_request *request, struct buffer *storage);

/* Appends the header lines that a preflight asks for besides those. */
void cors_append_preflight(const struct config *config, struct buffer *headers);
