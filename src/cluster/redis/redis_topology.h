/*
 * Which Redis is the master of which slot, as the answer to CLUSTER SLOTS says. For one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cluster/redis/redis_connection.h"
#include "cluster/redis/redis_slot.h"
#include "cluster/redis/redis_value.h"

/* Redis Cluster is made for up to 1000 nodes. */
#define REDIS_MASTERS_MAX 1000

/* The place of a slot that has no master. */
#define REDIS_NO_MASTER UINT16_MAX

/* Zeroed: it knows nothing. */
struct redis_topology {
    struct redis_place *masters;
    size_t master_count;
    uint16_t owners[REDIS_SLOTS]; /* indices into `masters` */
    size_t unowned;               /* slots whose owner is REDIS_NO_MASTER */
};

/*
 * Reads an answer; `asked` is the node that gave it, whose address stands for one that the answer leaves out. False
 * with an error if it is no such answer, or a slot has no master; the topology is unchanged then.
 */
bool redis_topology_read(struct redis_topology *topology, const struct redis_value *value,
                         const struct redis_place *asked, struct error *error);

/* The same, but some slots may have no master. */
bool redis_topology_read_partly(struct redis_topology *topology, const struct redis_value *value,
                                const struct redis_place *asked, struct error *error);

void redis_topology_dispose(struct redis_topology *topology);

/* Reads an answer to CLUSTER NODES. False: the node that gave it cannot reach most of the masters that have slots, so
 * it is cut off from the others, or all of them fail. A node that does not answer this is trusted. */
bool redis_nodes_reach_most(const struct redis_value *value);

static inline bool redis_place_equal(const struct redis_place *a, const struct redis_place *b) {
    return a->port == b->port && slice_equal(slice_of(a->host), slice_of(b->host));
}
