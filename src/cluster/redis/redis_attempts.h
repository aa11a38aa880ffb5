/*
 * The attempts of a bus or a store to come up, and the pauses between them: the same for one Redis and for the masters
 * of a cluster. For one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The time for a connection, except in the first attempt. */
#define REDIS_ATTEMPT_MS 1000

/* Zeroed: none was made. */
struct redis_attempts {
    bool first_over;
    bool told_down; /* since the owner was last up */
    uint64_t ends_ms, up_since_ms;
    uint32_t pause_ms;
};

/* Begins an attempt; returns the time that it has. */
uint64_t redis_attempts_begin(struct redis_attempts *attempts, uint64_t now_ms);

/* What is left of this time. */
uint64_t redis_attempts_left_ms(const struct redis_attempts *attempts, uint64_t now_ms);

/* The attempt has succeeded: the owner is up. */
void redis_attempts_succeed(struct redis_attempts *attempts, uint64_t now_ms);

/* The attempt has failed, or the owner was up until now. Returns the pause before the next attempt. */
uint32_t redis_attempts_fail(struct redis_attempts *attempts, uint64_t now_ms, bool was_up);

/* True for the first failure since the owner was up, or since the start: then it tells that it is down. */
bool redis_attempts_tell_down(struct redis_attempts *attempts);
