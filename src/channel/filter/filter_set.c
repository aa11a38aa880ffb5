#include "channel/filter/filter_set.h"

#include <stdlib.h>

#include "base/hash.h"

#define BUCKETS_LEAST 16

struct filter {
    struct filter *next; /* in the bucket */
    uint64_t hash;
    struct budget_app *owner;
    uint32_t references;
    uint32_t uses; /* subscriptions that have it */
    uint32_t work; /* filter_work */
    uint32_t length;
    struct filter_answer {
        uint64_t asked; /* what was asked last, and what the answer was */
        bool passed;
    } answers[FILTER_QUESTIONS];
    char program[]; /* the name of the channel follows */
};

/* --- the table --- */

/* The filter's memory in the account, with its part of the table. */
static size_t filter_bytes(const struct filter *filter) {
    return alloc_footprint(sizeof *filter + filter->length) + 2 * sizeof filter->next;
}

static struct slice filter_program(const struct filter *filter) {
    return (struct slice){filter->program, filter->length};
}

static struct filter **filter_bucket(const struct filter_set *set, uint64_t hash) {
    return &set->buckets[hash & (set->bucket_count - 1)];
}

static void resize_filters(struct filter_set *set, uint32_t bucket_count) {
    struct filter_set resized = *set;

    resized.bucket_count = bucket_count;
    resized.buckets = alloc_zero(bucket_count * sizeof(struct filter *));
    for (uint32_t i = 0; i < set->bucket_count; i++) {
        for (struct filter *filter = set->buckets[i], *next; filter != NULL; filter = next) {
            struct filter **bucket = filter_bucket(&resized, filter->hash);
            next = filter->next;
            filter->next = *bucket;
            *bucket = filter;
        }
    }
    free(set->buckets);
    *set = resized;
}

static void link_filter(struct filter_set *set, struct filter *filter) {
    struct filter **bucket;

    if (set->count == set->bucket_count)
        resize_filters(set, set->bucket_count != 0 ? 2 * set->bucket_count : BUCKETS_LEAST);
    bucket = filter_bucket(set, filter->hash);
    filter->next = *bucket;
    *bucket = filter;
    set->count++;
}

static void unlink_filter(struct filter_set *set, struct filter *filter) {
    struct filter **link = filter_bucket(set, filter->hash);

    while (*link != filter)
        link = &(*link)->next;
    *link = filter->next;
    set->count--;
    if (set->count == 0) {
        free(set->buckets);
        set->buckets = NULL;
        set->bucket_count = 0;
    } else if (set->bucket_count > BUCKETS_LEAST && set->count < set->bucket_count / 4) {
        resize_filters(set, set->bucket_count / 2);
    }
}

/* --- filters --- */

/* Apps that use the same filter have it in different buckets. */
static uint64_t hash_filter(struct slice program, const struct budget_app *owner) {
    return hash_bytes(program) ^ hash_bytes((struct slice){(const char *)&owner, sizeof owner});
}

static struct filter *find_filter(const struct filter_set *set, const struct budget_app *owner, struct slice program,
                                  uint64_t hash) {
    struct filter *filter = set->count != 0 ? *filter_bucket(set, hash) : NULL;

    while (filter != NULL &&
           !(filter->hash == hash && filter->owner == owner && slice_equal(filter_program(filter), program)))
        filter = filter->next;
    return filter;
}

/* Makes a filter of a program and a channel's name, without references; NULL if there is no room for it. */
static struct filter *create_filter(struct budget_app *owner, struct slice program, uint64_t hash) {
    struct filter *filter = malloc(sizeof *filter + program.length);

    if (filter == NULL)
        return NULL;
    *filter = (struct filter){
        .hash = hash, .owner = owner, .work = (uint32_t)filter_work(program), .length = (uint32_t)program.length};
    memcpy(filter->program, program.data, program.length);
    if (budget_take(BUDGET_CHANNELS, owner, filter_bytes(filter)))
        return filter;
    free(filter);
    return NULL;
}

enum filter_result filter_intern(struct filter_set *set, struct budget_app *owner, struct slice channel,
                                 struct json_value json, struct filter **filter, struct error *error) {
    enum filter_result result = FILTER_REFUSED;
    struct buffer program = {0};
    uint64_t hash;

    if (filter_compile(json, &program, error)) {
        buffer_append(&program, channel);
        hash = hash_filter(buffer_slice(&program), owner);
        *filter = find_filter(set, owner, buffer_slice(&program), hash);
        if (*filter == NULL && (*filter = create_filter(owner, buffer_slice(&program), hash)) != NULL)
            link_filter(set, *filter);
        result = *filter != NULL ? FILTER_READY : FILTER_NO_MEMORY;
        if (*filter != NULL)
            (*filter)->references++;
    }
    buffer_dispose(&program);
    return result;
}

void filter_release(struct filter_set *set, struct filter *filter) {
    if (filter == NULL || --filter->references != 0)
        return;
    unlink_filter(set, filter);
    budget_give(BUDGET_CHANNELS, filter->owner, filter_bytes(filter));
    free(filter);
}

/* --- the work of a channel's filters --- */

size_t filter_work_of_first(const struct filter *filter) {
    return filter != NULL && filter->uses == 0 ? filter->work : 0;
}

size_t filter_work_of_last(const struct filter *filter) {
    return filter != NULL && filter->uses == 1 ? filter->work : 0;
}

void filter_count_use(struct filter *filter, int change) {
    if (filter != NULL)
        filter->uses += (uint32_t)change;
}

/* --- events --- */

void filter_ask(struct filter_set *set) {
    set->asked++;
    set->work = 0;
}

bool filter_passes(struct filter_set *set, struct filter *filter, enum filter_question question,
                   const struct tags *tags) {
    struct filter_answer *answer = &filter->answers[question];

    if (answer->asked != set->asked) {
        *answer = (struct filter_answer){set->asked, filter_evaluate(filter_program(filter), tags)};
        set->work += filter->work;
    }
    return answer->passed;
}
