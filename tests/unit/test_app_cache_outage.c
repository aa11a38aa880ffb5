/* The cache in front of a store that cannot be asked: what is served meanwhile, and how it ends. The store is SQLite,
 * on a disk that the test lets hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "app_cache_fixture.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"

/* --- a store that fails --- */

static void without_the_store_known_apps_are_served_and_unknown_ones_unavailable(void **state) {
    (void)state;
    fixture_open("\"ttl\":1,\"negative_ttl\":0", 1000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    assert_int_equal(app_manager_health(fixture.manager), APP_HEALTH_OK);
    fixture_lose_store();
    for (uint64_t end_ms = clock_monotonic_ms() + 2500; clock_monotonic_ms() < end_ms; poll(NULL, 0, 20)) {
        assert_int_equal(fixture_by_key("ka"), APP_FOUND);
        assert_int_equal(fixture_by_key("unknown"), APP_UNAVAILABLE);
    }
    assert_int_equal(app_manager_health(fixture.manager), APP_HEALTH_DEGRADED);
    assert_true(fixture_lookups().stale > 0);
    assert_true(fixture_lookups().errors > 0);
    assert_int_equal(fixture_lookups().outages, 1);
    fixture_bring_back_store();
    fixture_until(true, "unknown", APP_NOT_FOUND, 0);
    assert_int_equal(app_manager_health(fixture.manager), APP_HEALTH_OK);
    fixture_run_sql("UPDATE applications SET max_connections = 9 WHERE id = 'a'");
    fixture_until(true, "ka", APP_FOUND, 9);
}

static void who_waits_for_a_store_that_hangs_in_the_kernel_is_told_to_come_back_in_time(void **state) {
    uint64_t began_ms;

    (void)state;
    fixture_use_hanging_disk();
    fixture_open("\"ttl\":1,\"stale_if_error\":3600", 300);
    fixture_until(true, "ka", APP_FOUND, 1);
    fixture_insert("b", "kb", "2");
    fixture_let_disk_hang(true);
    began_ms = clock_monotonic_ms();
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(fixture_by_key("kb"), APP_UNAVAILABLE);
    assert_in_range(clock_monotonic_ms() - began_ms, 300, FIXTURE_TIMEOUT_MS);
    /* Known apps are served all the same, long after the end of their time. */
    while (clock_monotonic_ms() < began_ms + 1500)
        poll(NULL, 0, 10);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    fixture_let_disk_hang(false);
    fixture_until(true, "kb", APP_FOUND, 2);
}

static void the_end_does_not_wait_for_a_store_that_hangs_in_the_kernel(void **state) {
    unsigned before;

    (void)state;
    fixture_use_hanging_disk();
    fixture_open("", 60000);
    fixture_until(true, "ka", APP_FOUND, 1);
    fixture_insert("b", "kb", "2");
    fixture_let_disk_hang(true);
    before = fixture.answered;
    assert_int_equal(fixture_start(&fixture.last, 0, true, "kb"), APP_PENDING);
    fixture_await_hanging();
    assert_false(app_manager_stop(fixture.manager));
    fixture_let_disk_hang(false);
    assert_true(app_manager_stop(fixture.manager));
    fixture_await_answers(before + 1);
}

static void more_names_than_can_be_asked_for_are_no_outage(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 2000, sizeof *lookups);
    unsigned unavailable = 0;
    char name[32];

    (void)state;
    fixture_use_hanging_disk();
    fixture_open("", 60000);
    fixture_until(true, "ka", APP_FOUND, 1);
    fixture_let_disk_hang(true);
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "unknown-%u", i);
        fixture_start(&lookups[i], i % FIXTURE_WORKERS, true, name);
    }
    fixture_settle();
    for (unsigned i = 0; i < 2000; i++)
        unavailable += lookups[i].answer == APP_UNAVAILABLE;
    assert_in_range(unavailable, 900, 1000);
    assert_int_equal(fixture_lookups().outages, 0);
    assert_int_equal(app_manager_health(fixture.manager), APP_HEALTH_OK);
    fixture_let_disk_hang(false);
    fixture_await_answers(fixture.answered + 2000 - unavailable);
    assert_int_equal(fixture_lookups().outages, 0);
    free(lookups);
}

static void a_store_that_was_never_there_is_an_error_until_it_comes(void **state) {
    (void)state;
    fixture_lose_store();
    fixture_open("\"negative_ttl\":0", 1000);
    assert_int_equal(fixture_by_key("ka"), APP_UNAVAILABLE);
    assert_int_equal(app_manager_health(fixture.manager), APP_HEALTH_ERROR);
    fixture_bring_back_store();
    fixture_until(true, "ka", APP_FOUND, 1);
    assert_int_equal(app_manager_health(fixture.manager), APP_HEALTH_OK);
}

static void nothing_stale_is_served_beyond_its_time(void **state) {
    (void)state;
    fixture_open("\"ttl\":1,\"stale_if_error\":1", 1000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    fixture_lose_store();
    fixture_until(true, "ka", APP_UNAVAILABLE, 0);
    fixture_bring_back_store();
    fixture_until(true, "ka", APP_FOUND, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(without_the_store_known_apps_are_served_and_unknown_ones_unavailable),
        TEST(who_waits_for_a_store_that_hangs_in_the_kernel_is_told_to_come_back_in_time),
        TEST(the_end_does_not_wait_for_a_store_that_hangs_in_the_kernel),
        TEST(more_names_than_can_be_asked_for_are_no_outage),
        TEST(a_store_that_was_never_there_is_an_error_until_it_comes),
        TEST(nothing_stale_is_served_beyond_its_time),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
