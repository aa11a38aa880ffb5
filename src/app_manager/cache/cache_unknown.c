#include "app_manager/cache/cache_unknown.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"

#define FOUND_BITS (UINT64_C(1) << 20)
#define BITS_PER_NAME 2

static const struct token_rate rate = {.limit = UNKNOWN_LIMIT, .window_s = UNKNOWN_WINDOW_S};
static const struct token_rate address_rate = {.limit = UNKNOWN_ADDRESS_LIMIT, .window_s = UNKNOWN_WINDOW_S};

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

/* The buckets are few, so clients of one provider's IPv6 network, a /48, share one: some get all of it to flood from.
 * The hash has a key: nobody can choose whose bucket to empty. */
static struct token_bucket *address_bucket(struct unknown_names *names, enum name_kind kind, uint64_t address) {
    bool ip6 = address >> 48 != 0;
    uint64_t network = ip6 ? address >> 16 : address;

    return &names->addresses[kind]
                            [hash_bytes((struct slice){(const char *)&network, sizeof network}) % UNKNOWN_ADDRESSES];
}

bool unknown_names_admit(struct unknown_names *names, enum name_kind kind, uint64_t address, uint64_t now_ms) {
    struct token_bucket *own = address_bucket(names, kind, address);

    if (token_bucket_take(own, address_rate, 1, now_ms * 1000000)) {
        if (token_bucket_take(&names->all[kind], rate, 1, now_ms * 1000000))
            return true;
        token_bucket_return(own, address_rate, 1);
    }
    names->refused++;
    return false;
}

void unknown_names_return(struct unknown_names *names, enum name_kind kind, uint64_t address) {
    token_bucket_return(address_bucket(names, kind, address), address_rate, 1);
    token_bucket_return(&names->all[kind], rate, 1);
}
