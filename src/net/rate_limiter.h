/*
 * A rate limit by client address: a token bucket for each address. A full bucket holds `max_requests` tokens; an empty
 * one is full again after one window. All workers share the buckets, so a client cannot get more tokens by spreading
 * its connections over workers.
 *
 *   address -- keyed hash --> set of 16 entries    entry: the address, and the time at which its bucket is full again
 *
 * This time is the whole state of a bucket (the generic cell rate algorithm): each token moves it forward by window /
 * max_requests, and a token is granted if the time stays within one window from now. The entry of a full bucket holds
 * no information and can be reused. The memory is fixed: when all 16 entries of a set are in use, a new address
 * replaces the one whose bucket is full first. A flood of new addresses therefore replaces other new addresses, and
 * addresses at their limit keep their entries.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "net/http.h"

/* Number of addresses that the limiter remembers; two megabytes. */
#define RATE_LIMITER_ENTRIES (128 * 1024)

struct rate_limiter_settings {
    const char *path; /* the limit's path in the configuration */
    uint32_t max_requests;
    uint32_t window_s;
    uint32_t trust_hops; /* see client_address */
};

struct rate_limiter;

/* Creates a limiter with `entries`, a power of two: RATE_LIMITER_ENTRIES except in tests. */
struct rate_limiter *rate_limiter_create(const struct rate_limiter_settings *settings, uint32_t entries);

/* Frees the limiter; NULL is ignored. */
void rate_limiter_destroy(struct rate_limiter *limiter);

/* Takes a token of `address` and returns 0; if there is none, returns the seconds until the next one, rounded up. Any
 * thread. */
uint32_t rate_limiter_take(struct rate_limiter *limiter, uint64_t address, uint64_t now_ns);

/* The same for the client of a request. Returns 0 also if `limiter` is NULL or the client has no address. On the
 * connection's worker. */
uint32_t rate_limiter_check(struct rate_limiter *limiter, struct http_connection *connection,
                            const struct http_request *request);

/* Returns the settings, for the text of a refusal: "path.max_requests is 20 in 60 s". */
const struct rate_limiter_settings *rate_limiter_settings(const struct rate_limiter *limiter);

/* Counts the tokens that were requested and the requests that were refused, since the start. Any thread. */
void rate_limiter_count(const struct rate_limiter *limiter, uint64_t *checks, uint64_t *refusals);
