/*
 * What Redis answers and sends: values of the protocol RESP2, read by hiredis and bounded.
 *
 * A value with all that is in it belongs to its holder, who may pass it to another thread and frees it there. The
 * reader is for one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/slice.h"

enum redis_type { REDIS_TEXT, REDIS_STATUS, REDIS_ERROR, REDIS_INTEGER, REDIS_NIL, REDIS_ARRAY };

struct redis_value {
    enum redis_type type;
    long long integer; /* of an integer */
    struct slice text; /* of a text, status or error; a zero byte follows */
    size_t item_count; /* of an array */
    struct redis_value *items[];
};

/* The members of an array, at most. */
#define REDIS_ITEMS_MAX 65536

/* Frees a value with all that is in it; NULL is ignored. Any thread. */
void redis_value_free(struct redis_value *value);

/* Item `index` of an array, if it has a text; else an empty slice. */
struct slice redis_value_item_text(const struct redis_value *value, size_t index);

/* Ignores the case: true for an error or a status that begins with this word, such as "NOPERM". */
bool redis_value_begins_with(const struct redis_value *value, const char *word);

struct redis_reader;

/* Makes a reader of values that take up to `max_bytes` of memory each. */
struct redis_reader *redis_reader_create(size_t max_bytes);
void redis_reader_destroy(struct redis_reader *reader);

/* Takes bytes that have arrived. False with an error if there is no memory. */
bool redis_reader_feed(struct redis_reader *reader, struct slice bytes, struct error *error);

/* Gives the next value, NULL while it is not whole. False with an error if the bytes are not of the protocol, or the
 * value is too large: nothing more can be read then. */
bool redis_reader_next(struct redis_reader *reader, struct redis_value **value, struct error *error);
