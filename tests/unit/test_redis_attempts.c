/* Attempts to reach Redis: how long each may take, and the pauses between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/redis/redis_attempts.h"

#define NOW_MS UINT64_C(1000000)

static void the_first_attempt_has_more_time_than_the_others(void **state) {
    struct redis_attempts attempts = {0};

    (void)state;
    assert_int_equal(redis_attempts_begin(&attempts, NOW_MS), 5000);
    assert_int_equal(redis_attempts_left_ms(&attempts, NOW_MS + 4000), 1000);
    assert_int_equal(redis_attempts_left_ms(&attempts, NOW_MS + 6000), 0);
    redis_attempts_fail(&attempts, NOW_MS + 5000, false);
    assert_int_equal(redis_attempts_begin(&attempts, NOW_MS + 5100), 1000);
    redis_attempts_succeed(&attempts, NOW_MS + 5200);
    redis_attempts_fail(&attempts, NOW_MS + 5300, true);
    assert_int_equal(redis_attempts_begin(&attempts, NOW_MS + 5400), 1000);
}

/* From 0.1 s to a second, of which half is random. */
static void pauses_grow_to_a_second(void **state) {
    static const uint32_t longest_ms[] = {100, 200, 400, 800, 1000, 1000, 1000};
    struct redis_attempts attempts = {0};

    (void)state;
    for (size_t i = 0; i < sizeof longest_ms / sizeof longest_ms[0]; i++)
        assert_in_range(redis_attempts_fail(&attempts, NOW_MS, false), longest_ms[i] / 2, longest_ms[i]);
}

static void the_pause_of_nodes_differs(void **state) {
    uint32_t least_ms = UINT32_MAX, most_ms = 0;

    (void)state;
    for (unsigned i = 0; i < 100; i++) {
        struct redis_attempts attempts = {.pause_ms = 1000};
        uint32_t pause_ms = redis_attempts_fail(&attempts, NOW_MS, false);

        least_ms = pause_ms < least_ms ? pause_ms : least_ms;
        most_ms = pause_ms > most_ms ? pause_ms : most_ms;
    }
    assert_true(most_ms - least_ms > 100);
}

/* A Redis that closes each connection at once is not asked more often than one that does not answer. */
static void only_a_bus_that_stayed_up_begins_with_a_short_pause(void **state) {
    struct redis_attempts attempts = {.pause_ms = 1000};

    (void)state;
    redis_attempts_succeed(&attempts, NOW_MS);
    assert_in_range(redis_attempts_fail(&attempts, NOW_MS + 4999, true), 500, 1000);
    redis_attempts_succeed(&attempts, NOW_MS);
    assert_in_range(redis_attempts_fail(&attempts, NOW_MS + 5000, true), 50, 100);
}

static void an_outage_is_told_once(void **state) {
    struct redis_attempts attempts = {0};

    (void)state;
    assert_true(redis_attempts_tell_down(&attempts));
    assert_false(redis_attempts_tell_down(&attempts));
    redis_attempts_succeed(&attempts, NOW_MS);
    assert_true(redis_attempts_tell_down(&attempts));
    assert_false(redis_attempts_tell_down(&attempts));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_attempt_has_more_time_than_the_others),
        cmocka_unit_test(pauses_grow_to_a_second),
        cmocka_unit_test(the_pause_of_nodes_differs),
        cmocka_unit_test(only_a_bus_that_stayed_up_begins_with_a_short_pause),
        cmocka_unit_test(an_outage_is_told_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
