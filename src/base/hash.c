/*
 * SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", with one round per word and three at the end).
 * This variant is strong enough for tables: an attacker sees neither the hashes nor the order of a table.
 */
#include "base/hash.h"

#include <string.h>

#include "base/crypto.h"

static uint64_t seed[2];

struct state {
    uint64_t v0, v1, v2, v3;
};

void hash_seed(void) {
    random_bytes(seed, sizeof seed);
}

static inline uint64_t rotate_left(uint64_t word, unsigned bits) {
    return word << bits | word >> (64 - bits);
}

static inline void sip_round(struct state *s) {
    s->v0 += s->v1;
    s->v1 = rotate_left(s->v1, 13) ^ s->v0;
    s->v0 = rotate_left(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate_left(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate_left(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate_left(s->v1, 17) ^ s->v2;
    s->v2 = rotate_left(s->v2, 32);
}

static inline void add_word(struct state *s, uint64_t word) {
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

static inline uint64_t little_endian(uint64_t word) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

uint64_t hash_bytes(struct slice text) {
    struct state s = {
        seed[0] ^ 0x736f6d6570736575u, /* the constants are "somepseudorandomlygeneratedbytes" */
        seed[1] ^ 0x646f72616e646f6du,
        seed[0] ^ 0x6c7967656e657261u,
        seed[1] ^ 0x7465646279746573u,
    };
    size_t whole = text.length - text.length % 8;
    uint64_t word;

    for (size_t at = 0; at < whole; at += 8) {
        memcpy(&word, text.data + at, sizeof word);
        add_word(&s, little_endian(word));
    }
    word = 0;
    if (whole != text.length)
        memcpy(&word, text.data + whole, text.length - whole);
    add_word(&s, little_endian(word) | (uint64_t)text.length << 56);
    s.v2 ^= 0xFF;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
