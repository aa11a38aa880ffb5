/*
 * A strict JSON scanner that returns the exact source bytes of values.
 *
 * It builds no tree. It validates a text once, from the first byte to the last (RFC 8259), and returns slices of it, so
 * that an event's `data` reaches the subscribers exactly as it was sent, with its number formats, key order and
 * escapes. It neither recurses nor allocates for nested values: 20,000 open brackets give an error, not a stack
 * overflow. Any thread.
 *
 *   {"event":"client-x","data":{"a":1.50}}        json_scan_object(text, {"event","data"})
 *            ^^^^^^^^^^        ^^^^^^^^^^
 *            STRING, token     OBJECT, token
 *
 * A token is the exact source text of a value; for a string with its quotes and escapes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

/* The maximum nesting depth; deeper values are an error. */
#define JSON_MAX_DEPTH 1024

enum json_type {
    JSON_TYPE_ABSENT,
    JSON_TYPE_NULL,
    JSON_TYPE_FALSE,
    JSON_TYPE_TRUE,
    JSON_TYPE_NUMBER,
    JSON_TYPE_STRING,
    JSON_TYPE_ARRAY,
    JSON_TYPE_OBJECT
};

struct json_value {
    enum json_type type; /* JSON_TYPE_ABSENT: the member is missing */
    bool escaped;        /* a string with at least one escape, which must be decoded */
    struct slice token;  /* exact source bytes, without blanks around them */
};

/*
 * Validates all of `text` as one JSON value; false with an error that names the byte offset. The caller has checked
 * that `text` is valid UTF-8 (utf8_valid). Errors include control characters in strings, trailing bytes, leading zeros
 * and trailing commas.
 */
bool json_scan(struct slice text, struct json_value *value, struct error *error);

/*
 * Validates all of `text` as one JSON object and stores the member called `names[i]` in `values[i]`: JSON_TYPE_ABSENT
 * if it is missing, the last one if the name occurs twice, as in JSON.parse. Names are compared after decoding:
 * "\u0065vent" is "event". The frequent ones should come first. False with an error, as json_scan.
 */
bool json_scan_object(struct slice text, const struct slice *names, struct json_value *values, size_t count,
                      struct error *error);

/* An iterator over the members of an object or the elements of an array that was validated before. */
struct json_iterator {
    const char *at, *end;
};

/* Starts an iteration; it is empty if `container` is neither an object nor an array. */
struct json_iterator json_iterate(struct json_value container);

/* Returns the next element in `value`; false at the end. `key` (may be NULL) gets the name of an object's member, as a
 * string value. */
bool json_next(struct json_iterator *iterator, struct json_value *key, struct json_value *value);

/*
 * Decodes a string to UTF-8 bytes. A string without escapes gives a slice of the token; otherwise the decoded bytes are
 * appended to `storage` and the slice points into it, so that the caller must not append to it while the slice is in
 * use. A lone surrogate becomes U+FFFD. Other types give an empty slice.
 */
struct slice json_decode_string(struct json_value string, struct buffer *storage);

/* Returns the length in bytes that json_decode_string would return, without decoding. */
size_t json_decoded_length(struct json_value string);

/* True if the value is a number without fraction and exponent: an optional minus and digits. */
bool json_is_whole_number(struct json_value number);

/* Appends `text` as a JSON string with quotes. Escapes only quotes, backslashes and control characters. */
void json_append_string(struct buffer *buffer, struct slice text);
