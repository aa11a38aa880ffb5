#include <stdlib.h>

#include "base/alloc.h"
#include "channel/channel_internal.h"

struct remote_entry *remote_entry_find(const struct channel_cluster *cluster, unsigned node) {
    for (unsigned i = 0; i < cluster->entry_count; i++)
        if (cluster->entries[i].node == node)
            return &cluster->entries[i];
    return NULL;
}

/* Moves the entries to an array of another size, which is returned; 0: frees them. */
static struct remote_entry *resize_entries(struct channel *channel, unsigned capacity) {
    struct channel_cluster *cluster = channel->cluster;
    size_t before = channel_entries_bytes(cluster);
    struct remote_entry *entries = capacity != 0 ? alloc(capacity * sizeof *entries) : NULL, *old;

    if (entries != NULL && cluster->entries != NULL)
        memcpy(entries, cluster->entries, cluster->entry_count * sizeof *entries);
    pthread_mutex_lock(&channel->mutex);
    old = cluster->entries;
    cluster->entries = entries;
    cluster->entry_capacity = (uint8_t)capacity;
    pthread_mutex_unlock(&channel->mutex);
    free(old);
    budget_add(BUDGET_CHANNELS, channel->slot->budget, channel_entries_bytes(cluster));
    budget_give(BUDGET_CHANNELS, channel->slot->budget, before);
    return entries;
}

struct remote_entry *remote_entry_make(struct channel *channel, unsigned node) {
    struct channel_cluster *cluster = channel->cluster;
    struct remote_entry *entry = remote_entry_find(cluster, node), *entries = cluster->entries;

    if (entry != NULL)
        return entry;
    if (entries == NULL || cluster->entry_count == cluster->entry_capacity)
        entries = resize_entries(channel, cluster->entry_capacity < 2 ? 2u : cluster->entry_capacity * 2u);
    pthread_mutex_lock(&channel->mutex);
    entry = &entries[cluster->entry_count++];
    *entry = (struct remote_entry){.node = (uint8_t)node};
    pthread_mutex_unlock(&channel->mutex);
    return entry;
}

void remote_entry_drop(struct channel *channel, unsigned node) {
    struct channel_cluster *cluster = channel->cluster;
    struct remote_entry *entry = remote_entry_find(cluster, node);

    if (entry == NULL)
        return;
    pthread_mutex_lock(&channel->mutex);
    *entry = cluster->entries[--cluster->entry_count];
    pthread_mutex_unlock(&channel->mutex);
    if (cluster->entry_count == 0)
        resize_entries(channel, 0);
}

void remote_entries_drop_all(struct channel *channel) {
    pthread_mutex_lock(&channel->mutex);
    channel->cluster->entry_count = 0;
    pthread_mutex_unlock(&channel->mutex);
    resize_entries(channel, 0);
}

bool remote_is_wanted(struct channel *channel) {
    const struct channel_cluster *cluster = channel->cluster;
    bool wanted;

    if (cluster == NULL)
        return false;
    pthread_mutex_lock(&channel->mutex);
    wanted = !channel->dead && cluster->held && !cluster->emptying;
    pthread_mutex_unlock(&channel->mutex);
    return wanted;
}

uint64_t channel_set_version(struct channel *channel, unsigned node) {
    const struct channel_cluster *cluster = channel->cluster;
    const struct remote_entry *entry;
    uint64_t version = 0;

    pthread_mutex_lock(&channel->mutex);
    if (node == 0) {
        version = cluster->own_version;
    } else {
        entry = remote_entry_find(cluster, node);
        version = entry != NULL ? entry->version : 0;
    }
    pthread_mutex_unlock(&channel->mutex);
    return version;
}
