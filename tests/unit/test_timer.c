/* Timers: never early, at most a second late, even if a firing timer sets, cancels or frees others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/timer.h"
#include "harness.h"

#define START_MS UINT64_C(5000123)

struct probe {
    struct timer timer;
    unsigned fired;
    uint64_t fired_ms;
    /* Actions when the timer fires. */
    struct probe *cancels, *frees, *sets;
    uint64_t set_delay_ms;
    bool frees_itself;
};

static struct timer_wheel wheel;
static uint64_t now_ms;

static void note(struct timer *timer) {
    struct probe *probe = container_of(timer, struct probe, timer);

    probe->fired++;
    probe->fired_ms = now_ms;
    if (probe->cancels != NULL)
        timer_cancel(&probe->cancels->timer);
    if (probe->sets != NULL)
        timer_set(&wheel, &probe->sets->timer, now_ms, probe->set_delay_ms);
    if (probe->frees != NULL) {
        timer_cancel(&probe->frees->timer);
        free(probe->frees);
        probe->frees = NULL;
    }
    if (probe->frees_itself)
        free(probe);
}

static int set_up(void **state) {
    (void)state;
    now_ms = START_MS;
    timer_wheel_init(&wheel, now_ms);
    return 0;
}

static void pass(uint64_t ms) {
    now_ms += ms;
    timer_advance(&wheel, now_ms);
    while (timer_fire_next(&wheel))
        ;
}

static void no_timer_is_early_or_more_than_a_second_late(void **state) {
    static const uint64_t delays[] = {0,    1,     876,    877,    878,    999,    1000,   1001,    1999,
                                      5000, 60000, 511000, 512000, 513001, 600000, 600001, 86400000};

    (void)state;
    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        for (uint64_t offset = 0; offset < 1000; offset += 111) {
            struct probe probe = {.timer.fire = note};
            uint64_t set_ms;

            pass(offset);
            set_ms = now_ms;
            timer_set(&wheel, &probe.timer, now_ms, delays[i]);
            while (probe.fired == 0 && now_ms < set_ms + delays[i] + 3000)
                pass(delays[i] > 10000 && now_ms + 5000 < set_ms + delays[i] ? 997 : 37);
            assert_int_equal(probe.fired, 1);
            assert_true(probe.fired_ms >= set_ms + delays[i]);
            assert_true(probe.fired_ms < set_ms + delays[i] + 1000 + 37);
            pass(2000000);
            assert_int_equal(probe.fired, 1);
        }
    }
}

static void a_timer_that_is_set_again_fires_at_the_new_time_only(void **state) {
    struct probe later = {.timer.fire = note}, sooner = {.timer.fire = note};

    (void)state;
    timer_set(&wheel, &later.timer, now_ms, 3000);
    timer_set(&wheel, &sooner.timer, now_ms, 900000);
    pass(1000);
    timer_set(&wheel, &later.timer, now_ms, 10000);
    timer_set(&wheel, &sooner.timer, now_ms, 2000);
    pass(3000);
    assert_int_equal(sooner.fired, 1);
    assert_int_equal(later.fired, 0);
    pass(6999);
    assert_int_equal(later.fired, 0);
    pass(1001);
    assert_int_equal(later.fired, 1);
    pass(2000000);
    assert_int_equal(sooner.fired, 1);
    assert_int_equal(later.fired, 1);
}

static void a_cancelled_timer_does_not_fire_and_may_be_cancelled_again(void **state) {
    struct probe probe = {.timer.fire = note}, never_set = {.timer.fire = note};

    (void)state;
    timer_cancel(&never_set.timer);
    timer_set(&wheel, &probe.timer, now_ms, 3000);
    timer_cancel(&probe.timer);
    timer_cancel(&probe.timer);
    pass(1000000);
    assert_int_equal(probe.fired, 0);
    timer_set(&wheel, &probe.timer, now_ms, 1000);
    pass(2000);
    assert_int_equal(probe.fired, 1);
}

static void a_timer_that_fires_may_set_itself_again(void **state) {
    struct probe probe = {.timer.fire = note, .set_delay_ms = 1000};

    (void)state;
    probe.sets = &probe;
    timer_set(&wheel, &probe.timer, now_ms, 1000);
    for (unsigned i = 0; i < 20; i++)
        pass(1000);
    assert_in_range(probe.fired, 9, 20);
}

static void timers_of_the_same_second_may_cancel_and_move_each_other(void **state) {
    struct probe first = {.timer.fire = note}, second = {.timer.fire = note}, third = {.timer.fire = note};

    (void)state;
    first.cancels = &second;
    first.sets = &third;
    first.set_delay_ms = 10000;
    timer_set(&wheel, &first.timer, now_ms, 1000);
    timer_set(&wheel, &second.timer, now_ms, 1000);
    timer_set(&wheel, &third.timer, now_ms, 1000);
    pass(2000);
    assert_int_equal(first.fired, 1);
    assert_int_equal(second.fired, 0);
    assert_int_equal(third.fired, 0);
    pass(11000);
    assert_int_equal(second.fired, 0);
    assert_int_equal(third.fired, 1);
}

static void a_timer_that_fires_may_free_others_and_itself(void **state) {
    struct probe keeper = {.timer.fire = note};
    struct probe *suicide = calloc(1, sizeof *suicide);

    (void)state;
    keeper.frees = calloc(1, sizeof *keeper.frees);
    assert_non_null(suicide);
    assert_non_null(keeper.frees);
    keeper.frees->timer.fire = suicide->timer.fire = note;
    suicide->frees_itself = true;
    timer_set(&wheel, &keeper.timer, now_ms, 1000);
    timer_set(&wheel, &keeper.frees->timer, now_ms, 1000);
    timer_set(&wheel, &suicide->timer, now_ms, 1000);
    pass(2000);
    assert_int_equal(keeper.fired, 1);
    assert_null(keeper.frees);
}

static void after_a_stop_of_minutes_all_that_is_due_fires_and_nothing_else(void **state) {
    struct probe due[40] = {0}, not_due[40] = {0}, from_fired = {.timer.fire = note};

    (void)state;
    for (size_t i = 0; i < 40; i++) {
        due[i].timer.fire = not_due[i].timer.fire = note;
        timer_set(&wheel, &due[i].timer, now_ms, i * 30000);
        timer_set(&wheel, &not_due[i].timer, now_ms, 1200000 + i * 30000);
    }
    due[0].sets = &from_fired;
    due[0].set_delay_ms = 0;
    pass(40 * 30000 - 1);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(due[i].fired, 1);
        assert_int_equal(not_due[i].fired, 0);
    }
    assert_int_equal(from_fired.fired, 0);
    pass(1001);
    assert_int_equal(from_fired.fired, 1);
    pass(40 * 30000);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(due[i].fired, 1);
        assert_int_equal(not_due[i].fired, 1);
    }
}

static void a_clock_that_does_not_move_fires_nothing(void **state) {
    struct probe probe = {.timer.fire = note};

    (void)state;
    timer_set(&wheel, &probe.timer, now_ms, 0);
    timer_advance(&wheel, now_ms);
    timer_advance(&wheel, now_ms);
    assert_false(timer_fire_next(&wheel));
    assert_int_equal(probe.fired, 0);
}

static void due_timers_may_be_cancelled_and_set_anew_until_they_fire(void **state) {
    struct probe probes[4] = {0};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        probes[i].timer.fire = note;
        timer_set(&wheel, &probes[i].timer, now_ms, 0);
    }
    now_ms += 1000;
    timer_advance(&wheel, now_ms);
    assert_true(timer_fire_next(&wheel));
    timer_cancel(&probes[1].timer);
    timer_set(&wheel, &probes[2].timer, now_ms, 0);
    assert_true(timer_fire_next(&wheel));
    assert_false(timer_fire_next(&wheel));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(probes[i].fired, i == 0 || i == 3);
    pass(1000);
    assert_int_equal(probes[1].fired, 0);
    assert_int_equal(probes[2].fired, 1);
}

static void at_the_end_every_timer_fires_once_due_or_not(void **state) {
    struct probe probes[30] = {0}, cancelled = {.timer.fire = note}, late = {.timer.fire = note};

    (void)state;
    for (size_t i = 0; i < 30; i++) {
        probes[i].timer.fire = note;
        timer_set(&wheel, &probes[i].timer, now_ms, i * i * 10000);
    }
    timer_set(&wheel, &cancelled.timer, now_ms, 400000);
    probes[0].cancels = &cancelled;
    probes[7].sets = &probes[20]; /* has fired already */
    probes[28].sets = &late;
    probes[29].frees = calloc(1, sizeof *probes[29].frees);
    timer_fire_all(&wheel);
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(probes[i].fired, i == 20 ? 2 : 1);
    assert_int_equal(late.fired, 1);
    assert_null(probes[29].frees);
    timer_fire_all(&wheel);
    for (size_t i = 0; i < 30; i++)
        assert_int_equal(probes[i].fired, i == 20 ? 2 : 1);
}

/* Thousands of timers set, moved and cancelled at random, against a plain array of due times. */
static void random_use_agrees_with_an_array_of_due_times(void **state) {
    enum { COUNT = 500 };
    static struct probe probes[COUNT];
    static uint64_t due_ms[COUNT];
    uint64_t seed = 7;

    (void)state;
    memset(probes, 0, sizeof probes);
    memset(due_ms, 0, sizeof due_ms);
    for (size_t i = 0; i < COUNT; i++)
        probes[i].timer.fire = note;
    for (unsigned step = 0; step < 3000; step++) {
        for (unsigned i = 0; i < 10; i++) {
            uint32_t at = harness_random(&seed, COUNT);
            uint32_t delay = harness_random(&seed, harness_random(&seed, 4) == 0 ? 2000000 : 5000);
            if (harness_random(&seed, 3) == 0) {
                timer_cancel(&probes[at].timer);
                due_ms[at] = 0;
            } else {
                timer_set(&wheel, &probes[at].timer, now_ms, delay);
                due_ms[at] = now_ms + delay;
            }
            probes[at].fired = 0;
        }
        pass(harness_random(&seed, 200) == 0 ? 700000 : harness_random(&seed, 1500));
        for (size_t i = 0; i < COUNT; i++) {
            if (due_ms[i] == 0 || now_ms < due_ms[i])
                assert_int_equal(probes[i].fired, 0);
            else if (now_ms >= due_ms[i] + 1000)
                assert_int_equal(probes[i].fired, 1);
            assert_true(probes[i].fired <= 1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(no_timer_is_early_or_more_than_a_second_late, set_up),
        cmocka_unit_test_setup(a_timer_that_is_set_again_fires_at_the_new_time_only, set_up),
        cmocka_unit_test_setup(a_cancelled_timer_does_not_fire_and_may_be_cancelled_again, set_up),
        cmocka_unit_test_setup(a_timer_that_fires_may_set_itself_again, set_up),
        cmocka_unit_test_setup(timers_of_the_same_second_may_cancel_and_move_each_other, set_up),
        cmocka_unit_test_setup(a_timer_that_fires_may_free_others_and_itself, set_up),
        cmocka_unit_test_setup(after_a_stop_of_minutes_all_that_is_due_fires_and_nothing_else, set_up),
        cmocka_unit_test_setup(a_clock_that_does_not_move_fires_nothing, set_up),
        cmocka_unit_test_setup(due_timers_may_be_cancelled_and_set_anew_until_they_fire, set_up),
        cmocka_unit_test_setup(at_the_end_every_timer_fires_once_due_or_not, set_up),
        cmocka_unit_test_setup(random_use_agrees_with_an_array_of_due_times, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
