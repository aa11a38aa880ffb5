/*
 * A token bucket for a rate limit: `limit` tokens in a window. A full bucket holds `limit` tokens, an empty one is full
 * again after one window, and it fills continuously.
 *
 * Its whole state is one word: the time at which it is full again (the generic cell rate algorithm). A token moves this
 * time forward by window / limit, and is granted if the time then is within one window from now. All threads may take
 * tokens: the word changes by compare-and-swap, so together they get exactly what one would get, without a lock.
 *
 * The rate is given with each call and is not part of the state, so the limit may change at any time. The bucket keeps
 * its level then: an empty one stays empty, and a full one stays full. For another window, empty it first. A limit of 0
 * is no limit; it takes nothing.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SECOND_IN_NS UINT64_C(1000000000)

/* The wait for more tokens than a full bucket holds. */
#define TOKENS_NEVER UINT64_MAX

/* A zeroed bucket is full. */
struct token_bucket {
    atomic_uint_fast64_t full_ns;
};

struct token_rate {
    uint32_t limit;    /* 0: no limit */
    uint32_t window_s; /* 1 or more */
};

/* The level of a bucket, for those who are refused. */
struct token_level {
    uint32_t tokens;  /* there now */
    uint64_t wait_ns; /* until `cost` tokens are there: 0, a time, or TOKENS_NEVER */
    uint64_t full_ns; /* until the bucket is full */
};

/* Takes `cost` tokens, all or none; false if they are not there. `now_ns` is the monotonic time, which may be that of
 * the turn: an older time only means fewer tokens. Any thread. */
bool token_bucket_take(struct token_bucket *bucket, struct token_rate rate, uint64_t cost, uint64_t now_ns);

/* Gives back what was taken for something that was refused after all. Any thread. */
void token_bucket_return(struct token_bucket *bucket, struct token_rate rate, uint64_t cost);

/* Empties the bucket. Only one thread may use it meanwhile. */
void token_bucket_empty(struct token_bucket *bucket, struct token_rate rate, uint64_t now_ns);

/* Reads the level, with regard to a need of `cost` tokens. Any thread. */
struct token_level token_bucket_level(const struct token_bucket *bucket, struct token_rate rate, uint64_t cost,
                                      uint64_t now_ns);
