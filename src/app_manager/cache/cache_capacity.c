#include "app_manager/cache/cache_capacity.h"

#include "base/clock.h"
#include "base/thread.h"

#define ENTRIES_BEYOND 500 /* entries above nine eighths of the capacity that cause no wait */
#define WAIT_NS UINT64_C(1000000000)

void cache_capacity_init(struct cache_capacity *capacity, const struct records *records) {
    *capacity = (struct cache_capacity){.records = records};
    condition_init(&capacity->freed);
}

void cache_capacity_dispose(struct cache_capacity *capacity) {
    pthread_cond_destroy(&capacity->freed);
}

/* Where the maintenance thread and the workers get their share of the processors this is never true. */
static bool is_over_capacity(const struct cache_capacity *capacity) {
    size_t limit = capacity->records->settings->capacity;

    return !capacity->stopping && capacity->records->count > capacity->in_use + limit + limit / 8 + ENTRIES_BEYOND;
}

void cache_capacity_wait(struct cache_capacity *capacity, pthread_mutex_t *mutex) {
    uint64_t until_ns = clock_monotonic_ns() + WAIT_NS;
    bool in_time = true;

    while (in_time && is_over_capacity(capacity)) {
        cache_wake_for_sweep(capacity->records->wake); /* only a sweep knows how many are in use */
        in_time = condition_wait_until(&capacity->freed, mutex, until_ns);
    }
}

void cache_capacity_freed(struct cache_capacity *capacity) {
    pthread_cond_broadcast(&capacity->freed);
}

void cache_capacity_set_in_use(struct cache_capacity *capacity, size_t in_use) {
    capacity->in_use = in_use;
    pthread_cond_broadcast(&capacity->freed);
}

void cache_capacity_stop(struct cache_capacity *capacity) {
    capacity->stopping = true;
    pthread_cond_broadcast(&capacity->freed);
}
