/*
 * The masters of a Redis Cluster with sharded pub/sub: the shards of the newest topology, and the question for the next
 * one (CLUSTER SLOTS), which goes to the master that knows most. On the cluster's thread.
 */
#pragma once

#include "cluster/redis/redis_slots.h"
#include "cluster/redis/redis_topology.h"

struct redis_masters {
    struct redis_shard_settings settings;
    struct redis_slots *slots;       /* which are assigned to the masters */
    struct redis_topology *topology; /* the newest */
    struct redis_shard **shards;     /* its masters */
    struct redis_shard **former;     /* that are not in it, and are freed after a while */
    size_t shard_count, former_count;
    struct loop_timer refresh, sweep;
    uint64_t refreshed_ms;
    struct redis_request question;
    struct redis_shard *asked; /* NULL: none is */
    struct redis_shard *next;  /* the one to ask then: it told of a change; NULL: any */
    bool ask_again;
};

/* No masters. What the settings name, the slots and the topology outlive them. Dispose of them in the end, before the
 * slots. */
void redis_masters_init(struct redis_masters *masters, const struct redis_shard_settings *settings,
                        struct redis_slots *slots, struct redis_topology *topology);
void redis_masters_dispose(struct redis_masters *masters);

/* The topology is new: makes its masters the shards, connects to them within `timeout_ms`, and begins to move the slots
 * to them. */
void redis_masters_apply(struct redis_masters *masters, uint64_t timeout_ms);

/* Closes all connections without `lost`. */
void redis_masters_close(struct redis_masters *masters);

/* The bus is up: subscribes at all masters, and reads the topology again from time to time. */
void redis_masters_begin(struct redis_masters *masters);

/* While the bus is up: reads the topology soon, as this master tells it. */
void redis_masters_ask(struct redis_masters *masters, struct redis_shard *teller);

/* True if all masters are ready. */
bool redis_masters_are_ready(const struct redis_masters *masters);

/* True if each command to a master was answered. */
bool redis_masters_are_idle(const struct redis_masters *masters);

/* Bytes that are not handed to the kernel yet. */
size_t redis_masters_waiting(const struct redis_masters *masters);

/* Writes what was appended. */
void redis_masters_flush(struct redis_masters *masters);
