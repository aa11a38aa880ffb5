/*
 * The query of a URL, parsed into percent-decoded keys and values. `+` stays a plus, and a `%` without two hexadecimal
 * digits stays a percent sign.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/slice.h"

/* The number of parameters that need no allocation. */
#define QUERY_INLINE 32

struct query_parameter {
    struct slice key;   /* decoded; letter case as received */
    struct slice value; /* decoded; empty if there is no `=` */
};

struct query {
    struct query_parameter *parameters; /* `inlined`, or an array with room for `capacity` */
    size_t count, capacity;
    struct buffer storage; /* decoded bytes; parameters point into it or into the source */
    struct query_parameter inlined[QUERY_INLINE];
};

/* Parses `text`, the part of a URL after `?`, which must outlive the query. The number of parameters has no bound here:
 * the bound on a request's head is one. Call query_dispose afterwards. */
void query_parse(struct query *query, struct slice text);

/* Frees the parameters and the decoded bytes. */
void query_dispose(struct query *query);

/* Finds the last parameter called `key`, in any case; false if there is none. */
bool query_find(const struct query *query, struct slice key, struct slice *value);

/* Appends `text`, percent-decoded once. */
void percent_decode(struct slice text, struct buffer *out);
