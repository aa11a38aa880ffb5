/*
 * HTTP/1.1 answers, as far as a load generator must understand them: the status, and where the answer ends (RFC 9112
 * section 6.3, for answers to POST: by length or chunked).
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"

struct http_answer {
    unsigned status;
    struct slice body; /* as it came: chunked bodies with their chunk sizes */
};

/*
 * Reads the answer at the front of `text`. Returns its length, 0 if it is not complete yet. Text that is no HTTP answer
 * is taken whole, with status 0.
 */
size_t http_answer_parse(struct slice text, struct http_answer *answer);
