/*
 * A slice: a pointer to bytes and their length, not owned.
 *
 * Parsers return slices of their input to avoid copies. A slice is valid as long as the bytes that it points to; it is
 * not terminated by a zero byte. {NULL, 0} is an empty slice. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *data;
    size_t length;
};

/* A slice of a string literal. */
#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})

/* The same as an initialiser, for static tables. */
#define SLICE_INIT(literal)                                                                                            \
    { (literal), sizeof(literal) - 1 }

/* Arguments for `%.*s` of printf: printf("%.*s", SLICE_ARGS(slice)). */
#define SLICE_ARGS(slice) ((int)(slice).length), (slice).data

/* Returns a slice of a string without its zero byte; NULL gives an empty slice. */
static inline struct slice slice_of(const char *string) {
    return (struct slice){string, string != NULL ? strlen(string) : 0};
}

/* Compare bytes: equality, a prefix, a suffix. */
static inline bool slice_equal(struct slice a, struct slice b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

static inline bool slice_starts_with(struct slice text, struct slice prefix) {
    return text.length >= prefix.length && (prefix.length == 0 || memcmp(text.data, prefix.data, prefix.length) == 0);
}

static inline bool slice_ends_with(struct slice text, struct slice suffix) {
    return text.length >= suffix.length &&
           (suffix.length == 0 || memcmp(text.data + text.length - suffix.length, suffix.data, suffix.length) == 0);
}

/* Returns the slice without its first `count` bytes; `count` must not be larger than its length. */
static inline struct slice slice_skip(struct slice text, size_t count) {
    return (struct slice){text.data + count, text.length - count};
}

/* Compares byte by byte, as memcmp does: less than, equal to or greater than 0. A prefix comes first. */
int slice_compare(struct slice a, struct slice b);

/* Returns the slice without spaces and tabs at both ends (the optional white space of RFC 9110 section 5.6.3). */
struct slice slice_trim(struct slice text);

/* True if slices of the same length are equal, ignoring the case of ASCII letters. */
bool slice_letters_equal(struct slice a, struct slice b);

/* True if both are equal, ignoring the case of ASCII letters. Most texts that are looked for differ in length already.
 */
static inline bool slice_equal_ignoring_case(struct slice a, struct slice b) {
    return a.length == b.length && slice_letters_equal(a, b);
}

/* Parses all of `text` as a decimal number without sign or blanks; false if it is none or larger than `max`. */
bool slice_to_number(struct slice text, unsigned long long max, unsigned long long *number);

/* The digits of the largest number. */
#define NUMBER_DIGITS 20

/* Writes a decimal number into `digits`, and returns a slice of them. */
struct slice slice_of_number(unsigned long long number, char digits[NUMBER_DIGITS]);

/* Returns the value of a hexadecimal digit in either case; -1 if `byte` is none. */
static inline int hex_digit_value(int byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    if (byte >= 'a' && byte <= 'f')
        return byte - 'a' + 10;
    return byte >= 'A' && byte <= 'F' ? byte - 'A' + 10 : -1;
}
