#include "base/clock.h"
#include "channel/channel_internal.h"

/* A publish time further ahead of this node's clock is not believed: later events would never replace the kept one. */
#define STAMP_AHEAD_MS (24 * 60 * 60 * UINT64_C(1000))

int channel_hub_compare_nodes(const struct channel_hub *hub, unsigned node, unsigned other) {
    for (unsigned i = 0; i < 2; i++) {
        uint64_t a = atomic_load_explicit(&hub->node_ids[node % CHANNEL_NODES][i], memory_order_relaxed);
        uint64_t b = atomic_load_explicit(&hub->node_ids[other % CHANNEL_NODES][i], memory_order_relaxed);
        if (a != b)
            return a < b ? -1 : 1;
    }
    return 0;
}

bool kept_stamp_take(const struct channel_hub *hub, struct channel *channel, struct channel_stamp stamp) {
    struct channel_cluster *cluster = channel->cluster;
    struct channel_stamp kept = cluster->kept_stamp;
    bool newer;

    if (stamp.ms == 0)
        return true; /* from the process before this one: it knows no better */
    if (stamp.ms > clock_wall_ms() + STAMP_AHEAD_MS)
        return false;
    if (stamp.ms > cluster->seen_ms)
        cluster->seen_ms = stamp.ms;
    newer = stamp.ms > kept.ms || (stamp.ms == kept.ms && channel_hub_compare_nodes(hub, stamp.node, kept.node) > 0);
    if (newer)
        cluster->kept_stamp = stamp;
    return newer;
}

uint64_t kept_stamp_next(struct app_slot *slot, struct slice name) {
    struct channel *channel = channel_find(slot, name);
    uint64_t now_ms = clock_wall_ms();

    if (channel == NULL)
        return now_ms;
    pthread_mutex_lock(&channel->mutex);
    if (now_ms <= channel->cluster->seen_ms)
        now_ms = channel->cluster->seen_ms + 1;
    channel->cluster->seen_ms = now_ms;
    pthread_mutex_unlock(&channel->mutex);
    channel_unref(channel);
    return now_ms;
}
