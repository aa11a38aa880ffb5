/* The heap: the smallest key is first, whatever changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/heap.h"

#define NODES 200

static void the_node_with_the_smallest_key_is_first(void **state) {
    static struct heap_node nodes[NODES];
    struct heap heap = {0};
    size_t in_heap = 0;

    (void)state;
    srand(7);
    for (int step = 0; step < 20000; step++) {
        struct heap_node *node = &nodes[rand() % NODES];
        uint64_t smallest = UINT64_MAX;

        if (rand() % 3 == 0)
            heap_unlink(&heap, node);
        else
            heap_set(&heap, node, (uint64_t)(rand() % 1000));
        in_heap = 0;
        for (size_t i = 0; i < NODES; i++) {
            if (nodes[i].place == 0)
                continue;
            in_heap++;
            if (nodes[i].key < smallest)
                smallest = nodes[i].key;
        }
        assert_int_equal(heap.count, in_heap);
        assert_int_equal(heap_first(&heap) != NULL ? heap_first(&heap)->key : UINT64_MAX, smallest);
    }
    heap_dispose(&heap);
}

static void an_empty_heap_has_no_first_node(void **state) {
    struct heap_node node = {0};
    struct heap heap = {0};

    (void)state;
    assert_null(heap_first(&heap));
    heap_unlink(&heap, &node);
    heap_set(&heap, &node, 3);
    assert_ptr_equal(heap_first(&heap), &node);
    heap_unlink(&heap, &node);
    assert_null(heap_first(&heap));
    heap_dispose(&heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_node_with_the_smallest_key_is_first),
        cmocka_unit_test(an_empty_heap_has_no_first_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
