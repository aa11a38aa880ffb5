#include "channel/delta_state.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"

#define FIRST_BUCKETS 8

static struct channel_table *table_create(void) {
    struct channel_table *table = alloc_zero(sizeof *table);

    for (unsigned i = 0; i < CHANNEL_SHARDS; i++) {
        pthread_mutex_init(&table->shards[i].mutex, NULL);
        table->shards[i].bucket_count = FIRST_BUCKETS;
        table->shards[i].buckets = alloc_zero(FIRST_BUCKETS * sizeof table->shards[i].buckets[0]);
    }
    delta_app_texts_init(&table->deltas);
    return table;
}

/* --- the account of memory --- */

/* The number of lists of a channel: of subscribers, and of a user's watchers, by worker. */
static uint32_t list_count_of(const struct channel_hub *hub, struct channel_type type) {
    return (type.kind == CHANNEL_USER ? 2 : 1) * hub->workers->count;
}

/* The memory of a channel with its entry in the table, which has one to two buckets for each. Lists of subscribers and
 * what the channel keeps are counted where they change. */
static size_t channel_bytes(size_t name_length, uint32_t list_count) {
    return alloc_footprint(sizeof(struct channel) + list_count * sizeof(struct subscriber_list) + name_length) +
           2 * sizeof(struct channel *);
}

/* Gives back the memory of a channel that leaves the table: the channel may outlive the app's account. */
static void give_channel(const struct channel *channel) {
    size_t more = atomic_load_explicit(&channel->deltas, memory_order_acquire) != NULL ? delta_state_bytes() : 0;

    if (channel->cluster != NULL)
        more += channel->cluster->bytes + channel_entries_bytes(channel->cluster);
    budget_give(BUDGET_CHANNELS, channel->slot->budget,
                channel_bytes(channel->name_length, channel->list_count) + more);
}

void channel_table_destroy(void *memory) {
    struct channel_table *table = memory;

    for (unsigned i = 0; i < CHANNEL_SHARDS; i++) {
        struct channel_shard *shard = &table->shards[i];
        for (uint32_t bucket = 0; bucket < shard->bucket_count; bucket++) {
            struct channel *channel = shard->buckets[bucket];
            while (channel != NULL) {
                struct channel *next = channel->next;
                give_channel(channel);
                /* Members of other nodes may be left. */
                budget_give(BUDGET_PRESENCE, channel->slot->budget, presence_members_bytes(&channel->members));
                cached_event_unref(channel->cached);
                channel->cached = NULL;
                channel_unref(channel);
                channel = next;
            }
        }
        free(shard->buckets);
        pthread_mutex_destroy(&shard->mutex);
    }
    free(table);
}

bool channel_table_empty(void *memory) {
    struct channel_table *table = memory;
    bool empty = true;

    for (unsigned i = 0; i < CHANNEL_SHARDS && empty; i++) {
        struct channel_shard *shard = &table->shards[i];
        pthread_mutex_lock(&shard->mutex);
        empty = shard->count == 0;
        pthread_mutex_unlock(&shard->mutex);
    }
    return empty;
}

static struct channel_shard *shard_of(struct channel_table *table, uint64_t hash) {
    return &table->shards[hash % CHANNEL_SHARDS];
}

/* Returns the app's table; the first thread that needs it creates it. */
static struct channel_table *table_of(struct app_slot *slot) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);
    struct channel_table *made;
    void *expected = NULL;

    if (table != NULL)
        return table;
    made = table_create();
    if (atomic_compare_exchange_strong(&slot->channels, &expected, made))
        return made;
    channel_table_destroy(made);
    return expected;
}

/* --- channels --- */

static struct channel *channel_create(struct channel_hub *hub, struct app_slot *slot, struct channel_table *table,
                                      struct slice name, uint64_t hash) {
    struct channel_type type = channel_type_of(name);
    uint32_t lists = list_count_of(hub, type);
    struct channel *channel = alloc_zero(sizeof *channel + lists * sizeof channel->lists[0] + name.length);

    atomic_init(&channel->references, 1);
    channel->type = type;
    channel->slot = slot;
    channel->table = table;
    channel->hash = hash;
    pthread_mutex_init(&channel->mutex, NULL);
    channel->list_count = lists;
    channel->name = (char *)&channel->lists[lists];
    channel->name_length = (uint32_t)name.length;
    memcpy(channel->name, name.data, name.length);
    channel->subscribers.lists = channel->lists;
    if (type.kind == CHANNEL_USER)
        channel->watchers.lists = channel->lists + hub->workers->count;
    if (hub->hooks != NULL)
        channel->cluster = channel_cluster_create(hub, channel);
    return channel;
}

struct slice channel_name(const struct channel *channel) {
    return (struct slice){channel->name, channel->name_length};
}

struct channel_type channel_type(const struct channel *channel) {
    return channel->type;
}

struct channel *channel_ref(struct channel *channel) {
    atomic_fetch_add_explicit(&channel->references, 1, memory_order_relaxed);
    return channel;
}

void channel_unref(struct channel *channel) {
    if (atomic_fetch_sub_explicit(&channel->references, 1, memory_order_acq_rel) != 1)
        return;
    presence_members_dispose(&channel->members);
    channel_cluster_destroy(channel->cluster);
    delta_state_unref(atomic_load_explicit(&channel->deltas, memory_order_relaxed));
    for (uint32_t i = 0; i < channel->list_count; i++)
        free(channel->lists[i].entries);
    pthread_mutex_destroy(&channel->mutex);
    free(channel);
}

static struct channel **find_link(struct channel_shard *shard, struct slice name, uint64_t hash) {
    struct channel **link = &shard->buckets[hash / CHANNEL_SHARDS & (shard->bucket_count - 1)];

    while (*link != NULL &&
           !((*link)->hash == hash && slice_equal((struct slice){(*link)->name, (*link)->name_length}, name)))
        link = &(*link)->next;
    return link;
}

struct channel *channel_find(struct app_slot *slot, struct slice name) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);
    uint64_t hash = hash_bytes(name);
    struct channel_shard *shard;
    struct channel *channel;

    if (table == NULL)
        return NULL;
    shard = shard_of(table, hash);
    pthread_mutex_lock(&shard->mutex);
    channel = *find_link(shard, name, hash);
    if (channel != NULL)
        channel_ref(channel);
    pthread_mutex_unlock(&shard->mutex);
    return channel;
}

/* The number of buckets that the shard should have. The caller holds the mutex. */
static uint32_t wanted_buckets(const struct channel_shard *shard) {
    if (shard->count >= shard->bucket_count)
        return shard->bucket_count * 2;
    if (shard->count < shard->bucket_count / 8 && shard->bucket_count > FIRST_BUCKETS)
        return shard->bucket_count / 2;
    return shard->bucket_count;
}

/* Doubles the shard's buckets if it has as many channels as buckets, or halves them if few are left; allocates the new
 * array without the mutex. */
static void fit_buckets(struct channel_shard *shard) {
    struct channel **buckets, **old = NULL;
    uint32_t wanted;
    bool fits;

    pthread_mutex_lock(&shard->mutex);
    wanted = wanted_buckets(shard);
    fits = wanted == shard->bucket_count;
    pthread_mutex_unlock(&shard->mutex);
    if (fits)
        return;
    buckets = alloc_zero(wanted * sizeof buckets[0]);
    pthread_mutex_lock(&shard->mutex);
    old = buckets;
    if (wanted_buckets(shard) == wanted) {
        old = shard->buckets;
        for (uint32_t i = 0; i < shard->bucket_count; i++) {
            struct channel *channel = old[i];
            while (channel != NULL) {
                struct channel *next = channel->next;
                struct channel **bucket = &buckets[channel->hash / CHANNEL_SHARDS & (wanted - 1)];
                channel->next = *bucket;
                *bucket = channel;
                channel = next;
            }
        }
        shard->buckets = buckets;
        shard->bucket_count = wanted;
    }
    pthread_mutex_unlock(&shard->mutex);
    free(old);
}

struct channel *channel_find_or_create(struct channel_hub *hub, struct app_slot *slot, struct slice name) {
    struct channel *channel = channel_find(slot, name);
    struct channel *made, **link;
    struct channel_table *table;
    struct channel_shard *shard;
    uint64_t hash;

    if (channel != NULL)
        return channel;
    if (!budget_take(BUDGET_CHANNELS, slot->budget,
                     channel_bytes(name.length, list_count_of(hub, channel_type_of(name))) +
                         (hub->hooks != NULL ? channel_cluster_bytes(hub) : 0)))
        return NULL;
    hash = hash_bytes(name);
    table = table_of(slot);
    shard = shard_of(table, hash);
    fit_buckets(shard);
    made = channel_create(hub, slot, table, name, hash);
    pthread_mutex_lock(&shard->mutex);
    link = find_link(shard, name, hash);
    channel = *link;
    if (channel == NULL) {
        channel = *link = made;
        shard->count++;
        made = NULL;
    }
    channel_ref(channel);
    pthread_mutex_unlock(&shard->mutex);
    if (made != NULL) {
        channel_cluster_unlist(made->cluster);
        give_channel(made);
        channel_unref(made);
    }
    return channel;
}

void channel_unlink(struct channel *channel) {
    struct channel_shard *shard = shard_of(channel->table, channel->hash);
    struct channel **link;
    bool fits;

    pthread_mutex_lock(&shard->mutex);
    link = &shard->buckets[channel->hash / CHANNEL_SHARDS & (shard->bucket_count - 1)];
    while (*link != NULL && *link != channel)
        link = &(*link)->next;
    if (*link == channel) {
        *link = channel->next;
        shard->count--;
    } else {
        channel = NULL;
    }
    fits = wanted_buckets(shard) == shard->bucket_count;
    pthread_mutex_unlock(&shard->mutex);
    if (channel == NULL)
        return;
    channel_cluster_unlist(channel->cluster);
    give_channel(channel);
    channel_unref(channel);
    if (!fits)
        fit_buckets(shard);
}
