/*
 * A line with a pattern of allowed_origins, and the rest as an Origin header. A pattern without a `*` must match the
 * origin of the same text, and the answer must not depend on case.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/origin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

/* A copy without a byte behind it, so that reading past its end is noticed. */
static char *copy_of(const uint8_t *data, size_t size) {
    char *copy = malloc(size != 0 ? size : 1);

    check(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    return copy;
}

static void change_case(char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        text[i] = (char)(i % 2 != 0 ? toupper((unsigned char)text[i]) : tolower((unsigned char)text[i]));
}

/* True if an origin can have these bytes, and none of them is special in a pattern. */
static bool is_ordinary(const char *at, const char *end) {
    for (; at != end; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f || strchr("*/?#@\\", *at) != NULL)
            return false;
    return true;
}

/* A complete origin, in which nothing is special in a pattern. */
static bool is_plain(struct slice origin) {
    const char *mark = memmem(origin.data, origin.length, "://", 3), *end = origin.data + origin.length;

    return mark != NULL && mark != origin.data && end > mark + 3 && mark[3] != ':' && is_ordinary(origin.data, mark) &&
           is_ordinary(mark + 3, end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = size != 0 ? memchr(data, '\n', size) : NULL;
    size_t length = end != NULL ? (size_t)(end - data) : size, rest = end != NULL ? size - length - 1 : 0;
    char *pattern = copy_of(data, length), *origin = copy_of(data + size - rest, rest);
    struct slice first = {pattern, length}, second = {origin, rest};
    bool matched = origin_matches(first, second);

    if (second.length != 0 && is_plain(second))
        check(origin_matches(second, second));
    check(origin_matches(SLICE("*"), second));
    change_case(origin, rest);
    check(origin_matches(first, second) == matched);
    change_case(pattern, length);
    check(origin_matches(first, second) == matched);
    free(pattern);
    free(origin);
    return 0;
}
