/*
 * The store of keys in a Redis Cluster (cache.driver "redis-cluster"): a connection to each master, and each command to
 * the master of its key's slot.
 *
 *   locating (CLUSTER SLOTS) ---> connecting ---> up ---> down: pause, and again
 *
 * It is up while the connections to all masters are. A command that a master sends elsewhere (MOVED, ASK) follows when
 * the slot's other commands are answered; those that come meanwhile wait behind it. So the commands about a key are
 * carried out in their order.
 */
#pragma once

#include "cluster/key_store.h"

extern const struct key_store_driver redis_cluster_store_driver;
