/*
 * Exponential back-off: how long to wait after a failed attempt before the next one.
 */
#pragma once

#include <stdint.h>

/* The pause after one of `pause_ms` (0: the first attempt failed): twice as long, from `first_ms` to `last_ms`. */
static inline uint32_t backoff_next_ms(uint32_t pause_ms, uint32_t first_ms, uint32_t last_ms) {
    if (pause_ms == 0)
        return first_ms;
    return pause_ms < last_ms / 2 ? pause_ms * 2 : last_ms;
}
