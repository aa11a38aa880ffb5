#include "app_manager/cache/cache_unknown.h"

#include <stdlib.h>

#include "base/alloc.h"

#define FOUND_BITS (UINT64_C(1) << 20)
#define BITS_PER_NAME 2

static const struct token_rate rate = {.limit = UNKNOWN_LIMIT, .window_s = UNKNOWN_WINDOW_S};

void unknown_names_init(struct unknown_names *names) {
    *names = (struct unknown_names){.found = alloc_zero(FOUND_BITS / 8)};
}

void unknown_names_dispose(struct unknown_names *names) {
    free(names->found);
}

/* Each bit is chosen by 32 bits of the hash. */
static uint64_t bit_of(uint64_t hash, unsigned which) {
    return (hash >> (32 * which)) % FOUND_BITS;
}

void unknown_names_found(struct unknown_names *names, uint64_t hash) {
    for (unsigned i = 0; i < BITS_PER_NAME; i++)
        names->found[bit_of(hash, i) / 64] |= UINT64_C(1) << bit_of(hash, i) % 64;
}

bool unknown_names_was_found(const struct unknown_names *names, uint64_t hash) {
    bool found = true;

    for (unsigned i = 0; i < BITS_PER_NAME; i++)
        found = found && (names->found[bit_of(hash, i) / 64] >> bit_of(hash, i) % 64 & 1) != 0;
    return found;
}

bool unknown_names_admit(struct unknown_names *names, enum name_kind kind, uint64_t now_ms) {
    if (token_bucket_take(&names->buckets[kind], rate, 1, now_ms * 1000000))
        return true;
    names->refused++;
    return false;
}

void unknown_names_return(struct unknown_names *names, enum name_kind kind) {
    token_bucket_return(&names->buckets[kind], rate, 1);
}
