/*
 * The subjects of a subscriber, found by name: a hash table in 256 parts, each of which grows by itself, so that no
 * turn of the loop moves all of them. For one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"

#define REDIS_SUBJECT_PARTS 256

/* A subject that is subscribed to, or was until now. The members are for redis_subscriber.c. */
struct redis_subject {
    struct redis_subject *next; /* in its bucket */
    uint64_t hash;
    struct list link;    /* of those with something to send, or of the others */
    uint32_t epoch;      /* the connection that the next three are about; another one: none of them holds */
    uint32_t unanswered; /* commands without confirmation */
    bool on_server;      /* the last command was SUBSCRIBE */
    bool in_force;
    bool wanted;  /* not ended */
    bool pending; /* listed with something to send */
    uint16_t length;
    char text[];
};

struct redis_subjects {
    struct redis_subjects_part {
        struct redis_subject **buckets;
        size_t count, capacity;
    } parts[REDIS_SUBJECT_PARTS];
    size_t count;
};

/* Frees the table with all subjects in it. Zeroed is empty. */
void redis_subjects_dispose(struct redis_subjects *subjects);

/* Finds a subject; NULL: there is none. */
struct redis_subject *redis_subjects_find(const struct redis_subjects *subjects, struct slice text);

/* Adds a subject that is not in the table; `text` has at most 65535 bytes. */
struct redis_subject *redis_subjects_add(struct redis_subjects *subjects, struct slice text);

/* Removes and frees a subject. */
void redis_subjects_remove(struct redis_subjects *subjects, struct redis_subject *subject);

static inline struct slice redis_subject_text(const struct redis_subject *subject) {
    return (struct slice){subject->text, subject->length};
}
