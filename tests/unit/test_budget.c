/* The account of memory: limits of the process, of a kind and of an app, and sums of several threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/budget.h"

#define MB ((size_t)1024 * 1024)
#define LIMIT (100 * MB)

static int start_with_limit(void **state) {
    (void)state;
    budget_set_limit(LIMIT);
    assert_int_equal(budget_total(), 0);
    return 0;
}

static void without_a_limit_bytes_are_counted_and_nothing_is_refused(void **state) {
    (void)state;
    budget_set_limit(0);
    assert_true(budget_take(BUDGET_BODIES, NULL, 1000 * MB));
    assert_int_equal(budget_used(BUDGET_BODIES), 1000 * MB);
    assert_int_equal(budget_total(), 1000 * MB);
    budget_give(BUDGET_BODIES, NULL, 1000 * MB);
    assert_int_equal(budget_total(), 0);
}

static void a_kind_has_its_share_and_leaves_the_rest_to_others(void **state) {
    size_t share = (size_t)budget_kind_limit(BUDGET_BODIES);
    uint64_t refusals = budget_refusals(BUDGET_BODIES);

    (void)state;
    assert_int_equal(share, LIMIT / 4);
    assert_true(budget_take(BUDGET_BODIES, NULL, share));
    assert_false(budget_take(BUDGET_BODIES, NULL, 1));
    assert_int_equal(budget_used(BUDGET_BODIES), share);
    assert_true(budget_take(BUDGET_INPUT, NULL, share));
    budget_give(BUDGET_BODIES, NULL, 1);
    assert_true(budget_take(BUDGET_BODIES, NULL, 1));
    assert_int_equal(budget_refusals(BUDGET_BODIES) - refusals, 1);
    budget_give(BUDGET_BODIES, NULL, share);
    budget_give(BUDGET_INPUT, NULL, share);
}

static void the_process_has_a_limit_that_kinds_together_reach(void **state) {
    (void)state;
    budget_add(BUDGET_CONNECTIONS, NULL, LIMIT - 10);
    assert_true(budget_take(BUDGET_BODIES, NULL, 10));
    assert_false(budget_take(BUDGET_BODIES, NULL, 1));
    assert_false(budget_has_room(BUDGET_INPUT, NULL, 1));
    budget_add(BUDGET_OUTPUT, NULL, MB); /* what has to be taken is counted beyond the limit */
    assert_int_equal(budget_total(), LIMIT + MB);
    budget_give(BUDGET_OUTPUT, NULL, MB);
    budget_give(BUDGET_BODIES, NULL, 10);
    assert_false(budget_take(BUDGET_BODIES, NULL, SIZE_MAX));
    budget_give(BUDGET_CONNECTIONS, NULL, LIMIT - 10);
}

static size_t take_all(enum budget_kind kind, struct budget_app *app) {
    size_t taken = 0;

    while (budget_take(kind, app, MB / 16))
        taken += MB / 16;
    return taken;
}

static void an_app_gets_two_thirds_of_a_share_and_leaves_room_for_the_next(void **state) {
    struct budget_app *first = budget_app_create(), *second = budget_app_create();
    size_t taken[3];

    (void)state;
    taken[0] = take_all(BUDGET_CHANNELS, first); /* whose share is 60 % */
    assert_in_range(taken[0], LIMIT * 39 / 100, LIMIT * 40 / 100);
    taken[1] = take_all(BUDGET_CHANNELS, second);
    assert_in_range(taken[1], LIMIT * 13 / 100, LIMIT * 14 / 100);
    taken[2] = take_all(BUDGET_PRESENCE, first); /* 40 %: what it has of channels counts */
    assert_in_range(taken[2], LIMIT * 13 / 100, LIMIT * 14 / 100);
    assert_int_equal(budget_app_held(first), taken[0] + taken[2]);
    budget_give(BUDGET_CHANNELS, first, taken[0]);
    budget_give(BUDGET_CHANNELS, second, taken[1]);
    budget_give(BUDGET_PRESENCE, first, taken[2]);
    assert_int_equal(budget_app_held(first), 0);
    assert_int_equal(budget_app_held(second), 0);
    budget_app_release(first);
    budget_app_release(second);
}

static void an_app_leaves_a_third_of_the_limit_free(void **state) {
    struct budget_app *first = budget_app_create();

    (void)state;
    budget_add(BUDGET_OUTPUT, first, LIMIT / 2);
    assert_in_range(take_all(BUDGET_CHANNELS, first), LIMIT * 16 / 100, LIMIT * 17 / 100);
    budget_give(BUDGET_CHANNELS, first, (size_t)budget_used(BUDGET_CHANNELS));
    budget_give(BUDGET_OUTPUT, first, LIMIT / 2);
    budget_app_release(first);
}

/* The thread's own changes, which the sums do not have, count to the byte. */
static void the_share_of_an_app_is_exact(void **state) {
    const size_t left = 3000;
    struct budget_app *app = budget_app_create();

    (void)state;
    budget_add(BUDGET_CONNECTIONS, NULL, LIMIT - left - 2000);
    budget_add(BUDGET_BODIES, NULL, 5000);
    budget_give(BUDGET_INPUT, NULL, 3000);
    assert_int_equal(budget_total(), LIMIT - left);
    assert_false(budget_has_room(BUDGET_OUTPUT, NULL, left + 1));
    assert_true(budget_has_room(BUDGET_OUTPUT, NULL, left));
    assert_false(budget_take(BUDGET_OUTPUT, app, left * 2 / 3 + 1));
    assert_true(budget_take(BUDGET_OUTPUT, app, left * 2 / 3));
    budget_give(BUDGET_OUTPUT, app, left * 2 / 3);
    budget_add(BUDGET_INPUT, NULL, 3000);
    budget_give(BUDGET_BODIES, NULL, 5000);
    budget_give(BUDGET_CONNECTIONS, NULL, LIMIT - left - 2000);
    budget_app_release(app);
}

/* The sanitizer of addresses watches it. */
static void an_account_lives_until_everything_is_given_back(void **state) {
    struct budget_app *app = budget_app_create();

    (void)state;
    budget_add(BUDGET_OUTPUT, app, 100);
    budget_add(BUDGET_INPUT, NULL, 50);
    budget_assign(app, 50);
    assert_int_equal(budget_app_held(app), 150);
    budget_app_release(app);
    assert_int_equal(budget_app_held(app), 150);
    budget_add(BUDGET_OUTPUT, app, 10);
    budget_give(BUDGET_OUTPUT, app, 100);
    budget_unassign(app, 50);
    assert_int_equal(budget_app_held(app), 10);
    budget_give(BUDGET_OUTPUT, app, 10);
    budget_give(BUDGET_INPUT, NULL, 50);
}

static void *take_much(void *app) {
    for (int i = 0; i < 100000; i++)
        budget_add(BUDGET_OUTPUT, app, 100);
    for (int i = 0; i < 50000; i++)
        budget_give(BUDGET_OUTPUT, app, 100);
    budget_settle();
    return NULL;
}

static void threads_share_the_sums(void **state) {
    struct budget_app *app = budget_app_create();
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_much, app), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(budget_used(BUDGET_OUTPUT), 4 * 50000 * 100);
    assert_int_equal(budget_total(), 4 * 50000 * 100);
    assert_int_equal(budget_app_held(app), 4 * 50000 * 100);
    budget_give(BUDGET_OUTPUT, app, 4 * 50000 * 100); /* another thread than the one that took it */
    budget_app_release(app);
    assert_int_equal(budget_used(BUDGET_OUTPUT), 0);
}

static void *take_a_little(void *unused) {
    (void)unused;
    budget_add(BUDGET_TLS, NULL, BUDGET_DRIFT_BYTES);
    return NULL;
}

static void a_thread_keeps_a_small_change_to_itself(void **state) {
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, take_a_little, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(budget_used(BUDGET_TLS), 0);
    budget_add(BUDGET_TLS, NULL, BUDGET_DRIFT_BYTES);
    assert_int_equal(budget_used(BUDGET_TLS), BUDGET_DRIFT_BYTES); /* one's own is seen at once */
    budget_give(BUDGET_TLS, NULL, BUDGET_DRIFT_BYTES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(without_a_limit_bytes_are_counted_and_nothing_is_refused, start_with_limit),
        cmocka_unit_test_setup(a_kind_has_its_share_and_leaves_the_rest_to_others, start_with_limit),
        cmocka_unit_test_setup(the_process_has_a_limit_that_kinds_together_reach, start_with_limit),
        cmocka_unit_test_setup(an_app_gets_two_thirds_of_a_share_and_leaves_room_for_the_next, start_with_limit),
        cmocka_unit_test_setup(an_app_leaves_a_third_of_the_limit_free, start_with_limit),
        cmocka_unit_test_setup(the_share_of_an_app_is_exact, start_with_limit),
        cmocka_unit_test_setup(an_account_lives_until_everything_is_given_back, start_with_limit),
        cmocka_unit_test_setup(threads_share_the_sums, start_with_limit),
        cmocka_unit_test_setup(a_thread_keeps_a_small_change_to_itself, start_with_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
