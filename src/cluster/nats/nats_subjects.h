/*
 * The subjects that a bus on NATS is subscribed to: a hash table, and the order in which the server was asked for them.
 *
 * The table has a fixed number of places, so that no turn pays for its growth. For the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "cluster/nats/nats_link.h"

struct nats_subject {
    struct nats_subject *next; /* in its place of the table */
    struct list asked_place;   /* in the list of those that are asked for and not in force */
    uint64_t link;             /* that was asked; 0: none yet */
    uint64_t number;           /* of the flush after which it is in force */
    struct nats_interest interest;
    size_t length;
    char text[];
};

struct nats_subjects;

struct nats_subjects *nats_subjects_create(void);
/* Calls `dispose`, which frees it, for each subject. */
void nats_subjects_destroy(struct nats_subjects *subjects, void (*dispose)(struct nats_subject *subject, void *context),
                           void *context);

struct nats_subject *nats_subjects_find(const struct nats_subjects *subjects, struct slice text);
/* Adds a subject that is not there. */
struct nats_subject *nats_subjects_add(struct nats_subjects *subjects, struct slice text);
/* Takes it out of the table and of the list of those that were asked for; the caller frees it. */
void nats_subjects_remove(struct nats_subjects *subjects, struct nats_subject *subject);

/*
 * Visits about `count` subjects from the place `*at` on, which is 0 at first, and moves it; false when all have been
 * visited. `visit` must not add or remove. Few subjects are visited in one call: those of one flush come in force
 * together, and none of them after the ones by which this node says that it is back.
 */
bool nats_subjects_visit(const struct nats_subjects *subjects, size_t *at, size_t count,
                         void (*visit)(struct nats_subject *subject, void *context), void *context);

static inline struct slice nats_subject_text(const struct nats_subject *subject) {
    return (struct slice){subject->text, subject->length};
}
