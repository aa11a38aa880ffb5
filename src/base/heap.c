#include "base/heap.h"

#include <stdlib.h>

#include "base/alloc.h"

void heap_dispose(struct heap *heap) {
    free(heap->nodes);
    *heap = (struct heap){0};
}

static void put_node(struct heap *heap, size_t place, struct heap_node *node) {
    heap->nodes[place - 1] = node;
    node->place = place;
}

/* Moves `node`, which is to stand at `place` or above, up to where its key belongs. */
static void move_node_up(struct heap *heap, size_t place, struct heap_node *node) {
    while (place > 1 && heap->nodes[place / 2 - 1]->key > node->key) {
        put_node(heap, place, heap->nodes[place / 2 - 1]);
        place /= 2;
    }
    put_node(heap, place, node);
}

/* The same downwards. */
static void move_node_down(struct heap *heap, size_t place, struct heap_node *node) {
    while (2 * place <= heap->count) {
        size_t child = 2 * place;

        if (child < heap->count && heap->nodes[child]->key < heap->nodes[child - 1]->key)
            child++;
        if (heap->nodes[child - 1]->key >= node->key)
            break;
        put_node(heap, place, heap->nodes[child - 1]);
        place = child;
    }
    put_node(heap, place, node);
}

void heap_set(struct heap *heap, struct heap_node *node, uint64_t key) {
    if (node->place == 0) {
        if (heap->count == heap->capacity) {
            heap->capacity = heap->capacity != 0 ? 2 * heap->capacity : 16;
            heap->nodes = alloc_array(heap->nodes, heap->capacity, sizeof(struct heap_node *));
        }
        node->key = key;
        move_node_up(heap, ++heap->count, node);
    } else if (key < node->key) {
        node->key = key;
        move_node_up(heap, node->place, node);
    } else if (key > node->key) {
        node->key = key;
        move_node_down(heap, node->place, node);
    }
}

void heap_unlink(struct heap *heap, struct heap_node *node) {
    struct heap_node *last;
    size_t place = node->place;

    if (place == 0)
        return;
    last = heap->nodes[--heap->count];
    node->place = 0;
    if (last == node)
        return;
    if (place > 1 && heap->nodes[place / 2 - 1]->key > last->key)
        move_node_up(heap, place, last);
    else
        move_node_down(heap, place, last);
}
