/*
 * Clocks. Measurements and timeouts use the monotonic clock, or the CPU time of a thread; times that people and other
 * machines see (log lines, auth_timestamp) use the wall clock. Any thread.
 */
#pragma once

#include <stdint.h>
#include <time.h>

/* The monotonic clock in nanoseconds and milliseconds. */
static inline uint64_t clock_monotonic_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_monotonic_ms(void) {
    return clock_monotonic_ns() / 1000000u;
}

/* The CPU time of the calling thread in nanoseconds: a system call. */
static inline uint64_t clock_thread_cpu_ns(void) {
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The wall clock in milliseconds since 1970 (UTC). */
static inline uint64_t clock_wall_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* The same in seconds. It is a tick of the kernel late (up to 10 ms), and cheaper to read. */
static inline uint64_t clock_wall_s(void) {
    return (uint64_t)time(NULL);
}
