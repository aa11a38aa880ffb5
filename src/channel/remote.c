#include "base/alloc.h"
#include "channel/channel_internal.h"

/* Finds a channel of which other nodes are heard; NULL: it is not. The caller drops the reference. */
static struct channel *find_heard(struct app_slot *slot, struct slice name) {
    struct channel *channel = channel_find(slot, name);

    if (channel == NULL || remote_is_wanted(channel))
        return channel;
    channel_unref(channel);
    return NULL;
}

/* Whether the change is the next one of its node. */
static enum remote_result judge_change(const struct channel *channel, const struct remote_change *change) {
    const struct channel_cluster *cluster = channel->cluster;
    const struct remote_entry *entry = remote_entry_find(cluster, change->node);
    bool empty = entry == NULL || (entry->members == 0 && (cluster->occupied >> change->node & 1) == 0);

    if ((channel->type.kind == CHANNEL_PRESENCE) != (change->member.id.length != 0))
        return REMOTE_OLD; /* it makes no sense */
    if (entry != NULL && entry->taking != NULL)
        return REMOTE_GAP;
    if (entry != NULL && change->version <= entry->version)
        return REMOTE_OLD;
    if (change->before == 0)
        return empty ? REMOTE_DONE : REMOTE_GAP;
    return entry != NULL && entry->version == change->before ? REMOTE_DONE : REMOTE_GAP;
}

static enum remote_result apply_change(struct channel_hub *hub, struct channel *channel, struct worker *worker,
                                       const struct remote_change *change) {
    struct remote_entry *entry;

    remote_entry_make(channel, change->node);
    if (channel->type.kind != CHANNEL_PRESENCE)
        remote_occupied_set(hub, channel, worker, change->node, change->added);
    else if (!change->added)
        remote_member_remove(hub, channel, worker, change->node, change->member.id);
    else if (!remote_member_add(hub, channel, worker, change->node, &change->member, false))
        return REMOTE_FULL;
    entry = remote_entry_find(channel->cluster, change->node);
    pthread_mutex_lock(&channel->mutex);
    entry->version = change->version;
    pthread_mutex_unlock(&channel->mutex);
    return REMOTE_DONE;
}

enum remote_result channel_remote_change(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                         struct slice name, const struct remote_change *change) {
    struct channel *channel = find_heard(slot, name);
    enum remote_result result;

    if (channel == NULL)
        return REMOTE_UNKNOWN;
    result = judge_change(channel, change);
    if (result == REMOTE_DONE)
        result = apply_change(hub, channel, worker, change);
    channel_unref(channel);
    return result;
}

enum remote_result channel_remote_count(struct channel_hub *hub, struct app_slot *slot, struct worker *worker,
                                        struct slice name, unsigned node, uint64_t version, uint32_t count) {
    struct channel *channel = find_heard(slot, name);
    enum remote_result result = REMOTE_OLD;

    if (channel == NULL)
        return REMOTE_UNKNOWN;
    if (version == 0 || remote_entry_make(channel, node)->count_version < version) {
        remote_count_set(hub, channel, worker, node, version, count);
        result = REMOTE_DONE;
    }
    channel_unref(channel);
    return result;
}
