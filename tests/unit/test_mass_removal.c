/* Which removals of apps are held, by a clock of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app_manager/mass_removal.h"

#define GRACE_MS 60000
#define START_MS 1000000
#define APPS 20

static struct mass_removal removals;
static struct vanishing apps[APPS];
static size_t known;

static int set_up(void **state) {
    (void)state;
    removals = (struct mass_removal){.grace_ms = GRACE_MS};
    for (unsigned i = 0; i < APPS; i++)
        apps[i] = (struct vanishing){0};
    return 0;
}

static enum removal_step step(unsigned app, uint64_t at_ms) {
    enum removal_step result = mass_removal_step(&removals, &apps[app], 0, known, START_MS + at_ms);

    known -= result == REMOVAL_GO;
    return result;
}

/* The first `count` apps are not found at that time, nor when they are looked up again. */
static void vanish(unsigned count, uint64_t at_ms) {
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(step(i, at_ms), REMOVAL_WAIT);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(apps[i].next_ms, START_MS + at_ms + MASS_REMOVAL_SETTLE_MS);
}

static void assert_all(enum removal_step expected, unsigned count, uint64_t at_ms) {
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(step(i, at_ms), expected);
}

static void three_or_more_that_are_more_than_half_are_many(void **state) {
    (void)state;
    assert_false(mass_removal_is(2, 2));
    assert_true(mass_removal_is(3, 3));
    assert_true(mass_removal_is(3, 5));
    assert_false(mass_removal_is(3, 6));
    assert_true(mass_removal_is(51, 100));
    assert_false(mass_removal_is(50, 100));
    assert_true(mass_removal_of_reload(1, 1, true));
    assert_false(mass_removal_of_reload(2, 2, false));
    assert_true(mass_removal_of_reload(3, 4, false));
    assert_false(mass_removal_of_reload(0, 0, true));
}

static void few_are_removed_when_they_were_looked_up_again(void **state) {
    (void)state;
    known = 10;
    vanish(5, 0);
    assert_all(REMOVAL_GO, 5, 300);
    assert_int_equal(removals.total, 0);
    assert_int_equal(known, 5);
    known = 2; /* never many */
    assert_int_equal(step(5, 20000), REMOVAL_GO);
}

static void many_are_held_for_the_grace_period(void **state) {
    (void)state;
    known = 9;
    vanish(5, 0);
    assert_all(REMOVAL_HELD, 5, 300);
    assert_true(removals.began);
    assert_int_equal(removals.total, 1);
    assert_int_equal(removals.held, 5);
    assert_int_equal(apps[0].next_ms, START_MS + 300 + MASS_REMOVAL_HELD_READ_MS);
    assert_all(REMOVAL_HELD, 5, 300 + GRACE_MS - 1);
    assert_int_equal(apps[0].next_ms, START_MS + 300 + GRACE_MS);
    assert_false(removals.ended);
    assert_all(REMOVAL_GO, 5, 300 + GRACE_MS);
    assert_true(removals.ended);
    assert_int_equal(removals.removed, 5);
    assert_int_equal(removals.held, 0);
}

static void those_that_come_back_are_not_removed(void **state) {
    (void)state;
    known = 4;
    vanish(4, 0);
    assert_all(REMOVAL_HELD, 4, 300);
    for (unsigned i = 0; i < 4; i++) {
        assert_false(removals.ended);
        mass_removal_returned(&removals, &apps[i]);
    }
    assert_true(removals.ended);
    assert_int_equal(removals.returned, 4);
    assert_int_equal(mass_removal_vanished(&removals, START_MS + 400), 0);
    assert_int_equal(step(0, 500), REMOVAL_WAIT); /* one alone */
    assert_int_equal(step(0, 800), REMOVAL_GO);
}

/* With 3 of 5 gone one after the other, the first two are too few. */
static void removals_of_ten_seconds_are_counted_together(void **state) {
    (void)state;
    known = 5;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(step(i, 4000 * i), REMOVAL_WAIT);
        assert_int_equal(step(i, 4000 * i + 300), REMOVAL_GO);
    }
    assert_int_equal(step(2, 8000), REMOVAL_WAIT);
    assert_int_equal(step(2, 8300), REMOVAL_HELD);
    set_up(NULL);
    known = 5;
    for (unsigned i = 0; i < 3; i++) { /* in more than ten seconds */
        assert_int_equal(step(i, 30000 + 6000 * i), REMOVAL_WAIT);
        assert_int_equal(step(i, 30000 + 6000 * i + 300), REMOVAL_GO);
    }
}

static void while_more_and_more_vanish_it_is_not_decided(void **state) {
    (void)state;
    known = 20;
    vanish(3, 0);
    for (unsigned i = 3; i < 11; i++)
        assert_int_equal(step(i, 250 * (i - 2)), REMOVAL_WAIT);
    assert_all(REMOVAL_WAIT, 11, 2299);
    assert_all(REMOVAL_HELD, 11, 2300);
    assert_int_equal(removals.total, 1);
}

/* A store whose apps vanish without an end does not put it off for ever. */
static void it_is_decided_after_ten_seconds(void **state) {
    (void)state;
    known = 1000;
    vanish(3, 0);
    for (unsigned i = 0; i < 100; i++) {
        struct vanishing other = {0};
        mass_removal_step(&removals, &other, 0, known, START_MS + 100 * i);
    }
    assert_int_equal(step(0, 9999), REMOVAL_WAIT);
    assert_int_equal(step(0, 10000), REMOVAL_GO);
}

static void what_is_meant_does_not_count(void **state) {
    (void)state;
    known = 4;
    vanish(3, 0);
    mass_removal_meant(&removals, &apps[0]);
    known--;
    assert_int_equal(step(1, 300), REMOVAL_GO);
    set_up(NULL);
    known = 4;
    vanish(4, 0);
    assert_all(REMOVAL_HELD, 4, 300);
    for (unsigned i = 0; i < 4; i++)
        mass_removal_meant(&removals, &apps[i]);
    assert_true(removals.ended);
    assert_int_equal(removals.removed, 4);
}

static void an_app_with_connections_stays_for_a_second_at_least(void **state) {
    (void)state;
    known = 2;
    assert_int_equal(mass_removal_step(&removals, &apps[0], 1000, known, START_MS), REMOVAL_WAIT);
    assert_int_equal(mass_removal_step(&removals, &apps[0], 1000, known, START_MS + 999), REMOVAL_WAIT);
    assert_int_equal(mass_removal_step(&removals, &apps[0], 1000, known, START_MS + 1000), REMOVAL_GO);
}

static void without_a_grace_period_nothing_is_held(void **state) {
    (void)state;
    removals.grace_ms = 0;
    known = 5;
    assert_all(REMOVAL_GO, 5, 0);
    assert_int_equal(removals.total, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(three_or_more_that_are_more_than_half_are_many, set_up),
        cmocka_unit_test_setup(few_are_removed_when_they_were_looked_up_again, set_up),
        cmocka_unit_test_setup(many_are_held_for_the_grace_period, set_up),
        cmocka_unit_test_setup(those_that_come_back_are_not_removed, set_up),
        cmocka_unit_test_setup(removals_of_ten_seconds_are_counted_together, set_up),
        cmocka_unit_test_setup(while_more_and_more_vanish_it_is_not_decided, set_up),
        cmocka_unit_test_setup(it_is_decided_after_ten_seconds, set_up),
        cmocka_unit_test_setup(what_is_meant_does_not_count, set_up),
        cmocka_unit_test_setup(an_app_with_connections_stays_for_a_second_at_least, set_up),
        cmocka_unit_test_setup(without_a_grace_period_nothing_is_held, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
