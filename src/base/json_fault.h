/*
 * What is wrong with a text that is no JSON, in words for the person who wrote it.
 *
 * Parsers say what they expected where they gave up. This names the mistake itself, at its own place: a comma before a
 * closing brace, a comma or a quotation mark that is missing, a comment, a file that ends too early, another language.
 * For files that people write; it is not fast. Any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/text_position.h"

/*
 * Finds the first fault of `text` against RFC 8259, or the first \u0000, which is valid and which no configuration may
 * hold. False if there is none: a parser may still refuse the text, for a name that appears twice, a number that is too
 * large or a lone surrogate. The error never quotes the text: it may hold a secret.
 */
bool json_find_fault(struct slice text, struct text_position *position, struct error *error);
