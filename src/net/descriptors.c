#include "net/descriptors.h"

#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"

#define LOG_INTERVAL_S 60

void descriptors_init(struct descriptor_bounds *bounds, unsigned workers) {
    bounds->workers = workers;
    bounds->process = 0;
    atomic_init(&bounds->websockets, DESCRIPTORS_NO_BOUND);
    atomic_init(&bounds->requests, DESCRIPTORS_NO_BOUND);
    atomic_init(&bounds->operators, DESCRIPTORS_NO_BOUND);
    atomic_init(&bounds->logged_at_s, 0);
}

static uint64_t smaller_count(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static void set_bounds(struct descriptor_bounds *bounds, int websockets, int requests, int operators) {
    atomic_store_explicit(&bounds->websockets, websockets, memory_order_relaxed);
    atomic_store_explicit(&bounds->requests, requests, memory_order_relaxed);
    atomic_store_explicit(&bounds->operators, operators, memory_order_relaxed);
}

void descriptors_apply_limit(struct descriptor_bounds *bounds, uint64_t limit) {
    uint64_t kept = limit / 4; /* at most, for requests, and for the others together */
    uint64_t requests, operators, process;

    if (limit >= DESCRIPTORS_NO_BOUND) {
        set_bounds(bounds, DESCRIPTORS_NO_BOUND, DESCRIPTORS_NO_BOUND, DESCRIPTORS_NO_BOUND);
        return;
    }
    requests = smaller_count(limit / DESCRIPTORS_REQUESTS_SHARE, DESCRIPTORS_REQUESTS_MOST);
    if (requests < DESCRIPTORS_REQUESTS_LEAST)
        requests = DESCRIPTORS_REQUESTS_LEAST;
    requests = smaller_count(requests, kept);
    operators = smaller_count(DESCRIPTORS_OPERATORS + bounds->workers, kept / 2);
    process = smaller_count(bounds->process, kept - operators);
    set_bounds(bounds, (int)(limit - process - operators - requests), (int)(limit - process - operators),
               (int)(limit - process));
}

void descriptors_read_limit(struct descriptor_bounds *bounds) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        descriptors_apply_limit(bounds, limit.rlim_cur);
}

void descriptors_log_shortage(struct descriptor_bounds *bounds, const char *text) {
    unsigned now_s = (unsigned)(clock_monotonic_ms() / 1000) + 1;
    unsigned logged_s = atomic_load_explicit(&bounds->logged_at_s, memory_order_relaxed);

    if (logged_s != 0 && now_s - logged_s < LOG_INTERVAL_S)
        return;
    if (atomic_compare_exchange_strong(&bounds->logged_at_s, &logged_s, now_s))
        log_warning("net",
                    "file descriptors are short: %s (the limit on open files is `ulimit -n`, LimitNOFILE= of "
                    "systemd)",
                    text);
}
