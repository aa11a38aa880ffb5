#include "app_manager/cache/name_table.h"

#include <stdlib.h>

#include "base/alloc.h"

#define FIRST_BUCKETS 64

static struct name_buckets *buckets_create(size_t count) {
    struct name_buckets *buckets = alloc_zero(sizeof *buckets + count * sizeof buckets->heads[0]);

    buckets->count = count;
    return buckets;
}

void name_table_init(struct name_table *table) {
    atomic_init(&table->buckets, buckets_create(FIRST_BUCKETS));
    table->count = 0;
}

void name_table_dispose(struct name_table *table) {
    free(atomic_load(&table->buckets));
}

static _Atomic(struct name_node *) *head_of(struct name_buckets *buckets, uint64_t hash) {
    return &buckets->heads[hash & (buckets->count - 1)];
}

struct name_node *name_table_find(const struct name_table *table, struct slice text, uint64_t hash) {
    struct name_buckets *buckets = atomic_load_explicit(&table->buckets, memory_order_acquire);
    struct name_node *node = atomic_load_explicit(head_of(buckets, hash), memory_order_acquire);

    while (node != NULL && !(node->hash == hash && slice_equal(node->text, text)))
        node = atomic_load_explicit(&node->next, memory_order_acquire);
    return node;
}

static void push_node(struct name_buckets *buckets, struct name_node *node) {
    _Atomic(struct name_node *) *head = head_of(buckets, node->hash);

    atomic_store_explicit(&node->next, atomic_load_explicit(head, memory_order_relaxed), memory_order_release);
    atomic_store_explicit(head, node, memory_order_release);
}

/*
 * Moves the nodes one by one into twice as many buckets. A reader in an old bucket may be led into a new chain and miss
 * its name, but every chain ends: the `next` of a node is either a node not moved yet or one that was moved before it.
 */
static void grow_table(struct name_table *table, struct reclaim_batch *unlinked) {
    struct name_buckets *old = atomic_load_explicit(&table->buckets, memory_order_relaxed);
    struct name_buckets *buckets = buckets_create(old->count * 2);

    for (size_t i = 0; i < old->count; i++) {
        struct name_node *node = atomic_load_explicit(&old->heads[i], memory_order_relaxed);
        while (node != NULL) {
            struct name_node *next = atomic_load_explicit(&node->next, memory_order_relaxed);
            push_node(buckets, node);
            node = next;
        }
    }
    atomic_store_explicit(&table->buckets, buckets, memory_order_release);
    reclaim_batch_add_memory(unlinked, old);
}

void name_table_add(struct name_table *table, struct name_node *node, struct reclaim_batch *unlinked) {
    if (table->count >= atomic_load_explicit(&table->buckets, memory_order_relaxed)->count)
        grow_table(table, unlinked);
    push_node(atomic_load_explicit(&table->buckets, memory_order_relaxed), node);
    table->count++;
}

void name_table_remove(struct name_table *table, struct name_node *node) {
    struct name_buckets *buckets = atomic_load_explicit(&table->buckets, memory_order_relaxed);
    _Atomic(struct name_node *) *link = head_of(buckets, node->hash);
    struct name_node *at;

    while ((at = atomic_load_explicit(link, memory_order_relaxed)) != node)
        link = &at->next;
    /* The node keeps its `next`: a reader that is at it continues from there. */
    atomic_store_explicit(link, atomic_load_explicit(&node->next, memory_order_relaxed), memory_order_release);
    table->count--;
}
