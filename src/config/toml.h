/*
 * A reader of TOML 1.0 (https://toml.io/en/v1.0.0) into the tree that jansson makes of JSON.
 *
 * Tables become objects, arrays become arrays, dates and times become strings as they are written. Debian 12 has no C
 * library for TOML. Any thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/text_position.h"

/* The maximum nesting depth of tables and arrays; a deeper one is an error. */
#define TOML_MAX_DEPTH 200

enum toml_type {
    TOML_STRING,
    TOML_INTEGER,
    TOML_FLOAT,
    TOML_BOOLEAN,
    TOML_DATE_TIME,
    TOML_LOCAL_DATE_TIME,
    TOML_LOCAL_DATE,
    TOML_LOCAL_TIME
};

/* A value that is neither a table nor an array. */
struct toml_scalar {
    enum toml_type type;
    struct slice text; /* of a string, decoded; of a date or a time, as written */
    long long integer;
    double real;
    bool boolean;
};

/* Makes the tree's value of a scalar; NULL if there is none. */
typedef json_t *toml_make_value(const struct toml_scalar *scalar);

/*
 * Parses a document and returns its root table, which the caller owns. NULL with the position and an error if the text
 * is not TOML 1.0; the error quotes names of keys, never values. With `make` NULL, strings, numbers and booleans are
 * those of JSON; then U+0000, infinities and NaN are errors, because JSON has none.
 */
json_t *toml_parse(struct slice text, toml_make_value *make, struct text_position *position, struct error *error);
