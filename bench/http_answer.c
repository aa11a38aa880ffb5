#include "http_answer.h"

#include <stdlib.h>

static bool header_is(struct slice line, struct slice name, struct slice *value) {
    if (line.length <= name.length || line.data[name.length] != ':' ||
        !slice_equal_ignoring_case((struct slice){line.data, name.length}, name))
        return false;
    *value = slice_skip(line, name.length + 1);
    while (value->length != 0 && (value->data[0] == ' ' || value->data[0] == '\t'))
        *value = slice_skip(*value, 1);
    return true;
}

/* Returns the length of a chunked body including its last chunk; 0 if incomplete. Trailers are not supported. */
static size_t chunked_length(struct slice text) {
    size_t at = 0;

    for (;;) {
        const char *line_end = memmem(text.data + at, text.length - at, "\r\n", 2);
        unsigned long long size = 0;
        size_t digits = at;

        if (line_end == NULL)
            return 0;
        while (digits < text.length && strchr("0123456789abcdefABCDEF", text.data[digits]) != NULL && size < 1u << 30) {
            char digit[] = {text.data[digits++], '\0'};
            size = size * 16 + strtoul(digit, NULL, 16);
        }
        at = (size_t)(line_end - text.data) + 2;
        if (size > text.length - at || text.length - at - (size_t)size < 2)
            return 0;
        at += (size_t)size + 2;
        if (size == 0)
            return at;
    }
}

size_t http_answer_parse(struct slice text, struct http_answer *answer) {
    const char *head_end;
    unsigned long long body_length = 0, status;
    bool chunked = false;
    struct slice head, value;

    *answer = (struct http_answer){0};
    if (text.length >= 5 && memcmp(text.data, "HTTP/", 5) != 0)
        return text.length;
    if (text.length == 0 || (head_end = memmem(text.data, text.length, "\r\n\r\n", 4)) == NULL)
        return 0;
    head = (struct slice){text.data, (size_t)(head_end - text.data) + 2};
    if (head.length >= 12 && slice_to_number((struct slice){head.data + 9, 3}, 999, &status))
        answer->status = (unsigned)status;

    for (size_t at = 0; at < head.length;) {
        size_t length = (size_t)((const char *)memchr(head.data + at, '\n', head.length - at) - head.data) - at;
        struct slice line = {head.data + at, length != 0 ? length - 1 : 0};
        at += length + 1;
        if (header_is(line, SLICE("content-length"), &value) && !slice_to_number(value, 1u << 30, &body_length))
            return answer->status = 0, text.length;
        if (header_is(line, SLICE("transfer-encoding"), &value))
            chunked = slice_equal_ignoring_case(value, SLICE("chunked"));
    }
    answer->body = slice_skip(text, head.length + 2);
    if (chunked) {
        answer->body.length = chunked_length(answer->body);
        return answer->body.length != 0 ? head.length + 2 + answer->body.length : 0;
    }
    if (body_length > answer->body.length)
        return 0;
    answer->body.length = (size_t)body_length;
    return head.length + 2 + answer->body.length;
}
