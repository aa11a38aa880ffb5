/*
 * The canonical text of a JSON number, so that a number can be compared as text: `1.50` and `15e-1` both give `1.5`.
 *
 * A whole number that fits into 64 bits keeps its digits. Any other is a double (IEEE 754), with the fewest digits that
 * give the same double again: `5.0`, `0.8`, `1000.0` for `1e3`, and from 1e16 on and below 1e-5 with an exponent:
 * `1e21`, `1.5e-7`. Servers of the protocol family write numbers so. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"

/* A longer number has no canonical text. */
#define NUMBER_TEXT_TOKEN_MAX 512

/* Room for every canonical text. */
#define NUMBER_TEXT_MAX 32

/* Appends the text of a number, whose token the JSON scanner has accepted. False, and nothing is appended, if it is too
 * long or too large for a double. */
bool number_text_append(struct buffer *out, struct slice token);
