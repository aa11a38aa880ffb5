/* Memory that workers may still be looking at: freed when each of them has ended a turn, and no sooner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "harness.h"
#include "net/reclaim.h"

#define WORKERS 3
#define THREADS 4
#define EACH 500

static struct workers workers;
static struct retirement retirement;
static atomic_uint left;

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, WORKERS);
    retirement_init(&retirement, &workers);
    atomic_store(&left, 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    retirement_dispose(&retirement);
    harness_destroy(&workers);
    return 0;
}

static void leave(void *object, void *context) {
    assert_ptr_equal(context, &retirement);
    *(bool *)object = true;
    atomic_fetch_add(&left, 1);
}

static void retire_flag(bool *flag) {
    retire(&retirement, flag, leave, &retirement);
}

static void turn_all(void) {
    for (unsigned i = 0; i < WORKERS; i++)
        harness_turn(workers.list[i]);
}

static void an_object_leaves_when_the_last_worker_has_ended_a_turn(void **state) {
    bool gone = false;

    (void)state;
    retire_flag(&gone);
    for (unsigned i = WORKERS; i-- > 0;) {
        assert_false(gone);
        harness_turn(workers.list[i]);
        if (i != 0)
            harness_turn(workers.list[i]); /* one that is quick does not count for the others */
    }
    assert_true(gone);
}

/* A worker that has had its turn of the round may have seen the second object since. */
static void what_comes_during_a_round_waits_for_the_whole_of_the_next(void **state) {
    bool first = false, second = false, third = false;

    (void)state;
    retire_flag(&first);
    harness_turn(workers.list[0]);
    retire_flag(&second);
    retire_flag(&third);
    harness_turn(workers.list[1]);
    harness_turn(workers.list[2]);
    assert_true(first);
    assert_false(second || third);
    harness_turn(workers.list[1]);
    harness_turn(workers.list[2]);
    assert_false(second || third);
    harness_turn(workers.list[0]);
    assert_true(second && third);
}

static void after_a_round_without_more_the_next_object_begins_another(void **state) {
    bool first = false, second = false;

    (void)state;
    retire_flag(&first);
    turn_all();
    assert_true(first);
    turn_all();
    retire_flag(&second);
    turn_all();
    assert_true(second);
}

static bool follower;

static void leave_with_a_follower(void *object, void *context) {
    leave(object, context);
    retire_flag(&follower);
}

static void what_leaves_may_hand_over_more(void **state) {
    bool gone = false;

    (void)state;
    follower = false;
    retire(&retirement, &gone, leave_with_a_follower, &retirement);
    turn_all();
    assert_true(gone);
    assert_false(follower);
    turn_all();
    assert_true(follower);
}

static void at_the_end_all_leaves_at_once_and_so_does_what_comes_later(void **state) {
    bool leaving = false, waiting = false, late = false;

    (void)state;
    retire_flag(&leaving);
    retire_flag(&waiting);
    for (unsigned i = 0; i < WORKERS; i++) /* their messages are handled: the round of `waiting` is under way */
        harness_turn(workers.list[i]);
    assert_true(leaving);
    assert_false(waiting);
    harness_destroy(&workers); /* and so is that one's, at the end */
    assert_true(waiting);
    retirement_dispose(&retirement);
    retire_flag(&late);
    assert_true(late);
    set_up(NULL);
}

static void nothing_is_no_object(void **state) {
    (void)state;
    retire(&retirement, NULL, leave, &retirement);
    retire_memory(&retirement, NULL);
    turn_all();
    assert_int_equal(atomic_load(&left), 0);
}

static void count_and_free(void *object, void *context) {
    (void)context;
    atomic_fetch_add(&left, 1);
    free(object);
}

static void *retire_many(void *context) {
    (void)context;
    for (unsigned i = 0; i < EACH; i++)
        retire(&retirement, alloc(16), count_and_free, NULL);
    return NULL;
}

static void objects_of_any_thread_leave_once_each(void **state) {
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, retire_many, NULL), 0);
    for (unsigned i = 0; i < EACH; i++)
        turn_all();
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 4; i++)
        turn_all();
    assert_int_equal(atomic_load(&left), THREADS * EACH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_object_leaves_when_the_last_worker_has_ended_a_turn),
        TEST(what_comes_during_a_round_waits_for_the_whole_of_the_next),
        TEST(after_a_round_without_more_the_next_object_begins_another),
        TEST(what_leaves_may_hand_over_more),
        TEST(at_the_end_all_leaves_at_once_and_so_does_what_comes_later),
        TEST(nothing_is_no_object),
        TEST(objects_of_any_thread_leave_once_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
