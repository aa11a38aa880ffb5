#include "passing_time.h"

#include <stdatomic.h>
#include <time.h>

static atomic_uint_fast64_t time_passed_ms;

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
    uint64_t passed_ms = atomic_load_explicit(&time_passed_ms, memory_order_relaxed);
    int result = __real_clock_gettime(clock, now);

    if (result != 0 || passed_ms == 0 || clock != CLOCK_MONOTONIC)
        return result;
    now->tv_sec += (time_t)(passed_ms / 1000);
    now->tv_nsec += (long)(passed_ms % 1000) * 1000000;
    if (now->tv_nsec >= 1000000000) {
        now->tv_sec++;
        now->tv_nsec -= 1000000000;
    }
    return 0;
}

void passing_time_add(uint64_t ms) {
    atomic_fetch_add(&time_passed_ms, ms);
}
