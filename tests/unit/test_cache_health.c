/* The health of the store, by the answers of its operations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app_manager/cache/cache_health.h"

#define TIMEOUT_MS 5000

static struct store_health health;

static int set_up(void **state) {
    (void)state;
    store_health_init(&health, TIMEOUT_MS);
    return 0;
}

/* Operations that came to a connection, or failed to open one. */
static bool answers(uint64_t now_ms) {
    return store_health_note(&health, true, false, now_ms);
}

static bool fails(uint64_t now_ms) {
    return store_health_note(&health, true, true, now_ms);
}

static void a_store_that_was_never_there_is_an_error_until_something_is_known(void **state) {
    (void)state;
    assert_int_equal(store_health_state(&health), APP_HEALTH_ERROR);
    assert_true(fails(1000));
    assert_int_equal(store_health_state(&health), APP_HEALTH_ERROR);
    assert_true(answers(2000));
    assert_int_equal(store_health_state(&health), APP_HEALTH_OK);
    health.ever_loaded = true;
    assert_true(fails(3000));
    assert_int_equal(store_health_state(&health), APP_HEALTH_DEGRADED);
}

static void an_outage_is_news_when_it_begins_and_when_it_ends(void **state) {
    (void)state;
    assert_false(answers(1000));
    assert_true(fails(2000));
    assert_false(fails(3000));
    assert_int_equal(health.outages, 1);
    assert_true(answers(4000));
    assert_false(answers(5000));
    assert_true(fails(6000));
    assert_int_equal(health.outages, 2);
}

static void an_operation_without_a_connection_is_an_outage_only_if_nothing_was_answered_for_as_long(void **state) {
    (void)state;
    assert_false(answers(1000));
    assert_false(store_health_note(&health, false, true, 1000 + TIMEOUT_MS - 1));
    assert_int_equal(store_health_state(&health), APP_HEALTH_OK);
    assert_true(store_health_note(&health, false, true, 1000 + TIMEOUT_MS));
    assert_true(health.outage);
}

static void an_operation_without_a_connection_is_an_outage_if_the_store_never_answered(void **state) {
    (void)state;
    assert_true(store_health_note(&health, false, true, 1));
}

static void an_answer_is_known_for_a_second_and_an_outage_as_long_as_it_lasts(void **state) {
    (void)state;
    answers(5000);
    assert_true(store_health_known(&health, 5999));
    assert_false(store_health_known(&health, 6000));
    fails(7000);
    assert_true(store_health_known(&health, 70000));
}

static void a_store_in_an_outage_is_probed_once_a_second_by_one_probe_at_a_time(void **state) {
    (void)state;
    answers(5000);
    assert_false(store_health_begin_probe(&health, 5000));
    fails(6000);
    assert_true(store_health_begin_probe(&health, 6000));
    assert_false(store_health_begin_probe(&health, 9000)); /* the first one hangs */
    store_health_end_probe(&health);
    assert_true(store_health_begin_probe(&health, 9000));
    store_health_end_probe(&health);
    assert_false(store_health_begin_probe(&health, 9999));
    assert_true(store_health_begin_probe(&health, 10000));
    answers(10001);
    store_health_end_probe(&health);
    assert_false(store_health_begin_probe(&health, 20000));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        TEST(a_store_that_was_never_there_is_an_error_until_something_is_known),
        TEST(an_outage_is_news_when_it_begins_and_when_it_ends),
        TEST(an_operation_without_a_connection_is_an_outage_only_if_nothing_was_answered_for_as_long),
        TEST(an_operation_without_a_connection_is_an_outage_if_the_store_never_answered),
        TEST(an_answer_is_known_for_a_second_and_an_outage_as_long_as_it_lasts),
        TEST(a_store_in_an_outage_is_probed_once_a_second_by_one_probe_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
