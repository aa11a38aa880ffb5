/*
 * The tags of an event: a map from text to text that its publisher gives it. Filters of subscriptions look at them
 * (filter.h), and subscribers get them as a member of the event.
 *
 * Tags are parsed and checked once, when the event is published. They are immutable from then on, and shared by all
 * that need them: the publication, and the base of a delta. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "base/slice.h"

#define TAGS_MAX 128
#define TAG_KEY_MAX 256    /* bytes */
#define TAG_VALUE_MAX 1024 /* bytes */

/* NULL stands for an event without tags. A filter sees it as an empty map. */
struct tags;

/*
 * Makes tags with one reference of a value that the scanner has validated (base/json.h): an object of strings. Of a key
 * that occurs twice the last value counts, as in JSON.parse. NULL with an error, which names the tag by its place, if
 * the value is anything else or over the limits above.
 */
struct tags *tags_read(struct json_value value, struct error *error);

/* The same for a text, which is validated here. */
struct tags *tags_parse(struct slice text, struct error *error);

/* Take and drop a reference; NULL is passed through. */
struct tags *tags_ref(struct tags *tags);
void tags_unref(struct tags *tags);

/* Appends the tags as a JSON object, with the keys in the order of their bytes and without blanks. */
void tags_append_json(struct buffer *out, const struct tags *tags);

struct tag_found {
    struct slice value;
    double number; /* the value as a number (tag_number.h); NaN: it is none */
};

/* Finds a tag by its key, in time logarithmic to their number; `tags` may be NULL. */
bool tags_find(const struct tags *tags, struct slice key, struct tag_found *found);

/* The memory of the tags, for the account (base/budget.h); 0 for NULL. */
size_t tags_bytes(const struct tags *tags);
