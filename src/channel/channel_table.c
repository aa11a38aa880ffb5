#include "channel/channel_internal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/hash.h"

#define FIRST_BUCKETS 8

static struct channel *pop_idle(struct channel_hub *hub);

struct channel_hub *channel_hub_create(struct workers *workers, const struct channel_hub_settings *settings) {
    struct channel_hub *hub = alloc_zero(sizeof *hub);

    hub->workers = workers;
    hub->settings = *settings;
    pthread_mutex_init(&hub->idle_mutex, NULL);
    list_init(&hub->idle);
    return hub;
}

void channel_hub_destroy(struct channel_hub *hub) {
    while (!list_empty(&hub->idle))
        channel_unref(pop_idle(hub));
    pthread_mutex_destroy(&hub->idle_mutex);
    free(hub);
}

/* --- tables --- */

static struct channel_table *table_create(void) {
    struct channel_table *table = alloc_zero(sizeof *table);

    for (unsigned i = 0; i < CHANNEL_SHARDS; i++) {
        pthread_mutex_init(&table->shards[i].mutex, NULL);
        table->shards[i].bucket_count = FIRST_BUCKETS;
        table->shards[i].buckets = alloc_zero(FIRST_BUCKETS * sizeof table->shards[i].buckets[0]);
    }
    return table;
}

void channel_table_destroy(void *memory) {
    struct channel_table *table = memory;

    for (unsigned i = 0; i < CHANNEL_SHARDS; i++) {
        struct channel_shard *shard = &table->shards[i];
        for (uint32_t bucket = 0; bucket < shard->bucket_count; bucket++) {
            struct channel *channel = shard->buckets[bucket];
            while (channel != NULL) {
                struct channel *next = channel->next;
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

/* The app's table, made by whoever comes first. */
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

static struct channel *channel_create(struct channel_hub *hub, struct app_slot *slot, struct channel_shard *shard,
                                      struct slice name, uint64_t hash) {
    struct channel_type type = channel_type_of(name);
    unsigned workers = hub->workers->count;
    bool watched = type.kind == CHANNEL_USER;
    unsigned parts = (watched ? 2 : 1) * workers;
    struct channel *channel = alloc_zero(sizeof *channel + parts * sizeof channel->parts[0] + name.length);

    atomic_init(&channel->references, 1);
    channel->type = type;
    channel->slot = slot;
    channel->shard = shard;
    channel->hash = hash;
    pthread_mutex_init(&channel->mutex, NULL);
    channel->part_count = parts;
    channel->name = (char *)&channel->parts[parts];
    channel->name_length = (uint32_t)name.length;
    memcpy(channel->name, name.data, name.length);
    channel->audience.parts = channel->parts;
    if (watched)
        channel->watching.parts = channel->parts + workers;
    return channel;
}

struct channel *channel_ref(struct channel *channel) {
    atomic_fetch_add_explicit(&channel->references, 1, memory_order_relaxed);
    return channel;
}

void channel_unref(struct channel *channel) {
    if (atomic_fetch_sub_explicit(&channel->references, 1, memory_order_acq_rel) != 1)
        return;
    presence_members_dispose(&channel->members);
    cached_event_unref(channel->cached);
    for (uint32_t i = 0; i < channel->part_count; i++)
        free(channel->parts[i].entries);
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
    shard = &table->shards[hash % CHANNEL_SHARDS];
    pthread_mutex_lock(&shard->mutex);
    channel = *find_link(shard, name, hash);
    if (channel != NULL)
        channel_ref(channel);
    pthread_mutex_unlock(&shard->mutex);
    return channel;
}

/* Doubles the shard's buckets when they are full; the new array is allocated while the mutex is free. */
static void grow_if_full(struct channel_shard *shard) {
    struct channel **buckets, **old = NULL;
    uint32_t wanted;

    pthread_mutex_lock(&shard->mutex);
    wanted = shard->count >= shard->bucket_count ? shard->bucket_count * 2 : 0;
    pthread_mutex_unlock(&shard->mutex);
    if (wanted == 0)
        return;
    buckets = alloc_zero(wanted * sizeof buckets[0]);
    pthread_mutex_lock(&shard->mutex);
    old = buckets;
    if (shard->bucket_count < wanted) {
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
    struct channel_shard *shard;
    uint64_t hash;

    if (channel != NULL)
        return channel;
    hash = hash_bytes(name);
    shard = &table_of(slot)->shards[hash % CHANNEL_SHARDS];
    grow_if_full(shard);
    made = channel_create(hub, slot, shard, name, hash);
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
    if (made != NULL)
        channel_unref(made);
    return channel;
}

void channel_unlink(struct channel *channel) {
    struct channel_shard *shard = channel->shard;
    struct channel **link;

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
    pthread_mutex_unlock(&shard->mutex);
    if (channel != NULL)
        channel_unref(channel);
}

/* --- cache channels without subscribers --- */

void cached_event_unref(struct cached_event *cached) {
    if (cached == NULL || atomic_fetch_sub_explicit(&cached->references, 1, memory_order_acq_rel) != 1)
        return;
    frame_unref(cached->frame);
    free(cached);
}

struct cached_event *channel_take_expired(struct channel *channel, uint64_t now_ms) {
    struct cached_event *cached = channel->cached;

    if (cached == NULL || cached->expires_ms == 0 || now_ms < cached->expires_ms)
        return NULL;
    channel->cached = NULL;
    return cached;
}

/* Takes the first channel off the idle list, whose reference goes to the caller. Under the idle mutex. */
static struct channel *pop_idle(struct channel_hub *hub) {
    struct channel *channel = container_of(hub->idle.next, struct channel, idle_link);

    list_remove(&channel->idle_link);
    hub->idle_count--;
    return channel;
}

/* Forgets what an idle channel has kept; it goes if nobody has joined in the meantime. */
static void drop_idle(struct channel *channel) {
    struct cached_event *cached = NULL;
    bool dead = false;

    pthread_mutex_lock(&channel->mutex);
    if (!channel->dead && channel->subscribers == 0) {
        cached = channel->cached;
        channel->cached = NULL;
        dead = channel->dead = channel_is_unused(channel);
    }
    pthread_mutex_unlock(&channel->mutex);
    cached_event_unref(cached);
    if (dead)
        channel_unlink(channel);
    channel_unref(channel);
}

/* The same if what it has kept is too old. False, with the reference still the caller's, if it is not. */
static bool drop_expired(struct channel *channel, uint64_t now_ms) {
    struct cached_event *cached;
    bool dead = false, kept;

    pthread_mutex_lock(&channel->mutex);
    cached = channel_take_expired(channel, now_ms);
    kept = channel->cached != NULL;
    if (!channel->dead)
        dead = channel->dead = channel_is_unused(channel);
    pthread_mutex_unlock(&channel->mutex);
    cached_event_unref(cached);
    if (dead)
        channel_unlink(channel);
    if (!kept)
        channel_unref(channel);
    return !kept;
}

void channel_idle_begin(struct channel_hub *hub, struct channel *channel) {
    struct channel *oldest = NULL;

    pthread_mutex_lock(&hub->idle_mutex);
    if (!list_empty(&channel->idle_link)) {
        list_remove(&channel->idle_link);
    } else {
        channel_ref(channel);
        hub->idle_count++;
    }
    list_append(&hub->idle, &channel->idle_link);
    if (hub->settings.cache_max_channels != 0 && hub->idle_count > hub->settings.cache_max_channels)
        oldest = pop_idle(hub);
    pthread_mutex_unlock(&hub->idle_mutex);
    if (oldest != NULL)
        drop_idle(oldest);
}

void channel_idle_end(struct channel_hub *hub, struct channel *channel) {
    bool was_idle;

    pthread_mutex_lock(&hub->idle_mutex);
    was_idle = !list_empty(&channel->idle_link);
    if (was_idle) {
        list_remove(&channel->idle_link);
        hub->idle_count--;
    }
    pthread_mutex_unlock(&hub->idle_mutex);
    if (was_idle)
        channel_unref(channel);
}

/* Puts a channel that was popped back in front, unless it came back by itself. Takes over the reference. */
static void put_back(struct channel_hub *hub, struct channel *channel) {
    bool back;

    pthread_mutex_lock(&hub->idle_mutex);
    back = !list_empty(&channel->idle_link);
    if (!back) {
        list_append(hub->idle.next, &channel->idle_link);
        hub->idle_count++;
    }
    pthread_mutex_unlock(&hub->idle_mutex);
    if (back)
        channel_unref(channel);
}

void channel_hub_expire(struct channel_hub *hub, uint64_t now_ms) {
    /*
     * The list is in the order of leaving and filling, so the oldest event is not always in front; but none outlives
     * its time in a lookup (channel_take_expired), and here all go in the end: an expired one in front is dropped, one
     * that is not holds up those behind it for at most its own time.
     *
     * A channel is off the list while it is looked at, since it may get another event at any time, and is then put on
     * the list by who publishes it.
     */
    for (;;) {
        struct channel *channel = NULL;

        pthread_mutex_lock(&hub->idle_mutex);
        if (!list_empty(&hub->idle))
            channel = pop_idle(hub);
        pthread_mutex_unlock(&hub->idle_mutex);
        if (channel == NULL)
            return;
        if (!drop_expired(channel, now_ms)) {
            put_back(hub, channel);
            return;
        }
    }
}
