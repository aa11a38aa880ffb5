/*
 * Any bytes as a query. The parameters must equal those of a slow reference parser, and decoding must undo encoding.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

static int digit(char byte) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *found = memchr(digits, byte, sizeof digits - 1);

    return found != NULL ? (int)(found - digits) % 16 : -1;
}

/* Returns the decoded byte at `*at` and moves `*at` past it. */
static char take(const char **at, const char *end) {
    if (**at == '%' && end - *at >= 3 && digit((*at)[1]) >= 0 && digit((*at)[2]) >= 0) {
        *at += 3;
        return (char)(digit((*at)[-2]) * 16 + digit((*at)[-1]));
    }
    return *(*at)++;
}

/* Checks that `text` is the decoded text from `at` to `end`. */
static void check_decoded(struct slice text, const char *at, const char *end) {
    for (size_t i = 0; i < text.length; i++) {
        check(at != end);
        check(take(&at, end) == text.data[i]);
    }
    check(at == end);
}

static const char *find(const char *at, const char *end, char byte) {
    while (at != end && *at != byte)
        at++;
    return at;
}

static void check_parameters(const struct query *query, const char *at, const char *end) {
    size_t count = 0;

    while (at != end) {
        const char *stop = find(at, end, '&'), *equals = find(at, stop, '=');
        if (stop != at) {
            check(count < query->count);
            check_decoded(query->parameters[count].key, at, equals);
            check_decoded(query->parameters[count].value, equals != stop ? equals + 1 : stop, stop);
            count++;
        }
        at = stop != end ? stop + 1 : end;
    }
    check(count == query->count);
}

static void check_find(const struct query *query) {
    for (size_t i = 0; i < query->count; i++) {
        struct slice key = query->parameters[i].key, value, wanted = query->parameters[i].value;
        for (size_t later = i + 1; later < query->count; later++)
            if (slice_equal_ignoring_case(query->parameters[later].key, key))
                wanted = query->parameters[later].value;
        check(query_find(query, key, &value));
        check(value.data == wanted.data && value.length == wanted.length);
    }
}

/* Checks that every byte decodes to itself, encoded as %XX or, if that is unambiguous, unencoded. */
static void check_round_trip(struct slice text) {
    struct buffer encoded = {0}, decoded = {0};

    for (size_t i = 0; i < text.length; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        if (byte == '%' || byte % 3 == 0)
            buffer_appendf(&encoded, byte % 2 != 0 ? "%%%02x" : "%%%02X", byte);
        else
            buffer_append_byte(&encoded, (char)byte);
    }
    percent_decode(buffer_slice(&encoded), &decoded);
    check(slice_equal(buffer_slice(&decoded), text));
    buffer_dispose(&encoded);
    buffer_dispose(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy = malloc(size != 0 ? size : 1);
    struct slice text = {copy, size};
    struct buffer decoded = {0};
    struct query query;

    check(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    query_parse(&query, text);
    check_parameters(&query, text.data, text.data + text.length);
    check_find(&query);
    query_dispose(&query);
    percent_decode(text, &decoded);
    check_decoded(buffer_slice(&decoded), text.data, text.data + text.length);
    buffer_dispose(&decoded);
    check_round_trip(text);
    free(copy);
    return 0;
}
