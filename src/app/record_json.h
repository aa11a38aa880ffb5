/*
 * Readers of JSON values, shared by the parsers of a record. Their errors say what would be right, and never quote a
 * text, since a secret may be in the wrong field.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/near_miss.h"
#include "base/slice.h"

/* True if the field is missing or null: both mean that it is not set. */
static inline bool record_unset(const json_t *json) {
    return json == NULL || json_is_null(json);
}

/* The bytes of a JSON string, valid as long as `json`. */
static inline struct slice record_slice(const json_t *json) {
    return (struct slice){json_string_value(json), json_string_length(json)};
}

/* The text of a member of an object; empty if there is none, or if it is not a text. */
struct slice record_member(const json_t *object, const char *name);

#define RECORD_NAME_BYTES 24

/* The text of a name: a JSON string, or the digits of an integer that is not negative, which go into `digits`; data is
 * NULL for anything else. Valid as long as both. */
struct slice record_name(const json_t *json, char digits[RECORD_NAME_BYTES]);

/* How a negative number is read. */
enum record_negative {
    RECORD_NEGATIVE_REFUSED,
    RECORD_MINUS_ONE_IS_ZERO, /* -1 means "no limit" in files of other servers */
    RECORD_NEGATIVE_WRAPS,    /* a 32-bit number stands for the unsigned number of the same bits */
};

/* A number from 0 to 2^32 - 1, as a JSON number or as a string of digits. */
bool record_number(const json_t *json, enum record_negative negatives, const char *field, uint32_t *number,
                   struct error *error);

/* true or false; with `digits` also the number 1 or 0. */
bool record_flag(const json_t *json, bool digits, const char *field, bool *flag, struct error *error);

/* A text. A field that is not set leaves `text` as it is. */
bool record_text(const json_t *json, const char *field, struct slice *text, struct error *error);

/* Appends "; did you mean ...?" to the text about an unknown name, if one of the words that were offered is near it;
 * `section` (with its dot, or "") is said in front of the word. */
void record_append_meant(char *text, size_t size, const char *section, const struct near_miss *miss);

/* The number of times that `byte` occurs in `text`. */
size_t record_count(struct slice text, char byte);
