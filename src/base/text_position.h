/*
 * Where a byte of a text is, for messages about files. Any thread.
 */
#pragma once

#include <stddef.h>

#include "base/slice.h"

/* Both count from 1; a column is a character, not a byte. */
struct text_position {
    size_t line, column;
};

/* The position of `at`, a byte of `text` or its end. */
struct text_position text_position_of(struct slice text, const char *at);

/* Returns the first byte of `text` that is not part of a well-formed character of UTF-8; NULL if there is none. */
const char *text_find_malformed(struct slice text);
