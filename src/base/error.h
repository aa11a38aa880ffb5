/*
 * An error is a sentence for a person: what was attempted, on what, what came back, and what to do.
 *
 * A function that can fail returns `bool` (true is success) or an enum, and takes `struct error *` last.
 * Where the caller branches on the kind of failure the function returns an enum; the text is never parsed.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

struct error {
    char text[512]; /* always terminated, and UTF-8; cut, not overrun, when the sentence is longer */
};

/* Writes the sentence and returns false, so that a function can `return error_set(error, ...)`. `error` may be NULL. */
bool error_set(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, for functions that take such arguments themselves. */
bool error_set_list(struct error *error, const char *format, va_list arguments);

/* Puts "prefix: " before the sentence that is there, and returns false. `error` may be NULL. */
bool error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
