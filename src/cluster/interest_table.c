#include "cluster/interest_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "cluster/message.h"

#define INDEX_CAPACITY_LEAST 64

/* --- an index: which link and which hash of an interest it is about, is told by `by_channel` --- */

static struct interest **next_in_index(struct interest *interest, bool by_channel) {
    return by_channel ? &interest->next_by_channel : &interest->next_by_subject;
}

static uint64_t hash_in_index(const struct interest *interest, bool by_channel) {
    return by_channel ? interest->channel_hash : interest->subject_hash;
}

/* With `count` buckets those before count - capacity / 2 are split, if capacity / 2 < count <= capacity. */
static uint32_t bucket_in_index(const struct interest_index *index, uint64_t hash) {
    uint32_t bucket = (uint32_t)hash & (index->capacity - 1);

    return bucket < index->count ? bucket : bucket & (index->capacity / 2 - 1);
}

static void init_index(struct interest_index *index) {
    index->capacity = INDEX_CAPACITY_LEAST;
    index->count = INDEX_CAPACITY_LEAST;
    index->buckets = alloc_zero(INDEX_CAPACITY_LEAST * sizeof index->buckets[0]);
}

/* Adds a bucket, and moves what belongs into it from the bucket that it splits. */
static void split_bucket(struct interest_index *index, bool by_channel) {
    struct interest *interest, **from, **to;

    if (index->count == index->capacity) {
        index->buckets = alloc_array(index->buckets, (size_t)index->capacity * 2, sizeof index->buckets[0]);
        index->capacity *= 2;
    }
    from = &index->buckets[index->count - index->capacity / 2];
    to = &index->buckets[index->count++];
    interest = *from;
    *from = *to = NULL;
    while (interest != NULL) {
        struct interest **next = next_in_index(interest, by_channel), *following = *next;
        struct interest **bucket = &index->buckets[bucket_in_index(index, hash_in_index(interest, by_channel))];
        *next = *bucket;
        *bucket = interest;
        interest = following;
    }
}

/* Joins the last bucket with the one that it was split from. */
static void join_bucket(struct interest_index *index, bool by_channel) {
    struct interest **last = &index->buckets[--index->count];
    struct interest **into = &index->buckets[index->count - index->capacity / 2];

    while (*last != NULL) {
        struct interest *interest = *last, **next = next_in_index(interest, by_channel);
        *last = *next;
        *next = *into;
        *into = interest;
    }
    if (index->count == index->capacity / 2) {
        index->capacity /= 2;
        index->buckets = alloc_array(index->buckets, index->capacity, sizeof index->buckets[0]);
    }
}

static void add_to_index(struct interest_index *index, struct interest *interest, bool by_channel) {
    struct interest **bucket = &index->buckets[bucket_in_index(index, hash_in_index(interest, by_channel))];

    *next_in_index(interest, by_channel) = *bucket;
    *bucket = interest;
}

static void remove_from_index(struct interest_index *index, struct interest *interest, bool by_channel) {
    struct interest **link = &index->buckets[bucket_in_index(index, hash_in_index(interest, by_channel))];

    while (*link != interest)
        link = next_in_index(*link, by_channel);
    *link = *next_in_index(interest, by_channel);
}

/* --- the table --- */

void interest_table_init(struct interest_table *table) {
    *table = (struct interest_table){0};
    init_index(&table->by_subject);
    init_index(&table->by_channel);
    list_init(&table->all);
}

void interest_table_dispose(struct interest_table *table) {
    free(table->by_subject.buckets);
    free(table->by_channel.buckets);
}

/* The memory of an interest beside its channel's, with its buckets. */
static size_t interest_bytes(const struct interest *interest) {
    return alloc_footprint((size_t)interest->subject_length + interest->app_length) + 4 * sizeof(struct interest *);
}

void interest_table_add(struct interest_table *table, struct interest *interest, struct slice subject,
                        struct slice app) {
    interest->text = alloc(subject.length + app.length);
    memcpy(interest->text, subject.data, subject.length);
    memcpy(interest->text + subject.length, app.data, app.length);
    interest->subject_length = (uint32_t)subject.length;
    interest->app_length = (uint32_t)app.length;
    interest->subject_hash = hash_bytes(subject);
    interest->channel_hash = message_channel_hash(app, channel_name(interest->channel));
    budget_add(BUDGET_CHANNELS, NULL, interest_bytes(interest));
    if (++table->count > table->by_subject.count) {
        split_bucket(&table->by_subject, false);
        split_bucket(&table->by_channel, true);
    }
    add_to_index(&table->by_subject, interest, false);
    add_to_index(&table->by_channel, interest, true);
    list_append(&table->all, &interest->link);
}

void interest_table_remove(struct interest_table *table, struct interest *interest) {
    list_remove(&interest->link);
    remove_from_index(&table->by_subject, interest, false);
    remove_from_index(&table->by_channel, interest, true);
    if (--table->count < table->by_subject.count && table->by_subject.count > INDEX_CAPACITY_LEAST) {
        join_bucket(&table->by_subject, false);
        join_bucket(&table->by_channel, true);
    }
    budget_give(BUDGET_CHANNELS, NULL, interest_bytes(interest));
    free(interest->text);
    interest->text = NULL;
}

struct interest *interest_find_by_subject(const struct interest_table *table, struct slice subject) {
    const struct interest_index *index = &table->by_subject;
    uint64_t hash = hash_bytes(subject);
    struct interest *interest = index->buckets[bucket_in_index(index, hash)];

    while (interest != NULL && !(interest->subject_hash == hash && slice_equal(interest_subject(interest), subject)))
        interest = interest->next_by_subject;
    return interest;
}

struct interest *interest_find_by_channel(const struct interest_table *table, uint64_t channel_hash) {
    const struct interest_index *index = &table->by_channel;
    struct interest *interest = index->buckets[bucket_in_index(index, channel_hash)];

    while (interest != NULL && interest->channel_hash != channel_hash)
        interest = interest->next_by_channel;
    return interest;
}
