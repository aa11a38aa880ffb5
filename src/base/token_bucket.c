#include "base/token_bucket.h"

/* The time in which a bucket gains one token. Rounded up, so that a window never allows one token too many. */
static uint64_t token_ns(struct token_rate rate) {
    return (rate.window_s * SECOND_IN_NS + rate.limit - 1) / rate.limit;
}

/* The time from `now_ns` until the bucket is full, at most that of an empty one: it is rounded differently for each
 * limit. */
static uint64_t time_until_full(uint64_t full_ns, uint64_t empty_ns, uint64_t now_ns) {
    if (full_ns <= now_ns)
        return 0;
    return full_ns - now_ns < empty_ns ? full_ns - now_ns : empty_ns;
}

bool token_bucket_take(struct token_bucket *bucket, struct token_rate rate, uint64_t cost, uint64_t now_ns) {
    uint_fast64_t full_ns = atomic_load_explicit(&bucket->full_ns, memory_order_relaxed);
    uint64_t each_ns, empty_ns, left_ns;

    if (rate.limit == 0 || cost == 0)
        return true;
    if (cost > rate.limit)
        return false;
    each_ns = token_ns(rate);
    empty_ns = each_ns * rate.limit;
    do {
        left_ns = time_until_full(full_ns, empty_ns, now_ns);
        if (left_ns + cost * each_ns > empty_ns)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&bucket->full_ns, &full_ns, now_ns + left_ns + cost * each_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void token_bucket_return(struct token_bucket *bucket, struct token_rate rate, uint64_t cost) {
    if (rate.limit != 0)
        atomic_fetch_sub_explicit(&bucket->full_ns, cost * token_ns(rate), memory_order_relaxed);
}

void token_bucket_empty(struct token_bucket *bucket, struct token_rate rate, uint64_t now_ns) {
    atomic_store_explicit(&bucket->full_ns, now_ns + rate.window_s * SECOND_IN_NS, memory_order_relaxed);
}

struct token_level token_bucket_level(const struct token_bucket *bucket, struct token_rate rate, uint64_t cost,
                                      uint64_t now_ns) {
    uint_fast64_t full_ns = atomic_load_explicit(&bucket->full_ns, memory_order_relaxed);
    struct token_level level = {.tokens = UINT32_MAX};
    uint64_t each_ns, empty_ns;

    if (rate.limit == 0)
        return level;
    each_ns = token_ns(rate);
    empty_ns = each_ns * rate.limit;
    level.full_ns = time_until_full(full_ns, empty_ns, now_ns);
    level.tokens = (uint32_t)((empty_ns - level.full_ns) / each_ns);
    if (cost > rate.limit)
        level.wait_ns = TOKENS_NEVER;
    else if (cost > level.tokens)
        level.wait_ns = level.full_ns + cost * each_ns - empty_ns;
    return level;
}
