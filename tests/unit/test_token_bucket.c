/* Token buckets: how many tokens there are and when, changes of the rate, and several threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/token_bucket.h"

#define START_NS (1000 * SECOND_IN_NS)
#define MS UINT64_C(1000000)

static const struct token_rate ten = {10, 1};

static unsigned take_all(struct token_bucket *bucket, struct token_rate rate, uint64_t now_ns) {
    unsigned count = 0;

    while (token_bucket_take(bucket, rate, 1, now_ns))
        count++;
    return count;
}

static void a_full_bucket_holds_exactly_its_limit_whatever_that_is(void **state) {
    static const uint32_t limits[] = {1, 2, 3, 7, 10, 60, 99, 100, 101, 997, 1000, 12345, 100000};

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        for (uint32_t window = 1; window <= 3600; window += 1199) {
            struct token_bucket bucket = {0};
            assert_int_equal(take_all(&bucket, (struct token_rate){limits[i], window}, START_NS), limits[i]);
        }
}

static void it_fills_continuously_and_no_further_than_its_limit(void **state) {
    struct token_bucket bucket = {0};

    (void)state;
    assert_int_equal(take_all(&bucket, ten, START_NS), 10);
    assert_int_equal(take_all(&bucket, ten, START_NS + 99 * MS), 0);
    assert_int_equal(take_all(&bucket, ten, START_NS + 100 * MS), 1);
    assert_int_equal(take_all(&bucket, ten, START_NS + 350 * MS), 2);
    assert_int_equal(take_all(&bucket, ten, START_NS + 400 * MS), 1); /* the half token was not lost */
    assert_int_equal(take_all(&bucket, ten, START_NS + 60000 * MS), 10);
}

static void a_cost_is_taken_as_a_whole_or_not_at_all(void **state) {
    struct token_bucket bucket = {0};

    (void)state;
    assert_true(token_bucket_take(&bucket, ten, 7, START_NS));
    assert_false(token_bucket_take(&bucket, ten, 4, START_NS));
    assert_true(token_bucket_take(&bucket, ten, 3, START_NS));
    assert_true(token_bucket_take(&bucket, ten, 0, START_NS));
    assert_false(token_bucket_take(&bucket, ten, 1, START_NS));
    assert_false(token_bucket_take(&bucket, ten, 11, START_NS + 100 * SECOND_IN_NS));
}

static void what_is_given_back_can_be_taken_again(void **state) {
    struct token_bucket bucket = {0};

    (void)state;
    assert_int_equal(take_all(&bucket, ten, START_NS), 10);
    token_bucket_return(&bucket, ten, 3);
    assert_int_equal(take_all(&bucket, ten, START_NS), 3);
    bucket = (struct token_bucket){0};
    assert_true(token_bucket_take(&bucket, ten, 1, START_NS));
    token_bucket_return(&bucket, ten, 1);
    assert_int_equal(take_all(&bucket, ten, START_NS), 10); /* and not more than a full bucket */
}

static void a_limit_of_0_takes_everything_and_leaves_the_level(void **state) {
    struct token_bucket bucket = {0};
    const struct token_rate none = {0, 1};

    (void)state;
    assert_int_equal(take_all(&bucket, ten, START_NS), 10);
    for (unsigned i = 0; i < 1000; i++)
        assert_true(token_bucket_take(&bucket, none, 1000000, START_NS));
    token_bucket_return(&bucket, none, 1000);
    assert_int_equal(take_all(&bucket, ten, START_NS), 0);
    assert_int_equal(token_bucket_level(&bucket, none, 5, START_NS).wait_ns, 0);
}

static void a_new_limit_is_in_force_at_once_and_gives_no_tokens(void **state) {
    struct token_bucket bucket = {0};
    const struct token_rate hundred = {100, 1}, two = {2, 1}, three = {3, 1};

    (void)state;
    assert_int_equal(take_all(&bucket, ten, START_NS), 10);
    assert_int_equal(take_all(&bucket, hundred, START_NS), 0);
    assert_int_equal(take_all(&bucket, two, START_NS), 0);
    assert_int_equal(take_all(&bucket, hundred, START_NS + 100 * MS), 10);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(take_all(&bucket, i % 2 == 0 ? three : hundred, START_NS + 100 * MS), 0);
    assert_int_equal(take_all(&bucket, ten, START_NS + 200 * MS), 1);
}

static void a_bucket_that_is_emptied_for_another_window_fills_in_that_one(void **state) {
    struct token_bucket bucket = {0};
    const struct token_rate slow = {10, 3600};

    (void)state;
    assert_int_equal(take_all(&bucket, slow, START_NS), 10);
    token_bucket_empty(&bucket, ten, START_NS);
    assert_int_equal(take_all(&bucket, ten, START_NS), 0);
    assert_int_equal(take_all(&bucket, ten, START_NS + 100 * MS), 1);
    assert_int_equal(take_all(&bucket, ten, START_NS + 2000 * MS), 10);
}

static void the_level_says_what_is_there_and_when_more_is(void **state) {
    struct token_bucket bucket = {0};
    struct token_level level;

    (void)state;
    assert_true(token_bucket_take(&bucket, ten, 8, START_NS));
    level = token_bucket_level(&bucket, ten, 5, START_NS);
    assert_int_equal(level.tokens, 2);
    assert_int_equal(level.wait_ns, 300 * MS);
    assert_int_equal(level.full_ns, 800 * MS);
    assert_false(token_bucket_take(&bucket, ten, 5, START_NS + level.wait_ns - 1));
    assert_true(token_bucket_take(&bucket, ten, 5, START_NS + level.wait_ns));
    assert_true(token_bucket_level(&bucket, ten, 11, START_NS).wait_ns == TOKENS_NEVER);
    assert_int_equal(token_bucket_level(&(struct token_bucket){0}, ten, 10, START_NS).wait_ns, 0);
}

static void the_largest_numbers_do_not_overflow(void **state) {
    struct token_bucket bucket = {0};
    const struct token_rate slowest = {1, UINT32_MAX}, fastest = {UINT32_MAX, 1};

    (void)state;
    assert_true(token_bucket_take(&bucket, slowest, 1, START_NS));
    assert_false(token_bucket_take(&bucket, slowest, 1, START_NS + (UINT32_MAX - 1) * SECOND_IN_NS));
    assert_true(token_bucket_take(&bucket, slowest, 1, START_NS + UINT32_MAX * SECOND_IN_NS));
    bucket = (struct token_bucket){0};
    assert_true(token_bucket_take(&bucket, fastest, UINT32_MAX, START_NS));
    assert_false(token_bucket_take(&bucket, fastest, 1, START_NS));
    assert_false(token_bucket_take(&bucket, fastest, UINT64_MAX, START_NS));
}

/* An older time, as a worker has it whose turn began earlier, gives no tokens. */
static void a_clock_behind_gives_fewer_tokens_never_more(void **state) {
    struct token_bucket bucket = {0};

    (void)state;
    assert_int_equal(take_all(&bucket, ten, START_NS), 10);
    assert_int_equal(take_all(&bucket, ten, START_NS - 500 * MS), 0);
    assert_int_equal(take_all(&bucket, ten, START_NS + 100 * MS), 1);
}

/* --- threads --- */

#define THREADS 4
#define TRIES 50000

static struct token_bucket shared;
static const struct token_rate many = {60000, 1};

static void *take_many(void *context) {
    unsigned *granted = context;

    for (unsigned i = 0; i < TRIES; i++)
        if (token_bucket_take(&shared, many, 1 + i % 3, START_NS))
            *granted += 1 + i % 3;
    return NULL;
}

static void threads_get_together_exactly_what_is_there(void **state) {
    pthread_t threads[THREADS];
    unsigned granted[THREADS] = {0}, sum = 0;

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, &granted[i]), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += granted[i];
    }
    assert_int_equal(sum, many.limit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_bucket_holds_exactly_its_limit_whatever_that_is),
        cmocka_unit_test(it_fills_continuously_and_no_further_than_its_limit),
        cmocka_unit_test(a_cost_is_taken_as_a_whole_or_not_at_all),
        cmocka_unit_test(what_is_given_back_can_be_taken_again),
        cmocka_unit_test(a_limit_of_0_takes_everything_and_leaves_the_level),
        cmocka_unit_test(a_new_limit_is_in_force_at_once_and_gives_no_tokens),
        cmocka_unit_test(a_bucket_that_is_emptied_for_another_window_fills_in_that_one),
        cmocka_unit_test(the_level_says_what_is_there_and_when_more_is),
        cmocka_unit_test(the_largest_numbers_do_not_overflow),
        cmocka_unit_test(a_clock_behind_gives_fewer_tokens_never_more),
        cmocka_unit_test(threads_get_together_exactly_what_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
