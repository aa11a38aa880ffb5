/*
 * A limit on what one client address may ask for: a token bucket for each address, which holds `max_requests` tokens
 * when it is full and is refilled continuously, all of it in one window. Shared by all workers, so a client whose
 * connections are spread over them gets no more than one that is not.
 *
 *   address -- keyed hash --> set of 16 places    place: the address, and when its bucket will be full again
 *
 * That one time says all about a bucket: a token taken moves it on by window / max_requests, and an address may be
 * given one as long as it does not get further ahead of the clock than a window. A bucket that is full again says
 * nothing, so its place is free. The memory is fixed: where 16 addresses have taken tokens, a new one gets the place of
 * the one whose bucket will be full first. So a flood of addresses pushes out its own kind, while those that are being
 * limited stay where they are.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/counter.h"
#include "net/http.h"

/* About as many addresses are remembered; two megabytes. */
#define RATE_LIMITER_PLACES (128 * 1024)

struct rate_limiter_settings {
    const char *path; /* of the limit in the configuration */
    uint32_t max_requests;
    uint32_t window_s;
    uint32_t trust_hops; /* see client_address */
};

struct rate_limiter;

/* `places` is a power of two, RATE_LIMITER_PLACES but for tests. */
struct rate_limiter *rate_limiter_create(const struct rate_limiter_settings *settings, uint32_t places);
/* NULL is none. */
void rate_limiter_destroy(struct rate_limiter *limiter);

/* Takes a token of `address`: 0, or without one the seconds until there is, rounded up. Any thread. */
uint32_t rate_limiter_take(struct rate_limiter *limiter, uint64_t address, uint64_t now_ns);

/* The same for the client of a request. 0 also without a limiter (NULL) and for a client without an address. On the
 * connection's worker. */
uint32_t rate_limiter_check(struct rate_limiter *limiter, struct http_connection *connection,
                            const struct http_request *request);

/* What the limit is, for a refusal: "path.max_requests is 20 in 60 s". */
const struct rate_limiter_settings *rate_limiter_settings(const struct rate_limiter *limiter);

/* How often a token was asked for, and how often there was none. Any thread. */
void rate_limiter_count(const struct rate_limiter *limiter, uint64_t *checks, uint64_t *refusals);
