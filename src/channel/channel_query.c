#include "channel/channel_internal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"

/* How many buckets of a shard are walked with its mutex held: about as many channels. */
#define BUCKETS_AT_ONCE 512

static void copy_cached(const struct cached_event *cached, uint64_t now_ms, struct channel_info *info) {
    buffer_append(&info->cached_data, cached_event_data(cached));
    if (cached->expires_ms != UINT64_MAX)
        info->cached_ttl_s = (uint32_t)((cached->expires_ms - now_ms + 999) / 1000);
}

/* With other nodes: if this one knows of any that has subscribers. The caller holds the mutex. */
static bool is_occupied(const struct channel *channel) {
    return channel->subscriber_count != 0 || presence_count(&channel->members) != 0 ||
           cluster_is_occupied(channel->cluster);
}

void channel_inspect(struct app_slot *slot, struct slice name, bool with_cached, struct channel_info *info) {
    struct channel *channel = channel_find(slot, name);
    struct cached_event *cached = NULL;
    uint64_t now_ms = clock_monotonic_ms();

    *info = (struct channel_info){0};
    if (channel == NULL)
        return;
    pthread_mutex_lock(&channel->mutex);
    info->counts = channel_counts_of(channel);
    info->own_subscriptions = channel->subscriber_count;
    info->occupied = is_occupied(channel);
    info->whole = channel->cluster == NULL || (interest_is_ready(channel->cluster) && channel->cluster->stateful);
    if (with_cached)
        cached = channel_cached(channel, now_ms);
    pthread_mutex_unlock(&channel->mutex);
    if (cached != NULL)
        copy_cached(cached, now_ms, info);
    cached_event_unref(cached);
    channel_unref(channel);
}

void channel_own_counts(struct channel *channel, struct channel_counts *counts) {
    pthread_mutex_lock(&channel->mutex);
    *counts = (struct channel_counts){channel->subscriber_count, presence_count(&channel->members)};
    pthread_mutex_unlock(&channel->mutex);
}

uint64_t channel_count_all(struct app_slot *slot) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);
    uint64_t count = 0;

    for (unsigned i = 0; table != NULL && i < CHANNEL_SHARDS; i++) {
        pthread_mutex_lock(&table->shards[i].mutex);
        count += table->shards[i].count;
        pthread_mutex_unlock(&table->shards[i].mutex);
    }
    return count;
}

/* Channels of a shard, with a reference to each. */
struct snapshot {
    struct channel **channels;
    uint32_t count, room;
};

/* Adds the channels of some buckets from `first` on. Returns the next bucket; the mutex is held for that long only. */
static uint32_t add_buckets(struct snapshot *snapshot, const struct channel_shard *shard, uint32_t first) {
    uint32_t end = first + BUCKETS_AT_ONCE < shard->bucket_count ? first + BUCKETS_AT_ONCE : shard->bucket_count;

    if (shard->count == 0)
        return shard->bucket_count;
    for (; first < end && snapshot->count < snapshot->room; first++) {
        uint32_t count = snapshot->count;

        for (struct channel *channel = shard->buckets[first]; channel != NULL; channel = channel->next) {
            if (count == snapshot->room)
                return first; /* the array has to grow before this bucket */
            snapshot->channels[count++] = channel;
        }
        while (snapshot->count < count)
            channel_ref(snapshot->channels[snapshot->count++]);
    }
    return first;
}

static void drop_snapshot(struct snapshot *snapshot) {
    while (snapshot->count != 0)
        channel_unref(snapshot->channels[--snapshot->count]);
}

/* Takes references to all channels of a shard, without its mutex for long. If the number of buckets changes meanwhile,
 * it begins again. */
static void take_shard_snapshot(struct channel_shard *shard, struct snapshot *snapshot) {
    uint32_t bucket = 0, bucket_count = 0, at_least = 0;
    bool done = false;

    while (!done) {
        uint32_t before = bucket;
        bool grown;

        if (snapshot->room - snapshot->count < at_least) {
            snapshot->room = snapshot->count + at_least;
            snapshot->channels = alloc_array(snapshot->channels, snapshot->room, sizeof snapshot->channels[0]);
        }
        pthread_mutex_lock(&shard->mutex);
        grown = bucket != 0 && bucket_count != shard->bucket_count;
        bucket_count = shard->bucket_count;
        if (!grown)
            bucket = add_buckets(snapshot, shard, bucket);
        done = !grown && bucket == bucket_count;
        at_least = shard->count > snapshot->count ? shard->count - snapshot->count : 0;
        if (bucket == before) /* its channels do not fit */
            at_least += snapshot->room - snapshot->count + 8;
        pthread_mutex_unlock(&shard->mutex);
        if (grown) {
            drop_snapshot(snapshot);
            bucket = 0;
        }
    }
}

void channel_each(struct app_slot *slot, struct slice prefix,
                  void (*each)(void *context, struct slice name, struct channel_type type,
                               struct channel_counts counts),
                  void *context) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);

    for (unsigned i = 0; table != NULL && i < CHANNEL_SHARDS; i++) {
        struct snapshot snapshot = {0};

        take_shard_snapshot(&table->shards[i], &snapshot);
        for (uint32_t at = 0; at < snapshot.count; at++) {
            struct channel *channel = snapshot.channels[at];
            struct channel_counts counts = {0};

            if (channel->type.kind != CHANNEL_USER && slice_starts_with(channel_name(channel), prefix)) {
                channel_own_counts(channel, &counts);
            }
            if (counts.subscriptions != 0)
                each(context, channel_name(channel), channel->type, counts);
            channel_unref(channel);
        }
        free(snapshot.channels);
    }
}

void channel_append_users(struct app_slot *slot, struct slice name, struct buffer *out) {
    struct channel *channel = channel_find(slot, name);
    struct presence_member *member;
    struct member_list *list;
    bool first = true;

    if (channel == NULL)
        return;
    pthread_mutex_lock(&channel->mutex);
    list = presence_snapshot(&channel->members);
    pthread_mutex_unlock(&channel->mutex);
    channel_unref(channel);
    member_list_each(list, member) {
        buffer_append(out, first ? SLICE("{\"id\":") : SLICE(",{\"id\":"));
        buffer_append(out, presence_member_id(member));
        buffer_append_byte(out, '}');
        first = false;
    }
    member_list_unref(list);
}

void channel_count_active(struct app_slot *slot, uint32_t counts[CHANNEL_LABEL_COUNT]) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);

    for (unsigned i = 0; i < CHANNEL_LABEL_COUNT; i++)
        counts[i] = table != NULL ? atomic_load_explicit(&table->active[i], memory_order_relaxed) : 0;
}
