/* The messages of a slot that moves: in order, and lost rather than reordered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cluster/redis/redis_slot_queue.h"

static struct redis_slot_queue queue;
static struct bus_bytes *bytes;

static int enter_slot(void **state) {
    (void)state;
    redis_slot_queue_init(&queue);
    bytes = bus_bytes_create(10);
    memset(bytes->data, 'x', bytes->length);
    return 0;
}

static int leave_slot(void **state) {
    (void)state;
    redis_slot_queue_clear(&queue);
    assert_int_equal(atomic_load(&bytes->references), 1);
    bus_bytes_unref(bytes);
    return 0;
}

static void add(struct list *list, const char *subject) {
    struct redis_publication *publication = redis_publication_create(slice_of(subject), bytes, 7);

    assert_int_equal(publication->slot, 7);
    list_append(list, &publication->link);
}

/* NULL: nothing waits. */
static void assert_next(const char *subject) {
    struct redis_publication *publication = redis_slot_queue_take(&queue);

    if (subject == NULL) {
        assert_null(publication);
        return;
    }
    assert_non_null(publication);
    assert_true(slice_equal(redis_publication_subject(publication), slice_of(subject)));
    redis_publication_free(publication);
}

static void what_was_refused_goes_before_what_waits(void **state) {
    (void)state;
    add(&queue.waiting, "third");
    add(&queue.refused, "first");
    add(&queue.waiting, "fourth");
    add(&queue.refused, "second");
    assert_next("first");
    assert_next("second");
    assert_next("third");
    assert_next("fourth");
    assert_next(NULL);
}

static void what_a_later_message_has_overtaken_is_dropped(void **state) {
    (void)state;
    add(&queue.refused, "first");
    add(&queue.refused, "second");
    add(&queue.waiting, "third");
    assert_int_equal(redis_slot_queue_clear_refused(&queue), 20);
    assert_int_equal(redis_slot_queue_clear_refused(&queue), 0);
    assert_next("third");
    assert_next(NULL);
}

static void all_that_waits_is_dropped_with_the_connection(void **state) {
    (void)state;
    add(&queue.refused, "first");
    add(&queue.waiting, "second");
    assert_int_equal(redis_slot_queue_clear(&queue), 20);
    assert_next(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_refused_goes_before_what_waits, enter_slot, leave_slot),
        cmocka_unit_test_setup_teardown(what_a_later_message_has_overtaken_is_dropped, enter_slot, leave_slot),
        cmocka_unit_test_setup_teardown(all_that_waits_is_dropped_with_the_connection, enter_slot, leave_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
