/*
 * A hash table of structures that embed a link (an intrusive table), which grows and shrinks by one bucket for each
 * link (linear hashing), so that no step moves them all. Not thread-safe.
 */
#pragma once

#include <stdint.h>

struct hash_link {
    struct hash_link *next;
    uint64_t hash;
};

struct hash_index {
    struct hash_link **buckets;
    uint32_t capacity;     /* of the array, a power of two */
    uint32_t bucket_count; /* in use */
    uint32_t count;        /* links */
};

void hash_index_init(struct hash_index *index);
/* Frees the array; the links belong to their owners. */
void hash_index_dispose(struct hash_index *index);

/* Adds a link, whose `hash` is set. */
void hash_index_add(struct hash_index *index, struct hash_link *link);
void hash_index_remove(struct hash_index *index, struct hash_link *link);

/* The first link of the bucket where links with the hash are, NULL if it is empty: go on with `next`. */
struct hash_link *hash_index_bucket(const struct hash_index *index, uint64_t hash);
