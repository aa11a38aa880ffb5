#include "session/origin_set.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"

#define CAPACITY_LEAST 16

static struct origin **bucket_of_origin(const struct origin_set *set, uint64_t hash) {
    return &set->buckets[hash & (set->capacity - 1)];
}

static void grow_origins(struct origin_set *set) {
    struct origin_set larger = {.capacity = set->capacity != 0 ? 2 * set->capacity : CAPACITY_LEAST};

    larger.buckets = alloc_zero(larger.capacity * sizeof larger.buckets[0]);
    for (uint32_t i = 0; i < set->capacity; i++) {
        while (set->buckets[i] != NULL) {
            struct origin *origin = set->buckets[i], **bucket = bucket_of_origin(&larger, origin->hash);
            set->buckets[i] = origin->next;
            origin->next = *bucket;
            *bucket = origin;
        }
    }
    larger.count = set->count;
    free(set->buckets);
    *set = larger;
}

struct origin *origin_set_take(struct origin_set *set, struct slice text) {
    struct slice kept = text.length <= ORIGIN_MAX_BYTES ? text : SLICE("null");
    uint64_t hash = hash_bytes(kept);
    struct origin *origin, **bucket;

    if (set->count >= set->capacity)
        grow_origins(set);
    bucket = bucket_of_origin(set, hash);
    for (origin = *bucket; origin != NULL; origin = origin->next) {
        if (origin->hash == hash && slice_equal(origin_text(origin), kept)) {
            origin->references++;
            return origin;
        }
    }
    origin = alloc(sizeof *origin + kept.length);
    *origin = (struct origin){.next = *bucket, .hash = hash, .references = 1, .length = (uint32_t)kept.length};
    memcpy(origin->text, kept.data, kept.length);
    *bucket = origin;
    set->count++;
    return origin;
}

void origin_set_release(struct origin_set *set, struct origin *origin) {
    struct origin **link;

    if (origin == NULL || --origin->references != 0)
        return;
    link = bucket_of_origin(set, origin->hash);
    while (*link != origin)
        link = &(*link)->next;
    *link = origin->next;
    free(origin);
    if (--set->count == 0) {
        free(set->buckets);
        *set = (struct origin_set){0};
    }
}
