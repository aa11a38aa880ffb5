#include "channel/channel_internal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"

static void copy_cached(const struct cached_event *cached, uint64_t now_ms, struct channel_info *info) {
    buffer_append(&info->cached_data, cached_event_data(cached));
    if (cached->expires_ms != UINT64_MAX)
        info->cached_ttl_s = (uint32_t)((cached->expires_ms - now_ms + 999) / 1000);
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
    if (with_cached)
        cached = channel_cached(channel, now_ms);
    pthread_mutex_unlock(&channel->mutex);
    info->occupied = info->counts.subscriptions != 0;
    if (cached != NULL)
        copy_cached(cached, now_ms, info);
    cached_event_unref(cached);
    channel_unref(channel);
}

/* Returns an array of references to all channels of a shard. The array is allocated without the mutex, in the size that
 * the last attempt has read. */
static struct channel **snapshot_shard(struct channel_shard *shard, uint32_t *count) {
    struct channel **found = NULL;
    uint32_t room = 0;

    for (;;) {
        bool fits;

        pthread_mutex_lock(&shard->mutex);
        fits = shard->count <= room;
        *count = 0;
        for (uint32_t i = 0; fits && i < shard->bucket_count; i++)
            for (struct channel *channel = shard->buckets[i]; channel != NULL; channel = channel->next)
                found[(*count)++] = channel_ref(channel);
        room = fits ? room : shard->count + shard->count / 8 + 8;
        pthread_mutex_unlock(&shard->mutex);
        if (fits)
            return found;
        found = alloc_array(found, room, sizeof found[0]);
    }
}

void channel_each(struct app_slot *slot, struct slice prefix,
                  void (*each)(void *context, struct slice name, struct channel_type type,
                               struct channel_counts counts),
                  void *context) {
    struct channel_table *table = atomic_load_explicit(&slot->channels, memory_order_acquire);

    for (unsigned i = 0; table != NULL && i < CHANNEL_SHARDS; i++) {
        uint32_t count;
        struct channel **channels = snapshot_shard(&table->shards[i], &count);

        for (uint32_t at = 0; at < count; at++) {
            struct channel *channel = channels[at];
            struct channel_counts counts = {0};

            if (channel->type.kind != CHANNEL_USER && slice_starts_with(channel_name(channel), prefix)) {
                pthread_mutex_lock(&channel->mutex);
                counts = channel_counts_of(channel);
                pthread_mutex_unlock(&channel->mutex);
            }
            if (counts.subscriptions != 0)
                each(context, channel_name(channel), channel->type, counts);
            channel_unref(channel);
        }
        free(channels);
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
        buffer_append(out, member->id_json);
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
