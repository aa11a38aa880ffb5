#include <stdlib.h>

#include "base/alloc.h"
#include "channel/channel_internal.h"

void channel_hub_set_hooks(struct channel_hub *hub, const struct channel_hooks *hooks) {
    hub->hooks = hooks;
    if (hooks != NULL && hub->held == NULL)
        channel_hub_create_held(hub);
}

bool channel_hub_waits(const struct channel_hub *hub) {
    return hub->hooks != NULL;
}

uint32_t channel_hub_waiting(const struct channel_hub *hub) {
    return atomic_load_explicit(&hub->waiting, memory_order_relaxed);
}

void channel_hub_name_node(struct channel_hub *hub, unsigned node, const uint64_t id[2]) {
    for (unsigned i = 0; i < 2; i++)
        atomic_store_explicit(&hub->node_ids[node % CHANNEL_NODES][i], id[i], memory_order_relaxed);
}

void channel_hub_create_held(struct channel_hub *hub) {
    hub->held = alloc(hub->workers->count * sizeof hub->held[0]);
    for (unsigned i = 0; i < hub->workers->count; i++) {
        pthread_mutex_init(&hub->held[i].mutex, NULL);
        list_init(&hub->held[i].channels);
    }
}

/* The tables outlive the hub: their channels are taken off its lists. */
void channel_hub_destroy_held(struct channel_hub *hub) {
    for (unsigned i = 0; hub->held != NULL && i < hub->workers->count; i++) {
        while (!list_empty(&hub->held[i].channels)) {
            struct channel_held *first = container_of(hub->held[i].channels.next, struct channel_held, link);
            list_remove(&first->link);
            first->channel->cluster->held_list = NULL;
            first->channel->cluster->held = false;
        }
        pthread_mutex_destroy(&hub->held[i].mutex);
    }
    free(hub->held);
}

static size_t aligned_bytes(size_t bytes) {
    return (bytes + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * _Alignof(max_align_t);
}

static size_t structure_bytes(const struct channel_hub *hub) {
    return aligned_bytes(sizeof(struct channel_cluster) + hub->workers->count * sizeof(struct list));
}

size_t channel_cluster_bytes(const struct channel_hub *hub) {
    return alloc_footprint(structure_bytes(hub) + hub->hooks->memory_bytes);
}

struct channel_cluster *channel_cluster_create(struct channel_hub *hub, struct channel *channel) {
    struct channel_cluster *cluster = alloc_zero(structure_bytes(hub) + hub->hooks->memory_bytes);
    struct held_list *list = &hub->held[channel->hash % hub->workers->count];

    cluster->hub = hub;
    cluster->held_list = list;
    cluster->link.channel = channel;
    cluster->bytes = channel_cluster_bytes(hub);
    cluster->own_state =
        channel->type.kind == CHANNEL_PRESENCE || channel->type.kind == CHANNEL_USER || channel->type.caches;
    cluster->stateful = cluster->own_state;
    cluster->hook_memory = (char *)cluster + structure_bytes(hub);
    for (unsigned i = 0; i < hub->workers->count; i++)
        list_init(&cluster->waiters[i]);
    pthread_mutex_lock(&list->mutex);
    list_append(&list->channels, &cluster->link.link);
    pthread_mutex_unlock(&list->mutex);
    return cluster;
}

void channel_cluster_unlist(struct channel_cluster *cluster) {
    if (cluster == NULL || cluster->held_list == NULL)
        return;
    pthread_mutex_lock(&cluster->held_list->mutex);
    list_remove(&cluster->link.link);
    pthread_mutex_unlock(&cluster->held_list->mutex);
}

void channel_cluster_destroy(struct channel_cluster *cluster) {
    if (cluster == NULL)
        return;
    free(cluster->entries);
    free(cluster);
}

size_t channel_entries_bytes(const struct channel_cluster *cluster) {
    return cluster->entry_capacity != 0 ? alloc_footprint(cluster->entry_capacity * sizeof cluster->entries[0]) : 0;
}

void *channel_hook_memory(struct channel *channel) {
    return channel->cluster->hook_memory;
}

struct slice channel_app_id(const struct channel *channel) {
    return slice_of(channel->slot->id);
}
