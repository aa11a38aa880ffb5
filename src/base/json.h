/*
 * A strict JSON scanner that yields the exact bytes of what it finds.
 *
 * The realtime path never builds a tree. It validates a text once, from the first byte to the last (RFC 8259), and
 * hands out slices of it, so that an event's `data` reaches the subscribers just as it was sent, whatever
 * number formats, key order or escapes it holds. Nothing here recurses or allocates by nesting: 20,000 open brackets
 * are an error text, not a stack overflow.
 *
 *   {"event":"client-x","data":{"a":1.50}}        json_scan_object(text, {"event","data"})
 *            ^^^^^^^^^^        ^^^^^^^^^^
 *            STRING, token     OBJECT, token
 *
 * A token is the exact source text of a value: of a string with its quotes and escapes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/slice.h"

/* Deeper nesting than this is refused as an error. */
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
    enum json_type type; /* JSON_TYPE_ABSENT: there is no such member */
    bool escaped;        /* a string that holds at least one backslash; its token is not its value */
    struct slice token;  /* exact source bytes, blanks around it left out */
};

/*
 * Validates all of `text` as one JSON value. `text` must be valid UTF-8 already (utf8_valid); control characters in
 * strings, trailing bytes, leading zeros, lone commas are errors. The error names the byte offset.
 */
bool json_scan(struct slice text, struct json_value *value, struct error *error);

/*
 * Validates all of `text` as one JSON object and stores the members called `names[i]` in `values[i]` (JSON_TYPE_ABSENT
 * if missing; of a name given twice the last counts, as in JSON.parse). Names are compared decoded: "\u0065vent" is
 * "event".
 */
bool json_scan_object(struct slice text, const struct slice *names, struct json_value *values, size_t count,
                      struct error *error);

/* Walks the members of an object or the elements of an array whose text was validated before. */
struct json_iterator {
    const char *at, *end;
};
struct json_iterator json_iterate(struct json_value container);
/* The next element; false at the end. `key` (an object's member name, as a string value) may be NULL. */
bool json_next(struct json_iterator *iterator, struct json_value *key, struct json_value *value);

/*
 * The value of a string token as UTF-8 bytes: the token's own bytes when nothing is escaped, else decoded into
 * `storage` (appended; the slice points into it, so append nothing more to it while it is used). A lone surrogate
 * becomes U+FFFD.
 */
struct slice json_decode_string(struct json_value string, struct buffer *storage);

/* The number of UTF-8 bytes that json_decode_string would give, without decoding. */
size_t json_decoded_length(struct json_value string);

/* True if `token` is an integer as JSON writes it: an optional minus and digits, no fraction or exponent. */
bool json_is_whole_number(struct json_value number);

/* Appends `text` as a JSON string with its quotes: escapes quotes, backslashes and control characters, nothing else. */
void json_append_string(struct buffer *buffer, struct slice text);
