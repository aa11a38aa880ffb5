/*
 * An error: a sentence for people that names the action, its object, the reason and the remedy.
 *
 * A function that can fail returns `bool` (true: success) or an enum, and takes `struct error *` as its last parameter.
 * If the caller must distinguish kinds of failure, the function returns an enum; the text is never parsed.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

struct error {
    /* UTF-8, always terminated by a zero byte; longer sentences are cut. */
    char text[512];
};

/* Writes the sentence and returns false, so that a function can `return error_set(error, ...)`. `error` may be NULL. */
bool error_set(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with a va_list. */
bool error_set_list(struct error *error, const char *format, va_list arguments);

/* Inserts "prefix: " before the sentence and returns false. `error` may be NULL. */
bool error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
