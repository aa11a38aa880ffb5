#include "net/http_lines.h"

#include <stdbool.h>
#include <string.h>

#define REQUEST_LINE "the request line must be a method, a target and HTTP/1.1, with one blank between them"
#define FOLDED "a header must not continue on the next line"

/* The place behind the next byte of this value, or `end`. */
static const char *skip_past(const char *at, const char *end, char byte) {
    const char *found = memchr(at, byte, (size_t)(end - at));

    return found != NULL ? found + 1 : end;
}

/* Reads to the next blank of the request line, which ends its part; true if there is one. */
static bool ends_part(const char **at, const char *end) {
    *at = skip_past(*at, end, ' ');
    return (*at)[-1] == ' ';
}

/* Reads to the end of a line; true if it is there. */
static bool ends_line(const char **at, const char *end) {
    *at = skip_past(*at, end, '\n');
    return (*at)[-1] == '\n';
}

/* Reads the part of the head in which `*at` is. */
static const char *check_line(struct http_lines *lines, const char **at, const char *end) {
    const char *from = *at;

    switch ((enum http_line)lines->at) {
    case LINE_NONE:
        lines->at = *from == '\r' || *from == '\n' ? LINE_NONE : LINE_METHOD;
        *at += lines->at == LINE_NONE;
        break;
    case LINE_METHOD:
        lines->at = ends_part(at, end) ? LINE_SECOND : LINE_METHOD;
        break;
    case LINE_SECOND:
        if (*from == ' ')
            return REQUEST_LINE;
        __attribute__((fallthrough));
    case LINE_TARGET:
        lines->at = ends_part(at, end) ? LINE_THIRD : LINE_TARGET;
        break;
    case LINE_THIRD: /* llhttp knows two others, and reads them to the end */
        if (*from != 'H')
            return REQUEST_LINE;
        lines->at = ends_line(at, end) ? LINE_BEGIN : LINE_REST;
        break;
    case LINE_BEGIN:
        if (*from == ' ' || *from == '\t')
            return FOLDED;
        if (*from == '\r' || *from == '\n') {
            lines->at = LINE_END;
            break;
        }
        __attribute__((fallthrough));
    case LINE_REST:
        lines->at = ends_line(at, end) ? LINE_BEGIN : LINE_REST;
        break;
    case LINE_END:
        *at = end;
        break;
    }
    return NULL;
}

const char *http_lines_check(struct http_lines *lines, const char *data, size_t length) {
    const char *end = data + length, *fault = NULL;

    while (data != end && fault == NULL)
        fault = check_line(lines, &data, end);
    return fault;
}
