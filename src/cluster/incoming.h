/*
 * What other nodes publish, to the clients of this one: events and orders to close a user's connections.
 *
 *   bus ---> thread: checked ---> worker hash(channel): app_queue.h ---> channel_publish, marked as relayed
 *
 * The bytes are not copied: the worker releases the message of the bus. All of a channel is applied on one worker, in
 * the order in which it came. What workers have not applied yet is bounded; beyond that events are dropped.
 */
#pragma once

#include "cluster/cluster_core.h"

struct incoming;

/* Adds the part to the core, which frees it. */
struct incoming *incoming_create(struct cluster_core *core);

struct incoming_stats {
    uint64_t dropped; /* workers were too far behind, or there was no memory */
    uint64_t foreign; /* the app and the channel in the message are not those of its subject */
};

/* Any thread. */
void incoming_read_stats(const struct incoming *incoming, struct incoming_stats *stats);
