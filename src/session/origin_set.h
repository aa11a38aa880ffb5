/*
 * The Origin headers of a worker's sessions, so that an app that gets a list of origins can judge connections that are
 * open. Sessions with the same origin share one text with a count. On the worker's thread only.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"

/* A longer header is none of a web page: a scheme, a host of 253 bytes (RFC 1035) and a port are shorter. */
#define ORIGIN_MAX_BYTES 300

struct origin {
    struct origin *next; /* in its bucket */
    uint64_t hash;
    uint32_t references;
    uint32_t length;
    char text[];
};

/* A zeroed set is empty. An empty set owns no memory. */
struct origin_set {
    struct origin **buckets;
    uint32_t capacity; /* a power of two */
    uint32_t count;
};

/* Returns the origin with that text and a reference for the caller. A text above ORIGIN_MAX_BYTES becomes `null`. */
struct origin *origin_set_take(struct origin_set *set, struct slice text);

/* Gives back a reference; NULL is ignored. */
void origin_set_release(struct origin_set *set, struct origin *origin);

/* The text of an origin; without data if it is NULL. */
static inline struct slice origin_text(const struct origin *origin) {
    return origin != NULL ? (struct slice){origin->text, origin->length} : (struct slice){0};
}
