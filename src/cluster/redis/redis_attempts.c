#include "cluster/redis/redis_attempts.h"

#include "base/backoff.h"

/* The first attempt is generous, since nothing else can be done meanwhile. */
#define FIRST_ATTEMPT_MS 5000

#define PAUSE_FIRST_MS 100
#define PAUSE_LAST_MS 1000

/* The pause grows until the owner was up for this long. */
#define STEADY_MS 5000

uint64_t redis_attempts_begin(struct redis_attempts *attempts, uint64_t now_ms) {
    uint64_t timeout_ms = attempts->first_over ? REDIS_ATTEMPT_MS : FIRST_ATTEMPT_MS;

    attempts->ends_ms = now_ms + timeout_ms;
    return timeout_ms;
}

uint64_t redis_attempts_left_ms(const struct redis_attempts *attempts, uint64_t now_ms) {
    return attempts->ends_ms > now_ms ? attempts->ends_ms - now_ms : 0;
}

void redis_attempts_succeed(struct redis_attempts *attempts, uint64_t now_ms) {
    attempts->first_over = true;
    attempts->told_down = false;
    attempts->up_since_ms = now_ms;
}

uint32_t redis_attempts_fail(struct redis_attempts *attempts, uint64_t now_ms, bool was_up) {
    attempts->first_over = true;
    if (was_up && now_ms - attempts->up_since_ms >= STEADY_MS)
        attempts->pause_ms = 0;
    attempts->pause_ms = backoff_next_ms(attempts->pause_ms, PAUSE_FIRST_MS, PAUSE_LAST_MS);
    return backoff_spread_ms(attempts->pause_ms);
}

bool redis_attempts_tell_down(struct redis_attempts *attempts) {
    bool first = !attempts->told_down;

    attempts->told_down = true;
    return first;
}
