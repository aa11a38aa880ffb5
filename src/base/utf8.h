/*
 * UTF-8 as defined by RFC 3629: no overlong forms, no surrogates, no code points above U+10FFFF. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* Progress in a text that arrives in pieces; zero at its start. */
struct utf8_state {
    uint8_t left;      /* bytes that the last character still needs; 0: the text may end here */
    uint8_t low, high; /* range of the next of these bytes */
};

/* Checks the next piece of a text. False if the text cannot become well-formed; the state is then of no more use. */
bool utf8_continue(struct utf8_state *state, struct slice piece);

/* The text of a file without the byte order mark that editors on Windows put in front (RFC 3629 section 6). */
struct slice utf8_without_mark(struct slice text);

/* True if all of `text` is well-formed UTF-8. Fast on ASCII. */
bool utf8_valid(struct slice text);

/* Encodes a code point and returns its length in bytes. */
size_t utf8_encode(uint32_t code, char bytes[4]);

/* Replaces each byte that is not part of a well-formed character by a question mark, in place. */
void utf8_mend(char *text);
