/*
 * Exponential back-off: the pause between a failed attempt and the next one.
 */
#pragma once

#include <stdint.h>

#include "base/crypto.h"

/* Returns the pause that follows a pause of `pause_ms` (0: this is the first one): twice as long, between `first_ms`
 * and `last_ms`. */
static inline uint32_t backoff_next_ms(uint32_t pause_ms, uint32_t first_ms, uint32_t last_ms) {
    if (pause_ms == 0)
        return first_ms;
    return pause_ms < last_ms / 2 ? pause_ms * 2 : last_ms;
}

/* Returns a random time from half of the pause to all of it: nodes that fail together do not come back together. */
static inline uint32_t backoff_spread_ms(uint32_t pause_ms) {
    uint32_t random, half = pause_ms / 2;

    random_bytes(&random, sizeof random);
    return half + random % (half + 1);
}
