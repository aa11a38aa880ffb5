/*
 * A binary heap whose nodes are members of the structures in it: the one with the smallest key is found at once, and a
 * key changes in logarithmic time. Not thread-safe.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Zeroed: in no heap. */
struct heap_node {
    uint64_t key;
    size_t place; /* in `nodes`, counted from 1; 0: in no heap */
};

/* Zero-initialise it. */
struct heap {
    struct heap_node **nodes;
    size_t count;
    size_t capacity;
};

/* Frees the array; the nodes belong to their owners. */
void heap_dispose(struct heap *heap);

/* Gives `node` the key, and adds it if it is not in the heap. */
void heap_set(struct heap *heap, struct heap_node *node, uint64_t key);

/* Removes `node`; does nothing if it is in no heap. */
void heap_unlink(struct heap *heap, struct heap_node *node);

/* The node with the smallest key; NULL: the heap is empty. */
static inline struct heap_node *heap_first(const struct heap *heap) {
    return heap->count > 0 ? heap->nodes[0] : NULL;
}
