#include "base/log_repeats.h"

#include <string.h>

#include "base/hash.h"

static bool is_over(const struct log_repeat *repeat, uint64_t now_ms) {
    return now_ms >= repeat->since_ms + LOG_REPEAT_MS;
}

static uint64_t hash_line(const char *target, struct slice text) {
    return hash_bytes(text) ^ hash_bytes(slice_of(target)) << 1;
}

/* A free entry, or one that has not repeated within its ten seconds; NULL: there is none. */
static struct log_repeat *find_free(struct log_repeats *repeats, uint64_t now_ms) {
    for (size_t i = 0; i < LOG_REPEATS; i++) {
        struct log_repeat *repeat = &repeats->list[i];
        if (repeat->target == NULL || (repeat->count == 0 && is_over(repeat, now_ms)))
            return repeat;
    }
    return NULL;
}

bool log_repeats_admit(struct log_repeats *repeats, const char *target, struct slice text, uint64_t now_ms) {
    uint64_t hash = hash_line(target, text);
    struct log_repeat *repeat;

    for (size_t i = 0; i < LOG_REPEATS; i++) {
        repeat = &repeats->list[i];
        if (repeat->target == NULL || repeat->hash != hash || (repeat->count == 0 && is_over(repeat, now_ms)))
            continue;
        repeat->count++;
        return false;
    }
    repeat = find_free(repeats, now_ms);
    if (repeat == NULL)
        return true;
    repeat->hash = hash;
    repeat->since_ms = now_ms;
    repeat->count = 0;
    repeat->target = target;
    repeat->length = text.length < LOG_REPEAT_TEXT ? text.length : LOG_REPEAT_TEXT;
    memcpy(repeat->text, text.data, repeat->length);
    return true;
}

bool log_repeats_take(struct log_repeats *repeats, uint64_t now_ms, bool ends, struct log_repeat *taken) {
    for (size_t i = 0; i < LOG_REPEATS; i++) {
        struct log_repeat *repeat = &repeats->list[i];
        if (repeat->target == NULL || repeat->count == 0 || (!ends && !is_over(repeat, now_ms)))
            continue;
        *taken = *repeat;
        repeat->since_ms = now_ms; /* the line that tells of them is the first one of the next ten seconds */
        repeat->count = 0;
        return true;
    }
    return false;
}
