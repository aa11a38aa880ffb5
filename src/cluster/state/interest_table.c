#include "cluster/state/interest_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "cluster/message/message.h"

void interest_table_init(struct interest_table *table) {
    *table = (struct interest_table){0};
    hash_index_init(&table->by_subject);
    hash_index_init(&table->by_channel);
    list_init(&table->all);
}

void interest_table_dispose(struct interest_table *table) {
    hash_index_dispose(&table->by_subject);
    hash_index_dispose(&table->by_channel);
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
    interest->by_subject.hash = hash_bytes(subject);
    interest->channel_hash = message_channel_hash(app, channel_name(interest->channel));
    interest->by_channel.hash = interest->channel_hash;
    budget_add(BUDGET_CHANNELS, NULL, interest_bytes(interest));
    table->count++;
    hash_index_add(&table->by_subject, &interest->by_subject);
    hash_index_add(&table->by_channel, &interest->by_channel);
    list_append(&table->all, &interest->link);
}

void interest_table_remove(struct interest_table *table, struct interest *interest) {
    list_remove(&interest->link);
    hash_index_remove(&table->by_subject, &interest->by_subject);
    hash_index_remove(&table->by_channel, &interest->by_channel);
    table->count--;
    budget_give(BUDGET_CHANNELS, NULL, interest_bytes(interest));
    free(interest->text);
    interest->text = NULL;
}

struct interest *interest_find_by_subject(const struct interest_table *table, struct slice subject) {
    uint64_t hash = hash_bytes(subject);

    for (struct hash_link *link = hash_index_bucket(&table->by_subject, hash); link != NULL; link = link->next) {
        struct interest *interest = container_of(link, struct interest, by_subject);

        if (link->hash == hash && slice_equal(interest_subject(interest), subject))
            return interest;
    }
    return NULL;
}

struct interest *interest_find_by_channel(const struct interest_table *table, uint64_t channel_hash) {
    struct hash_link *link = hash_index_bucket(&table->by_channel, channel_hash);

    while (link != NULL && link->hash != channel_hash)
        link = link->next;
    return link != NULL ? container_of(link, struct interest, by_channel) : NULL;
}
