/* The set of Origin headers: one text for all sessions that have it, and no memory when there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "session/origin_set.h"

#define MANY 1000

static struct origin_set set;

static struct origin *take_numbered(unsigned number) {
    char text[40];

    snprintf(text, sizeof text, "https://%u.example", number);
    return origin_set_take(&set, slice_of(text));
}

static void assert_owns_nothing(void) {
    assert_int_equal(set.count, 0);
    assert_int_equal(set.capacity, 0);
    assert_null(set.buckets);
}

static void the_same_text_is_one_origin(void **state) {
    struct origin *first = take_numbered(1), *other = take_numbered(2);

    (void)state;
    assert_ptr_not_equal(first, other);
    for (unsigned i = 0; i < MANY; i++)
        assert_ptr_equal(take_numbered(1), first);
    assert_int_equal(set.count, 2);
    assert_true(slice_equal(origin_text(first), SLICE("https://1.example")));
    for (unsigned i = 0; i < MANY; i++)
        origin_set_release(&set, first);
    assert_ptr_equal(take_numbered(1), first);
    origin_set_release(&set, first);
    origin_set_release(&set, first);
    assert_int_equal(set.count, 1);
    origin_set_release(&set, other);
    assert_owns_nothing();
}

static void it_grows_with_different_texts_and_ends_without_memory(void **state) {
    struct origin *origins[MANY];

    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        origins[i] = take_numbered(i);
    assert_int_equal(set.count, MANY);
    assert_true(set.capacity >= MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_ptr_equal(take_numbered(i), origins[i]);
    for (unsigned i = 0; i < 2 * MANY; i++)
        origin_set_release(&set, origins[i % MANY]);
    assert_owns_nothing();
}

static void a_text_that_no_page_has_is_kept_as_null(void **state) {
    char text[ORIGIN_MAX_BYTES + 1];
    struct origin *longest, *longer, *empty;

    (void)state;
    memset(text, 'x', sizeof text);
    longest = origin_set_take(&set, (struct slice){text, ORIGIN_MAX_BYTES});
    longer = origin_set_take(&set, (struct slice){text, sizeof text});
    empty = origin_set_take(&set, SLICE(""));
    assert_int_equal(origin_text(longest).length, ORIGIN_MAX_BYTES);
    assert_true(slice_equal(origin_text(longer), SLICE("null")));
    assert_true(origin_text(empty).data != NULL);
    assert_null(origin_text(NULL).data);
    origin_set_release(&set, longest);
    origin_set_release(&set, longer);
    origin_set_release(&set, empty);
    origin_set_release(&set, NULL);
    assert_owns_nothing();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_text_is_one_origin),
        cmocka_unit_test(it_grows_with_different_texts_and_ends_without_memory),
        cmocka_unit_test(a_text_that_no_page_has_is_kept_as_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
