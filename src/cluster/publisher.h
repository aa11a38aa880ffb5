/*
 * What is published here, to the other nodes: events and orders to close a user's connections, by struct channel_relay
 * of channel/; and the changes of apps, through the same queue.
 *
 *   worker: channel_publish ---> encoded ---> loop_post ---> thread: outgoing.h ---> bus
 *
 * In a store that is not on the bus's own connection (key_store.h, publishes_wait) an event of a cache channel is
 * stored first, within 100 ms: a node that subscribes meanwhile finds it there, or gets the message. What is published
 * meanwhile waits behind it.
 *
 * The relay is set while another node is alive, so one node alone does nothing here. When the bus goes down it stays
 * set: events wait in the queue. With adapter.publish_when_down "refuse" it is set in every outage, and the HTTP API
 * refuses events.
 *
 * On the cluster's thread, where nothing else is said.
 */
#pragma once

#include "cluster/cluster_core.h"
#include "cluster/outgoing.h"

struct publisher;

/* Adds the part to the core, which frees it. */
struct publisher *publisher_create(struct cluster_core *core);

/* Encodes a message and publishes it, or lets it wait; kind and body are the caller's. */
void publisher_say(struct publisher *publisher, struct slice subject, struct cluster_message *message);

struct publisher_stats {
    uint64_t waiting, waiting_bytes; /* in the queue of an outage, now */
    uint64_t dropped;                /* for want of room or memory */
    uint64_t expired;                /* older than adapter.outage_max_age_s */
};

/* Any thread. */
void publisher_read_stats(const struct publisher *publisher, struct publisher_stats *stats);
