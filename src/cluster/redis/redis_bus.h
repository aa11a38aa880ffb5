/*
 * The bus drivers `redis`: one Redis, by itself or found by Sentinel; and `redis-cluster`: one node of a Redis Cluster,
 * which passes messages on to the others.
 *
 *   locating (Sentinel, CLUSTER SLOTS) ---> connecting (two connections) ---> checking ---> up ---> down: pause, again
 *
 * It is up only when both connections are, and a message that the publisher sent has reached the subscriber: what is
 * subscribed to is then what is published. Each connection is probed, and the server must stay a master. What is lost
 * with one connection is lost with both, and both are opened anew.
 *
 * A node of a Redis Cluster must reach most of the masters, by its own word (CLUSTER NODES, with each probe), since it
 * would pass no messages on. If no node does, the bus stays with one that can be reached. The masters are read anew
 * every minute, for when another one is needed.
 *
 * The message that checks this has a subject of its own, `<prefix>curlew1:probe:<random>`, so that a node's inbox holds
 * messages of nodes only.
 */
#pragma once

#include "cluster/bus.h"
#include "cluster/redis/redis_pipeline.h"
#include "config/config_redis.h"

extern const struct bus_driver redis_bus_driver, redis_cluster_bus_driver;

/* True if the bus is of this driver, and publishes to this server, with the same user and database; `sentinel`: the
 * master that Sentinel names. */
bool redis_bus_publishes_to(const struct bus *bus, const struct config_redis_server *server, bool sentinel);

/* The connection that publishes, for other commands; NULL while the bus is down. */
struct redis_pipeline *redis_bus_publisher(struct bus *bus);
