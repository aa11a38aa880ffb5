/*
 * Text from outside on a terminal: control characters and those that change the direction of text are escaped, so that
 * it can neither control the terminal nor look like something else.
 */
#pragma once

#include "base/buffer.h"
#include "base/slice.h"

/* Appends valid UTF-8 on one line: such characters become \u and four digits. */
void safe_text_append(struct buffer *buffer, struct slice text);

/* The same for valid JSON, which stays valid JSON of the same value: line ends and tabs, which can only be between its
 * tokens, become blanks. */
void safe_text_append_json(struct buffer *buffer, struct slice json);
