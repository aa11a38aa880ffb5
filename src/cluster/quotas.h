/*
 * Connections per app across nodes: each node tells its own, and `max_connections` is checked against the own exact
 * count and what the others said last.
 *
 * Only apps that have a limit are told: what has changed every 100 ms, and all of them in hello, in its answer, and
 * once a minute. While this node is alone nothing is read.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"
#include "cluster/cluster_core.h"

struct quotas;

/* Adds the part to the core, which frees it. */
struct quotas *quotas_create(struct cluster_core *core);

/* The connections of an app on all other nodes. Any thread. */
uint64_t quotas_of_others(struct quotas *quotas, struct slice app);
