/*
 * Finds out which Redis is the master of which slot: asks one known node after the other for CLUSTER SLOTS, first the
 * masters of the last answer, then the configured nodes. On the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cluster/redis/redis_pipeline.h"
#include "cluster/redis/redis_topology.h"
#include "config/config.h"

struct redis_finder_events {
    /* The topology is there; `asked` is the node that gave it. */
    void (*found)(void *context, const struct redis_place *asked);
    void (*failed)(void *context, const char *why);
    void *context;
};

struct redis_finder {
    struct loop *loop;
    struct redis_finder_events events;
    const struct redis_access *access; /* of every node */
    struct redis_place *seeds;
    size_t seed_count;
    struct redis_topology topology; /* the last answer */

    struct redis_pipeline pipeline;
    struct redis_request request;
    struct redis_place place; /* that is asked */
    size_t next;              /* the place to ask first: of `topology`, then of the seeds */
    size_t left;              /* places that may still be asked */
    uint64_t ends_ms;
};

/* Takes the nodes of the configuration. `access` outlives the finder. Dispose of it in the end. */
void redis_finder_init(struct redis_finder *finder, struct loop *loop, const struct config *config,
                       const struct redis_access *access, const struct redis_finder_events *events);
void redis_finder_dispose(struct redis_finder *finder);

/* Asks; either `found` or `failed` follows within `timeout_ms`. */
void redis_finder_ask(struct redis_finder *finder, uint64_t timeout_ms);
/* Ends the question without an answer. */
void redis_finder_close(struct redis_finder *finder);

/* The number of known nodes. */
size_t redis_finder_place_count(const struct redis_finder *finder);

/* The node that was asked last is to be asked last. */
void redis_finder_skip(struct redis_finder *finder);
