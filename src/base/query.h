/*
 * The query of a URL, taken apart once: keys and values percent-decoded, `+` a plus, a `%` without two hex digits
 * itself.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"

/* More parameters than this in one query are refused. */
#define QUERY_MAX 64

struct query_parameter {
    struct slice key;   /* decoded, in the case it came in */
    struct slice value; /* decoded; empty when there is no `=` */
};

struct query {
    struct query_parameter parameters[QUERY_MAX];
    size_t count;
    struct buffer storage; /* what had to be decoded; the parameters point into it or into the source */
};

/* Parses `text` (what follows the `?`). False if it has too many parameters. Dispose in either case. */
bool query_parse(struct query *query, struct slice text);
void query_dispose(struct query *query);

/* The value of the last parameter called `key` in any case; false if there is none. */
bool query_find(const struct query *query, struct slice key, struct slice *value);

/* Appends `text` percent-decoded once. */
void percent_decode(struct slice text, struct buffer *out);
