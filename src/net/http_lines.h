/*
 * What llhttp lets pass in the head of a request, and another reader may understand otherwise (request smuggling):
 *
 *   - a header that continues on the next line (obs-fold, RFC 9112 section 5.2)
 *   - more than one blank between the parts of the request line, or another protocol in it (RFC 9112 section 3)
 *
 * A head may come in any pieces.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum http_line {
    LINE_NONE, /* between requests; empty lines are skipped */
    LINE_METHOD,
    LINE_SECOND, /* the first byte of the target comes next */
    LINE_TARGET,
    LINE_THIRD, /* the first byte of the protocol comes next */
    LINE_BEGIN, /* a line of the head begins */
    LINE_REST,  /* the rest of a line */
    LINE_END,   /* the head is complete */
};

struct http_lines {
    uint8_t at; /* enum http_line; zeroed before each request */
};

/* Reads the next bytes up to the end of the head. Returns what is wrong, as part of a sentence; NULL: nothing. */
const char *http_lines_check(struct http_lines *lines, const char *data, size_t length);
