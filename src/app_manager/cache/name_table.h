/*
 * A hash table from names to whatever they stand for, that workers read without a lock while one writer changes it.
 *
 * Nodes are chained in buckets and live inside the user's structures. A reader follows pointers that are each stored
 * whole; it may miss a name while the table grows, never find a wrong one, so it asks again under the writer's lock
 * before it takes a miss for an answer. What is removed must outlive the readers' turns: see net/reclaim.h.
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
    size_t count; /* of nodes; the writer's */
};

void name_table_init(struct name_table *table);

/* Frees the buckets; the nodes are the user's. */
void name_table_dispose(struct name_table *table);

/* The node of that name, or NULL. A worker within its turn, or under the writer's lock. `hash` is the text's. */
struct name_node *name_table_find(const struct name_table *table, struct slice text, uint64_t hash);

/* Adds a node, whose text and hash are set and whose name is not in the table. Under the writer's lock. */
void name_table_add(struct name_table *table, struct name_node *node, struct reclaimer *reclaimer);

/* Takes out a node that is in the table. Under the writer's lock. */
void name_table_remove(struct name_table *table, struct name_node *node);
