/*
 * Counters that one thread writes and other threads read, for the metrics. With a single writer, an addition is a plain
 * load and store, without a locked instruction.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct counter {
    atomic_uint_fast64_t value;
};

/* Adds `amount`. On the owner's thread only. */
static inline void counter_add(struct counter *counter, uint64_t amount) {
    atomic_store_explicit(&counter->value, atomic_load_explicit(&counter->value, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

/* Sets the counter to `value` if that is larger. On the owner's thread only. */
static inline void counter_max(struct counter *counter, uint64_t value) {
    if (value > atomic_load_explicit(&counter->value, memory_order_relaxed))
        atomic_store_explicit(&counter->value, value, memory_order_relaxed);
}

/* Reads the counter. Any thread. */
static inline uint64_t counter_read(const struct counter *counter) {
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}
