/*
 * The query of a URL, parsed into percent-decoded keys and values. `+` stays a plus, and a `%` without two hexadecimal
 * digits stays a percent sign.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"

/* The maximum number of parameters in a query. */
#define QUERY_MAX 64

struct query_parameter {
    struct slice key;   /* decoded; letter case as received */
    struct slice value; /* decoded; empty if there is no `=` */
};

struct query {
    struct query_parameter parameters[QUERY_MAX];
    size_t count;
    struct buffer storage; /* decoded bytes; parameters point into it or into the source */
};

/* Parses `text`, the part of a URL after `?`, which must outlive the query. False if it has more than QUERY_MAX
 * parameters. Call query_dispose in either case. */
bool query_parse(struct query *query, struct slice text);

/* Frees the decoded bytes. */
void query_dispose(struct query *query);

/* Finds the last parameter called `key`, in any case; false if there is none. */
bool query_find(const struct query *query, struct slice key, struct slice *value);

/* Appends `text`, percent-decoded once. */
void percent_decode(struct slice text, struct buffer *out);
