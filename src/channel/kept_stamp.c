#include "base/clock.h"
#include "channel/channel_internal.h"

/* A publish time further ahead of this node's clock is not believed: later events would never replace the kept one. */
#define STAMP_AHEAD_MS (24 * 60 * 60 * UINT64_C(1000))

static void read_node_id(const struct channel_hub *hub, unsigned node, uint64_t id[2]) {
    for (unsigned i = 0; i < 2; i++)
        id[i] = atomic_load_explicit(&hub->node_ids[node % CHANNEL_NODES][i], memory_order_relaxed);
}

static int compare_node_ids(const uint64_t a[2], const uint64_t b[2]) {
    unsigned at = a[0] == b[0] ? 1 : 0;

    return a[at] < b[at] ? -1 : a[at] > b[at];
}

int channel_hub_compare_nodes(const struct channel_hub *hub, unsigned node, unsigned other) {
    uint64_t a[2], b[2];

    read_node_id(hub, node, a);
    read_node_id(hub, other, b);
    return compare_node_ids(a, b);
}

bool kept_stamp_take(struct channel *channel, struct channel_stamp stamp) {
    struct channel_cluster *cluster = channel->cluster;
    struct channel_stamp kept = cluster->kept_stamp;
    bool newer;

    if (stamp.ms == 0)
        return true; /* from the process before this one: it knows no better */
    if (stamp.ms > clock_wall_ms() + STAMP_AHEAD_MS)
        return false;
    if (stamp.ms > cluster->seen_ms)
        cluster->seen_ms = stamp.ms;
    newer = stamp.ms > kept.ms || (stamp.ms == kept.ms && compare_node_ids(stamp.node, kept.node) > 0);
    if (newer)
        cluster->kept_stamp = stamp;
    return newer;
}

struct channel_stamp kept_stamp_next(const struct channel_hub *hub, struct app_slot *slot, struct slice name) {
    struct channel *channel = channel_find(slot, name);
    struct channel_stamp stamp = {.ms = clock_wall_ms()};

    read_node_id(hub, 0, stamp.node);
    if (channel == NULL)
        return stamp;
    pthread_mutex_lock(&channel->mutex);
    if (stamp.ms <= channel->cluster->seen_ms)
        stamp.ms = channel->cluster->seen_ms + 1;
    channel->cluster->seen_ms = stamp.ms;
    pthread_mutex_unlock(&channel->mutex);
    channel_unref(channel);
    return stamp;
}
