#include "base/hash_index.h"

#include <stdlib.h>

#include "base/alloc.h"

#define FEWEST_BUCKETS 64

void hash_index_init(struct hash_index *index) {
    index->capacity = index->bucket_count = FEWEST_BUCKETS;
    index->count = 0;
    index->buckets = alloc_zero(FEWEST_BUCKETS * sizeof index->buckets[0]);
}

void hash_index_dispose(struct hash_index *index) {
    free(index->buckets);
    *index = (struct hash_index){0};
}

/* More than half of the capacity is in use: the buckets of the upper half that are not are still in the lower one. */
static struct hash_link **hash_bucket_of(const struct hash_index *index, uint64_t hash) {
    uint32_t bucket = (uint32_t)hash & (index->capacity - 1);

    return &index->buckets[bucket < index->bucket_count ? bucket : bucket & (index->capacity / 2 - 1)];
}

static void push_link(struct hash_link **bucket, struct hash_link *link) {
    link->next = *bucket;
    *bucket = link;
}

/* Adds a bucket, and moves what belongs into it from the bucket that it splits. */
static void add_bucket(struct hash_index *index) {
    struct hash_link **from, *link;

    if (index->bucket_count == index->capacity) {
        index->capacity *= 2;
        index->buckets = alloc_array(index->buckets, index->capacity, sizeof index->buckets[0]);
    }
    from = &index->buckets[index->bucket_count - index->capacity / 2];
    index->buckets[index->bucket_count++] = NULL;
    link = *from;
    *from = NULL;
    while (link != NULL) {
        struct hash_link *next = link->next;

        push_link(hash_bucket_of(index, link->hash), link);
        link = next;
    }
}

/* Joins the last bucket with the one that it was split from. */
static void drop_bucket(struct hash_index *index) {
    struct hash_link *link = index->buckets[--index->bucket_count];
    struct hash_link **into = &index->buckets[index->bucket_count - index->capacity / 2];

    while (link != NULL) {
        struct hash_link *next = link->next;

        push_link(into, link);
        link = next;
    }
    if (index->bucket_count == index->capacity / 2) {
        index->capacity /= 2;
        index->buckets = alloc_array(index->buckets, index->capacity, sizeof index->buckets[0]);
    }
}

void hash_index_add(struct hash_index *index, struct hash_link *link) {
    if (++index->count > index->bucket_count)
        add_bucket(index);
    push_link(hash_bucket_of(index, link->hash), link);
}

void hash_index_remove(struct hash_index *index, struct hash_link *link) {
    struct hash_link **at = hash_bucket_of(index, link->hash);

    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    if (--index->count < index->bucket_count && index->bucket_count > FEWEST_BUCKETS)
        drop_bucket(index);
}

struct hash_link *hash_index_bucket(const struct hash_index *index, uint64_t hash) {
    return *hash_bucket_of(index, hash);
}
