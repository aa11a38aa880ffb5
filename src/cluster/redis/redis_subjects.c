#include "cluster/redis/redis_subjects.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"

#define PART_CAPACITY_FIRST 4

/* The part by the highest bits, the bucket by the lowest. */
static struct redis_subjects_part *part_of_subject(const struct redis_subjects *subjects, uint64_t hash) {
    return (struct redis_subjects_part *)&subjects->parts[hash >> 56];
}

static struct redis_subject **bucket_of_subject(const struct redis_subjects_part *part, uint64_t hash) {
    return &part->buckets[hash & (part->capacity - 1)];
}

void redis_subjects_dispose(struct redis_subjects *subjects) {
    for (size_t i = 0; i < REDIS_SUBJECT_PARTS; i++) {
        struct redis_subjects_part *part = &subjects->parts[i];
        for (size_t at = 0; at < part->capacity; at++)
            while (part->buckets[at] != NULL) {
                struct redis_subject *next = part->buckets[at]->next;
                free(part->buckets[at]);
                part->buckets[at] = next;
            }
        free(part->buckets);
    }
    *subjects = (struct redis_subjects){0};
}

struct redis_subject *redis_subjects_find(const struct redis_subjects *subjects, struct slice text) {
    uint64_t hash = hash_bytes(text);
    const struct redis_subjects_part *part = part_of_subject(subjects, hash);
    struct redis_subject *subject = part->capacity > 0 ? *bucket_of_subject(part, hash) : NULL;

    while (subject != NULL && (subject->hash != hash || !slice_equal(redis_subject_text(subject), text)))
        subject = subject->next;
    return subject;
}

static void put_subject(struct redis_subjects_part *part, struct redis_subject *subject) {
    struct redis_subject **bucket = bucket_of_subject(part, subject->hash);

    subject->next = *bucket;
    *bucket = subject;
}

static void grow_subjects_part(struct redis_subjects_part *part) {
    struct redis_subjects_part grown = {.count = part->count,
                                        .capacity = part->capacity > 0 ? part->capacity * 2 : PART_CAPACITY_FIRST};

    grown.buckets = alloc_zero(grown.capacity * sizeof(struct redis_subject *));
    for (size_t at = 0; at < part->capacity; at++)
        while (part->buckets[at] != NULL) {
            struct redis_subject *subject = part->buckets[at];
            part->buckets[at] = subject->next;
            put_subject(&grown, subject);
        }
    free(part->buckets);
    *part = grown;
}

struct redis_subject *redis_subjects_add(struct redis_subjects *subjects, struct slice text) {
    struct redis_subject *subject = alloc(sizeof *subject + text.length);
    struct redis_subjects_part *part;

    *subject = (struct redis_subject){.hash = hash_bytes(text), .length = (uint16_t)text.length};
    memcpy(subject->text, text.data, text.length);
    part = part_of_subject(subjects, subject->hash);
    if (part->count >= part->capacity)
        grow_subjects_part(part);
    put_subject(part, subject);
    part->count++;
    subjects->count++;
    return subject;
}

void redis_subjects_remove(struct redis_subjects *subjects, struct redis_subject *subject) {
    struct redis_subjects_part *part = part_of_subject(subjects, subject->hash);
    struct redis_subject **at = bucket_of_subject(part, subject->hash);

    while (*at != subject)
        at = &(*at)->next;
    *at = subject->next;
    part->count--;
    subjects->count--;
    list_remove(&subject->link);
    free(subject);
}
