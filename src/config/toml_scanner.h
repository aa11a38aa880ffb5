/*
 * What the files of the TOML reader share. Each rule below takes the scanner at its first byte and leaves it behind the
 * last one; false means that the scanner has an error.
 *
 *   toml_scanner.c  bytes, blanks, comments, line ends, errors
 *   toml_string.c   strings
 *   toml_scalar.c   numbers, booleans, dates and times
 *   toml.c          keys, tables, arrays, the document
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "config/toml.h"

struct toml_scanner {
    const char *start, *at, *end;
    toml_make_value *make; /* NULL: values of JSON */
    json_t *root;
    json_t *states; /* of tables and arrays that may still grow, see toml.c */
    size_t depth;
    const char *fault; /* where the error is */
    struct error *error;
};

/* The byte `offset` bytes ahead, or -1 behind the end. */
static inline int toml_peek(const struct toml_scanner *scanner, size_t offset) {
    return (size_t)(scanner->end - scanner->at) > offset ? (unsigned char)scanner->at[offset] : -1;
}

/* True if the bytes ahead are `text`. */
bool toml_at(const struct toml_scanner *scanner, const char *text);

/* Sets the error, which is at `fault`, and returns false. */
bool toml_fail(struct toml_scanner *scanner, const char *fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for the byte ahead: "expected WHAT, found '='". */
bool toml_expect(struct toml_scanner *scanner, const char *what);

/* Skips spaces and tabs. */
void toml_skip_blanks(struct toml_scanner *scanner);

/* Skips a line end, LF or CRLF, and returns true if there is one. */
bool toml_skip_line_end(struct toml_scanner *scanner);

/* Skips a comment, if there is one, up to the line's end. */
bool toml_skip_comment(struct toml_scanner *scanner);

/* Skips blanks, comments and line ends. */
bool toml_skip_lines(struct toml_scanner *scanner);

/* Appends the decoded string in quotation marks or apostrophes, on one line or on several, to `text`. */
bool toml_read_string(struct toml_scanner *scanner, struct buffer *text);

/* Reads a number, a boolean, a date or a time. */
bool toml_read_scalar(struct toml_scanner *scanner, struct toml_scalar *scalar);
