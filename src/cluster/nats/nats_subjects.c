#include "cluster/nats/nats_subjects.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"

#define NATS_SUBJECT_PLACES 65536

struct nats_subjects {
    struct nats_subject *places[NATS_SUBJECT_PLACES];
};

struct nats_subjects *nats_subjects_create(void) {
    return alloc_zero(sizeof(struct nats_subjects));
}

void nats_subjects_destroy(struct nats_subjects *subjects, void (*dispose)(struct nats_subject *subject, void *context),
                           void *context) {
    for (size_t i = 0; i < NATS_SUBJECT_PLACES; i++)
        for (struct nats_subject *subject = subjects->places[i], *next; subject != NULL; subject = next) {
            next = subject->next;
            dispose(subject, context);
        }
    free(subjects);
}

static struct nats_subject **find_subject_place(struct nats_subjects *subjects, struct slice text) {
    struct nats_subject **at = &subjects->places[hash_bytes(text) % NATS_SUBJECT_PLACES];

    while (*at != NULL && !slice_equal(nats_subject_text(*at), text))
        at = &(*at)->next;
    return at;
}

struct nats_subject *nats_subjects_find(const struct nats_subjects *subjects, struct slice text) {
    return *find_subject_place((struct nats_subjects *)subjects, text);
}

struct nats_subject *nats_subjects_add(struct nats_subjects *subjects, struct slice text) {
    struct nats_subject *subject = alloc_zero(sizeof *subject + text.length + 1);

    memcpy(subject->text, text.data, text.length);
    subject->length = text.length;
    subject->interest.subject = subject->text;
    list_init(&subject->asked_place);
    *find_subject_place(subjects, text) = subject;
    return subject;
}

void nats_subjects_remove(struct nats_subjects *subjects, struct nats_subject *subject) {
    *find_subject_place(subjects, nats_subject_text(subject)) = subject->next;
    list_remove(&subject->asked_place);
}

bool nats_subjects_visit(const struct nats_subjects *subjects, size_t *at, size_t count,
                         void (*visit)(struct nats_subject *subject, void *context), void *context) {
    size_t visited = 0;

    for (; *at < NATS_SUBJECT_PLACES && visited < count; (*at)++)
        for (struct nats_subject *subject = subjects->places[*at]; subject != NULL; subject = subject->next, visited++)
            visit(subject, context);
    return *at < NATS_SUBJECT_PLACES;
}
