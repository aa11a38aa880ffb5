#include "cluster/roster/roster_internal.h"

/* A mix of 64 bits in which each bit of the result depends on all bits (the finaliser of SplitMix64). Part of the
 * protocol, with node_rank. */
static uint64_t mix_bits(uint64_t bits) {
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

static uint64_t node_rank(uint64_t rank_hash, struct node_id id) {
    return mix_bits(rank_hash ^ mix_bits(id.high ^ mix_bits(id.low)));
}

/* The first and the second of the nodes for a channel. */
static void rank_nodes(uint64_t rank_hash, uint64_t alive, const struct node_id ids[ROSTER_NODES], unsigned ranks[2]) {
    uint64_t first = 0, second = 0;
    unsigned sender = NO_NODE, deputy = NO_NODE;

    for (unsigned node = 0; node < ROSTER_NODES; node++) {
        uint64_t rank;

        if ((alive >> node & 1) == 0)
            continue;
        rank = node_rank(rank_hash, ids[node]);
        if (sender == NO_NODE || rank > first) {
            second = first;
            deputy = sender;
            first = rank;
            sender = node;
        } else if (deputy == NO_NODE || rank > second) {
            second = rank;
            deputy = node;
        }
    }
    ranks[0] = sender;
    ranks[1] = deputy;
}

void roster_rank(const struct roster *roster, struct roster_channel *channel) {
    unsigned ranks[2];

    rank_nodes(channel->rank_hash, roster->alive, roster->ids, ranks);
    channel->sender = (uint8_t)ranks[0];
    channel->deputy = (uint8_t)ranks[1];
}

bool roster_was_sender(const struct roster *roster, const struct roster_channel *channel) {
    unsigned ranks[2];

    rank_nodes(channel->rank_hash, roster->alive_before, roster->ids_before, ranks);
    return ranks[0] == 0;
}
