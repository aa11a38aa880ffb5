/* Which entries of the cache have to go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app_manager/cache/cache_eviction.h"

static struct eviction_candidates candidates;
static struct cache_entry *entries; /* never looked into: their addresses tell them apart */

static int tear_down(void **state) {
    (void)state;
    eviction_dispose(&candidates);
    return 0;
}

static struct cache_entry *entry_at(size_t i) {
    return (struct cache_entry *)((char *)&entries + i);
}

static void add(size_t i, uint64_t used_ms, bool expired) {
    eviction_add(&candidates, entry_at(i), used_ms, expired);
}

static void nothing_goes_within_the_capacity(void **state) {
    (void)state;
    assert_int_equal(eviction_choose(&candidates, 0), 0);
    add(0, 10, false);
    add(1, 20, false);
    assert_int_equal(eviction_choose(&candidates, 2), 0);
    assert_int_equal(eviction_choose(&candidates, 100), 0);
}

static void beyond_the_capacity_the_least_recently_used_go_and_a_sixteenth_more(void **state) {
    (void)state;
    for (unsigned i = 0; i < 40; i++)
        add(i, 1000 - i, false);
    assert_int_equal(eviction_choose(&candidates, 32), 40 - 32 + 2);
    for (unsigned i = 0; i < 10; i++)
        assert_ptr_equal(candidates.list[i].entry, entry_at(39 - i));
}

static void expired_entries_go_first_and_whatever_the_capacity(void **state) {
    (void)state;
    add(0, 10, false);
    add(1, 2000, true);
    add(2, 20, false);
    assert_int_equal(eviction_choose(&candidates, 100), 1);
    assert_ptr_equal(candidates.list[0].entry, entry_at(1));
    assert_int_equal(eviction_choose(&candidates, 1), 2);
    assert_ptr_equal(candidates.list[0].entry, entry_at(1));
    assert_ptr_equal(candidates.list[1].entry, entry_at(0));
}

static void without_capacity_all_go(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2000; i++)
        add(i, i + 1, false);
    assert_int_equal(eviction_choose(&candidates, 0), 2000);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(nothing_goes_within_the_capacity),
        TEST(beyond_the_capacity_the_least_recently_used_go_and_a_sixteenth_more),
        TEST(expired_entries_go_first_and_whatever_the_capacity),
        TEST(without_capacity_all_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
