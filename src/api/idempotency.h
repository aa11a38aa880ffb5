/*
 * The idempotency keys of publishes: a request with a key that was accepted a short time ago is answered as the first
 * one was, and publishes nothing.
 *
 *   begin --- new -----> the caller publishes --- accepted: finish(answer) ----> remembered for `lifetime_ms`
 *      |                                     \--- refused: abandon -----------> forgotten
 *      |---- replay ---> the remembered answer
 *      |---- conflict -> the key was used for another body
 *      \---- wait -----> the first request is under way: the waiter is woken when it ends
 *
 * A key belongs to its app and its kind of request. What is remembered is bounded in keys and bytes, for each app and
 * in all: above a bound, the app that holds the most loses its oldest key. Nothing is written to disk.
 *
 * Any thread may call; one mutex, held for a few loads and stores and for the removal of keys above a bound.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "net/chunk.h"

#define IDEMPOTENCY_KEY_MAX 128
/* The size of a digest of the body: MD5 in hexadecimal digits. */
#define IDEMPOTENCY_DIGEST 32

struct idempotency;
struct idempotency_entry;

struct idempotency_limits {
    uint64_t app_keys, app_bytes; /* of one app */
    uint64_t keys, bytes;         /* of all apps */
    uint64_t lifetime_ms;
};

struct idempotency *idempotency_create(const struct idempotency_limits *limits);
/* No request is under way. NULL is ignored. */
void idempotency_destroy(struct idempotency *idempotency);

struct idempotency_request {
    struct slice app_id;
    char kind;           /* of the request, as the path says */
    struct slice key;    /* 1 to IDEMPOTENCY_KEY_MAX bytes */
    struct slice digest; /* of the body; IDEMPOTENCY_DIGEST bytes */
};

/* A request that waits for the first one with its key. Embedded in memory of the caller's. */
struct idempotency_waiter {
    struct list link;
    /* Called once, on the thread where the first request ends. `answer` has a reference for the callee; NULL: the first
     * request was refused, so begin again. */
    void (*wake)(struct idempotency_waiter *waiter, struct frame *answer);
};

enum idempotency_state {
    IDEMPOTENCY_NEW,      /* `*entry` is set: end it with finish or abandon */
    IDEMPOTENCY_REPLAY,   /* `*answer` is set, with a reference for the caller */
    IDEMPOTENCY_CONFLICT, /* the key was used with another body */
    IDEMPOTENCY_WAIT,     /* the waiter will be woken */
};

enum idempotency_state idempotency_begin(struct idempotency *idempotency, const struct idempotency_request *request,
                                         uint64_t now_ms, struct idempotency_waiter *waiter,
                                         struct idempotency_entry **entry, struct frame **answer);

/* The request was accepted: remembers a copy of its answer. */
void idempotency_finish(struct idempotency *idempotency, struct idempotency_entry *entry, struct slice answer,
                        uint64_t now_ms);
/* The request was refused: forgets its key. */
void idempotency_abandon(struct idempotency *idempotency, struct idempotency_entry *entry);

/* Drops keys that are too old, a limited number at a time. Once a second. */
void idempotency_expire(struct idempotency *idempotency, uint64_t now_ms);

/* What is remembered, for the metrics. */
void idempotency_read_size(struct idempotency *idempotency, uint64_t *keys, uint64_t *bytes);
