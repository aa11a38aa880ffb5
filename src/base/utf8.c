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

/*
 * Starts a character of two to four bytes with its first one; false if no character starts with `lead`. Only the range
 * of the second byte depends on the first (RFC 3629 section 4); it excludes overlong forms, surrogates and values above
 * U+10FFFF.
 */
static inline bool begin_character(struct utf8_state *state, unsigned char lead) {
    *state = (struct utf8_state){0, 0x80, 0xBF};
    if (lead < 0xC2 || lead > 0xF4)
        return false;
    state->left = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    if (lead == 0xE0)
        state->low = 0xA0;
    else if (lead == 0xED)
        state->high = 0x9F;
    else if (lead == 0xF0)
        state->low = 0x90;
    else if (lead == 0xF4)
        state->high = 0x8F;
    return true;
}

/* Takes the next bytes of a character that has begun, as far as there are any. Returns the end of what was taken; NULL
 * if a byte cannot follow. */
static inline const unsigned char *continue_character(struct utf8_state *state, const unsigned char *at,
                                                      const unsigned char *end) {
    for (; state->left != 0 && at != end; at++, state->left--) {
        if (*at < state->low || *at > state->high)
            return NULL;
        state->low = 0x80;
        state->high = 0xBF;
    }
    return at;
}

bool utf8_continue(struct utf8_state *state, struct slice piece) {
    const unsigned char *at = (const unsigned char *)piece.data;
    const unsigned char *end;
    struct utf8_state character = *state; /* a copy, which the compiler can keep in registers */

    if (piece.length == 0)
        return true;
    end = at + piece.length;
    at = continue_character(&character, at, end);
    while (at != NULL && at != end) {
        at = skip_ascii(at, end);
        /* Non-ASCII text comes in runs: stay in this loop until the run ends, instead of trying 16 ASCII bytes each
         * time. */
        while (at != end && *at >= 0x80) {
            if (!begin_character(&character, *at))
                return false;
            at = continue_character(&character, at + 1, end);
            if (at == NULL)
                return false;
        }
    }
    *state = character;
    return at != NULL;
}

bool utf8_valid(struct slice text) {
    struct utf8_state state = {0};

    return utf8_continue(&state, text) && state.left == 0;
}

/* Returns the length of the character at `at`; 0 if it is malformed or does not end before `end`. */
static size_t sequence_length(const unsigned char *at, const unsigned char *end) {
    struct utf8_state character;
    const unsigned char *after;

    if (*at < 0x80)
        return 1;
    if (!begin_character(&character, *at))
        return 0;
    after = continue_character(&character, at + 1, end);
    return after != NULL && character.left == 0 ? (size_t)(after - at) : 0;
}

void utf8_mend(char *text) {
    unsigned char *at = (unsigned char *)text;
    const unsigned char *end = at + strlen(text);

    while (at != end) {
        size_t length = sequence_length(at, end);
        if (length == 0)
            *at = '?';
        at += length == 0 ? 1 : length;
    }
}

size_t utf8_encode(uint32_t code, char bytes[4]) {
    if (code < 0x80) {
        bytes[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        bytes[0] = (char)(0xC0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        bytes[0] = (char)(0xE0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 0x3F));
        bytes[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    bytes[0] = (char)(0xF0 | code >> 18);
    bytes[1] = (char)(0x80 | (code >> 12 & 0x3F));
    bytes[2] = (char)(0x80 | (code >> 6 & 0x3F));
    bytes[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

struct slice utf8_without_mark(struct slice text) {
    return slice_starts_with(text, SLICE("\xef\xbb\xbf")) ? slice_skip(text, 3) : text;
}
