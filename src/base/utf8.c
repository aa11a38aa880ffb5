#include "base/utf8.h"

#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Returns the first byte from `at` on that is not ASCII, or `end`. */
static const unsigned char *skip_ascii(const unsigned char *at, const unsigned char *end) {
#ifdef __SSE2__
    while (end - at >= 16) {
        unsigned high = (unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)at));
        if (high != 0)
            return at + __builtin_ctz(high);
        at += 16;
    }
#else
    while (end - at >= 8) {
        uint64_t bytes;
        memcpy(&bytes, at, sizeof bytes);
        if ((bytes & 0x8080808080808080u) != 0)
            break;
        at += 8;
    }
#endif
    while (at != end && *at < 0x80)
        at++;
    return at;
}

static bool is_continuation(unsigned char byte) {
    return (byte & 0xC0) == 0x80;
}

/*
 * Returns the length of the character of two to four bytes at `at`; 0 if it is malformed. Only the range of the second
 * byte depends on the first (RFC 3629 section 4); it excludes overlong forms, surrogates and values above U+10FFFF.
 */
static unsigned multibyte_length(const unsigned char *at, size_t available) {
    unsigned char lead = at[0];
    unsigned char low = 0x80, high = 0xBF;

    if (lead >= 0xC2 && lead <= 0xDF)
        return available >= 2 && is_continuation(at[1]) ? 2 : 0;
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    if (lead >= 0xE0 && lead <= 0xEF)
        return available >= 3 && at[1] >= low && at[1] <= high && is_continuation(at[2]) ? 3 : 0;
    if (lead >= 0xF0 && lead <= 0xF4)
        return available >= 4 && at[1] >= low && at[1] <= high && is_continuation(at[2]) && is_continuation(at[3]) ? 4
                                                                                                                   : 0;
    return 0;
}

bool utf8_valid(struct slice text) {
    const unsigned char *at = (const unsigned char *)text.data;
    const unsigned char *end;

    if (text.length == 0)
        return true;
    end = at + text.length;
    for (;;) {
        at = skip_ascii(at, end);
        /* Non-ASCII text comes in runs: stay in this loop until the run ends, instead of trying 16 ASCII bytes each
         * time. */
        while (at != end && *at >= 0x80) {
            unsigned length = multibyte_length(at, (size_t)(end - at));
            if (length == 0)
                return false;
            at += length;
        }
        if (at == end)
            return true;
    }
}

void utf8_mend(char *text) {
    char *end = text + strlen(text);

    while (text != end) {
        unsigned char *at = (unsigned char *)text;
        unsigned length = *at < 0x80 ? 1 : multibyte_length(at, (size_t)(end - text));
        if (length == 0)
            *text = '?';
        text += length == 0 ? 1 : length;
    }
}
