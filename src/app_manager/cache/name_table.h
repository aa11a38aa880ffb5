/*
 * A hash table of names, which workers read without a lock while one writer changes it.
 *
 * Nodes are chained in buckets and embedded in the user's structures. Readers follow pointers that are stored
 * atomically. A reader may miss a name while the table grows, but never finds a wrong one: it repeats a failed search
 * under the writer's lock. A node that is removed, and the buckets that a bigger table replaces, must stay allocated
 * until the readers' turns have ended: see net/reclaim.h.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/slice.h"
#include "net/reclaim.h"

struct name_node {
    _Atomic(struct name_node *) next;
    uint64_t hash;
    struct slice text;
};

struct name_buckets {
    size_t count; /* a power of two */
    _Atomic(struct name_node *) heads[];
};

struct name_table {
    _Atomic(struct name_buckets *) buckets;
    size_t count; /* of nodes; under the writer's lock */
};

void name_table_init(struct name_table *table);

/* Frees the buckets. The nodes are the user's. */
void name_table_dispose(struct name_table *table);

/* Returns the node of that name, or NULL. On a worker within its turn, or under the writer's lock. `hash` is
 * hash_bytes(text). */
struct name_node *name_table_find(const struct name_table *table, struct slice text, uint64_t hash);

/* Adds a node with its text and hash set, whose name is not in the table. Buckets that were replaced go to `unlinked`.
 * Under the writer's lock. */
void name_table_add(struct name_table *table, struct name_node *node, struct reclaim_batch *unlinked);

/* Removes a node that is in the table. Under the writer's lock. */
void name_table_remove(struct name_table *table, struct name_node *node);
