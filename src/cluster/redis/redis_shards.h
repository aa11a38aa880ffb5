/*
 * The bus of a Redis Cluster with sharded pub/sub (Redis 7): each subject is with the master of its slot, so that the
 * masters share the load.
 *
 *   locating (CLUSTER SLOTS) ---> connecting (two connections to each master) ---> up ---> down: pause, and again
 *
 * It is up while all connections are: a master that fails, or a connection that breaks, is an outage of the whole,
 * until all slots have a master again (bus.h says why). For Redis Cluster itself a failed master is an outage, too,
 * unless cluster-require-full-coverage is off.
 *
 * A slot that moves is an outage of a moment for its subjects. The old master says so (`sunsubscribe`, MOVED), and is
 * asked for the topology; then the subjects are subscribed to at the new one. What is published meanwhile waits, in
 * order (redis_slot_queue.h).
 *
 *   redis_shard.h     one master: two connections, and whether they work
 *   redis_slots.h     what belongs to each slot, and how it moves from one master to another
 *   redis_masters.h   all masters, and the topology while the bus is up
 *   redis_finder.h    the topology before that
 */
#pragma once

#include "cluster/bus.h"

/* As `create` of a driver. */
struct bus *redis_shards_create(struct loop *loop, const struct config *config, const struct bus_events *events,
                                struct error *error);
