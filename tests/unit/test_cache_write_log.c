/* The log of recent writes: which answers may be older than one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "app_manager/cache/cache_write_log.h"

#define KEEP_MS 1000

static struct write_log writes;

static int set_up(void **state) {
    (void)state;
    write_log_init(&writes, KEEP_MS);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    write_log_dispose(&writes);
    return 0;
}

static void add(const char *id, const char *old_key, const char *new_key, uint64_t now_ms) {
    write_log_add(&writes, slice_of(id), slice_of(old_key), slice_of(new_key), now_ms);
}

static bool concerns(uint64_t since, const char *id, const char *key) {
    return write_log_concerns(&writes, since, slice_of(id), slice_of(key));
}

static void a_write_concerns_its_id_and_both_keys_and_nothing_else(void **state) {
    uint64_t since = write_log_version(&writes);

    (void)state;
    add("a", "old", "new", 0);
    assert_true(concerns(since, "a", ""));
    assert_true(concerns(since, "", "old"));
    assert_true(concerns(since, "", "new"));
    assert_true(concerns(since, "other", "new"));
    assert_false(concerns(since, "b", "other"));
    assert_false(concerns(since, "old", "a"));
    assert_false(concerns(since, "", ""));
}

static void a_write_without_keys_does_not_concern_an_empty_key(void **state) {
    uint64_t since = write_log_version(&writes);

    (void)state;
    add("a", "", "", 0);
    assert_true(concerns(since, "a", ""));
    assert_false(concerns(since, "b", ""));
}

static void only_later_writes_count(void **state) {
    uint64_t between;

    (void)state;
    add("a", "", "", 0);
    between = write_log_version(&writes);
    assert_false(concerns(between, "a", ""));
    add("b", "", "", 0);
    assert_true(concerns(between, "b", ""));
    add("a", "", "", 0);
    assert_true(concerns(between, "a", ""));
    assert_int_equal(write_log_version(&writes), between + 2);
}

static void a_write_of_any_app_concerns_all_that_began_before(void **state) {
    uint64_t since = write_log_version(&writes);

    (void)state;
    write_log_add_any(&writes);
    assert_true(concerns(since, "a", ""));
    assert_true(concerns(since, "", "key"));
    assert_false(concerns(write_log_version(&writes), "a", ""));
}

static void writes_are_forgotten_after_their_time_and_then_concern_everything_before(void **state) {
    uint64_t first = write_log_version(&writes), second;

    (void)state;
    add("a", "", "", 0);
    second = write_log_version(&writes);
    add("b", "", "", 500);
    write_log_trim(&writes, KEEP_MS - 1);
    assert_int_equal(writes.count, 2);
    assert_false(concerns(first, "c", ""));
    write_log_trim(&writes, KEEP_MS);
    assert_int_equal(writes.count, 1);
    assert_true(concerns(first, "c", "")); /* it is not known any more */
    assert_false(concerns(second, "c", ""));
    assert_true(concerns(second, "b", ""));
}

static void the_number_of_writes_is_bounded(void **state) {
    uint64_t since = write_log_version(&writes);
    char id[16];

    (void)state;
    for (unsigned i = 0; i < WRITE_LOG_MAX + 100; i++) {
        snprintf(id, sizeof id, "%u", i);
        add(id, "", "", 0);
    }
    assert_int_equal(writes.count, WRITE_LOG_MAX);
    assert_true(concerns(since + 99, "not written", ""));
    assert_false(concerns(since + 100, "not written", ""));
    assert_true(concerns(since + 100, "100", ""));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_write_concerns_its_id_and_both_keys_and_nothing_else),
        TEST(a_write_without_keys_does_not_concern_an_empty_key),
        TEST(only_later_writes_count),
        TEST(a_write_of_any_app_concerns_all_that_began_before),
        TEST(writes_are_forgotten_after_their_time_and_then_concern_everything_before),
        TEST(the_number_of_writes_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
