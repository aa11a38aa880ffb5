/*
 * Minimal parser of HTTP/1.1 responses: status and end of the response (RFC 9112 section 6.3, for responses to POST:
 * by length or chunked).
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"

struct http_answer {
    unsigned status;
    struct slice body; /* raw body: a chunked one still has its chunk sizes */
};

/*
 * Parses the response at the start of `text`. Returns its length, 0 if it is incomplete. Text that is not an HTTP
 * response is consumed completely, with status 0.
 */
size_t http_answer_parse(struct slice text, struct http_answer *answer);
