/* Deferred reclamation: memory is freed after each worker has ended a turn, not before. */
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
static struct reclaimer reclaimer;
static atomic_uint freed;

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, WORKERS);
    reclaimer_init(&reclaimer, &workers);
    atomic_store(&freed, 0);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    reclaimer_dispose(&reclaimer);
    harness_destroy(&workers);
    return 0;
}

static void free_flag(void *object, void *context) {
    assert_ptr_equal(context, &reclaimer);
    *(bool *)object = true;
    atomic_fetch_add(&freed, 1);
}

static void defer_flag(bool *flag) {
    reclaim_defer(&reclaimer, flag, free_flag, &reclaimer);
}

static void turn_all(void) {
    for (unsigned i = 0; i < WORKERS; i++)
        harness_turn(workers.list[i]);
}

static void an_object_is_freed_when_the_last_worker_has_ended_a_turn(void **state) {
    bool gone = false;

    (void)state;
    defer_flag(&gone);
    for (unsigned i = WORKERS; i-- > 0;) {
        assert_false(gone);
        harness_turn(workers.list[i]);
        if (i != 0)
            harness_turn(workers.list[i]); /* a quick worker does not replace the others */
    }
    assert_true(gone);
}

/* A worker that has ended its turn may have read the second object since. */
static void objects_deferred_during_a_grace_period_wait_for_the_whole_of_the_next(void **state) {
    bool first = false, second = false, third = false;

    (void)state;
    defer_flag(&first);
    harness_turn(workers.list[0]);
    defer_flag(&second);
    defer_flag(&third);
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

static void after_a_grace_period_without_more_the_next_object_begins_another(void **state) {
    bool first = false, second = false;

    (void)state;
    defer_flag(&first);
    turn_all();
    assert_true(first);
    turn_all();
    defer_flag(&second);
    turn_all();
    assert_true(second);
}

static bool follower;

static void free_with_a_follower(void *object, void *context) {
    free_flag(object, context);
    defer_flag(&follower);
}

static void freeing_may_defer_more(void **state) {
    bool gone = false;

    (void)state;
    follower = false;
    reclaim_defer(&reclaimer, &gone, free_with_a_follower, &reclaimer);
    turn_all();
    assert_true(gone);
    assert_false(follower);
    turn_all();
    assert_true(follower);
}

static void at_the_end_all_is_freed_at_once_and_so_are_later_objects(void **state) {
    bool leaving = false, waiting = false, late = false;

    (void)state;
    defer_flag(&leaving);
    defer_flag(&waiting);
    for (unsigned i = 0; i < WORKERS; i++) /* their messages are handled: the grace period of `waiting` begins */
        harness_turn(workers.list[i]);
    assert_true(leaving);
    assert_false(waiting);
    harness_destroy(&workers); /* ends the grace period of `waiting` */
    assert_true(waiting);
    reclaimer_dispose(&reclaimer);
    defer_flag(&late);
    assert_true(late);
    set_up(NULL);
}

static void another_thread_that_reads_keeps_what_it_may_have_found(void **state) {
    static bool after; /* static: must outlive the test */
    bool before = false, during = false, more = false;

    (void)state;
    defer_flag(&before);
    reclaim_read_begin(&reclaimer);
    defer_flag(&during);
    turn_all();
    turn_all();
    assert_false(before || during);
    reclaim_read_begin(&reclaimer);
    defer_flag(&more);
    turn_all();
    turn_all();
    reclaim_read_end(&reclaimer);
    assert_false(before || during || more);
    reclaim_read_end(&reclaimer);
    assert_true(before && during && more);
    defer_flag(&after);
    turn_all();
    assert_true(after);
    reclaim_read_begin(&reclaimer);
    after = false;
    defer_flag(&after);
    turn_all();
    turn_all();
    assert_false(after); /* freed by reclaimer_dispose */
}

static void nothing_is_no_object(void **state) {
    (void)state;
    reclaim_defer(&reclaimer, NULL, free_flag, &reclaimer);
    reclaim_free(&reclaimer, NULL);
    turn_all();
    assert_int_equal(atomic_load(&freed), 0);
}

static void count_and_free(void *object, void *context) {
    (void)context;
    atomic_fetch_add(&freed, 1);
    free(object);
}

static void *defer_many(void *context) {
    (void)context;
    for (unsigned i = 0; i < EACH; i++)
        reclaim_defer(&reclaimer, alloc(16), count_and_free, NULL);
    return NULL;
}

static void objects_of_any_thread_are_freed_once_each(void **state) {
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, defer_many, NULL), 0);
    for (unsigned i = 0; i < EACH; i++)
        turn_all();
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 4; i++)
        turn_all();
    assert_int_equal(atomic_load(&freed), THREADS * EACH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void a_batch_is_freed_together_after_one_grace_period(void **state) {
    struct reclaim_batch batch = {0};
    bool gone[3] = {false};

    (void)state;
    reclaim_batch_defer(&reclaimer, &batch); /* an empty batch */
    for (unsigned i = 0; i < 3; i++)
        reclaim_batch_add(&batch, &gone[i], free_flag, &reclaimer);
    reclaim_batch_add(&batch, NULL, free_flag, &reclaimer);
    turn_all();
    assert_int_equal(atomic_load(&freed), 0);
    reclaim_batch_defer(&reclaimer, &batch);
    assert_null(batch.first);
    turn_all();
    assert_int_equal(atomic_load(&freed), 3);
    assert_true(gone[0] && gone[1] && gone[2]);
}

static void a_batch_that_no_worker_can_see_is_freed_at_once(void **state) {
    struct reclaim_batch batch = {0};
    bool gone = false;

    (void)state;
    reclaim_batch_add(&batch, &gone, free_flag, &reclaimer);
    reclaim_batch_add_memory(&batch, alloc(16));
    reclaim_batch_free(&batch);
    assert_true(gone);
    assert_null(batch.first);
}

static void a_batch_during_a_grace_period_waits_for_the_next_one(void **state) {
    struct reclaim_batch batch = {0};
    bool first = false, later[2] = {false};

    (void)state;
    defer_flag(&first);
    for (unsigned i = 0; i < 2; i++)
        reclaim_batch_add(&batch, &later[i], free_flag, &reclaimer);
    reclaim_batch_defer(&reclaimer, &batch);
    turn_all();
    assert_true(first);
    assert_int_equal(atomic_load(&freed), 1);
    turn_all();
    assert_int_equal(atomic_load(&freed), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_object_is_freed_when_the_last_worker_has_ended_a_turn),
        TEST(objects_deferred_during_a_grace_period_wait_for_the_whole_of_the_next),
        TEST(after_a_grace_period_without_more_the_next_object_begins_another),
        TEST(freeing_may_defer_more),
        TEST(at_the_end_all_is_freed_at_once_and_so_are_later_objects),
        TEST(another_thread_that_reads_keeps_what_it_may_have_found),
        TEST(nothing_is_no_object),
        TEST(objects_of_any_thread_are_freed_once_each),
        TEST(a_batch_is_freed_together_after_one_grace_period),
        TEST(a_batch_that_no_worker_can_see_is_freed_at_once),
        TEST(a_batch_during_a_grace_period_waits_for_the_next_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
