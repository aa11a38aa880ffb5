/* Negative entries: names that the store does not know, and names of broken records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "app_manager/cache/cache_negative.h"
#include "base/hash.h"

#define TTL_MS 1000

static struct negatives negatives;
static struct reclaim_batch unlinked; /* freed at the end: there are no workers */
static struct app_lookup lookup;

static int set_up(void **state) {
    (void)state;
    negatives_init(&negatives, TTL_MS);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    negatives_dispose(&negatives);
    reclaim_batch_free(&unlinked);
    return 0;
}

static void put_unknown(enum name_kind kind, const char *name, uint64_t now_ms) {
    negatives_put_unknown(&negatives, kind, slice_of(name), now_ms, &unlinked);
}

static bool put_broken(enum name_kind kind, const char *name, const char *reason, uint64_t now_ms) {
    return negatives_put_broken(&negatives, kind, slice_of(name), reason, now_ms, &unlinked);
}

/* APP_PENDING: the store is to be asked. */
static enum app_answer find(enum name_kind kind, const char *name, uint64_t now_ms) {
    struct slice text = slice_of(name);

    lookup = (struct app_lookup){.answer = APP_PENDING};
    negatives_find(&negatives, kind, text, hash_bytes(text), now_ms, &lookup);
    return lookup.answer;
}

static void an_unknown_name_is_not_found_until_it_expires(void **state) {
    (void)state;
    assert_int_equal(find(NAME_KEY, "a", 0), APP_PENDING);
    put_unknown(NAME_KEY, "a", 0);
    assert_int_equal(find(NAME_KEY, "a", TTL_MS - 1), APP_NOT_FOUND);
    assert_int_equal(find(NAME_ID, "a", 0), APP_PENDING);
    assert_int_equal(find(NAME_KEY, "a", TTL_MS), APP_PENDING);
    put_unknown(NAME_KEY, "a", TTL_MS);
    assert_int_equal(find(NAME_KEY, "a", 2 * TTL_MS - 1), APP_NOT_FOUND);
    assert_int_equal(negatives_count(&negatives), 1);
}

static void a_broken_record_is_invalid_with_its_reason(void **state) {
    (void)state;
    put_broken(NAME_ID, "a", "app a: why", 0);
    assert_int_equal(find(NAME_ID, "a", 0), APP_INVALID);
    assert_string_equal(lookup.reason, "app a: why");
    put_unknown(NAME_ID, "a", 0);
    assert_int_equal(find(NAME_ID, "a", 0), APP_NOT_FOUND);
    assert_null(lookup.reason);
    assert_int_equal(negatives.broken_count[NAME_ID], 0);
    assert_int_equal(negatives.reasons.count, 0);
}

static void a_reason_is_logged_once_for_each_change_whichever_name_finds_it(void **state) {
    (void)state;
    assert_true(put_broken(NAME_KEY, "ka", "app a: one", 0));
    assert_false(put_broken(NAME_KEY, "ka", "app a: one", 1));
    assert_false(put_broken(NAME_ID, "a", "app a: one", 2));
    assert_true(put_broken(NAME_ID, "a", "app a: two", 3));
    assert_false(put_broken(NAME_KEY, "ka", "app a: two", 4));
    assert_true(put_broken(NAME_KEY, "ka", "app a: one", 5)); /* as it was broken at first: a change, too */
    assert_false(put_broken(NAME_ID, "a", "app a: one", 6));
    assert_int_equal(negatives.reasons.count, 1);
    assert_true(put_broken(NAME_ID, "b", "app b: one", 7));
}

static void a_change_is_logged_though_another_name_still_has_the_reason_of_before(void **state) {
    (void)state;
    assert_true(put_broken(NAME_KEY, "ka", "app a: one", 0));
    assert_false(put_broken(NAME_ID, "a", "app a: one", 1));
    assert_true(put_broken(NAME_ID, "a", "app a: two", 2));
    assert_true(put_broken(NAME_ID, "a", "app a: one", 3)); /* the key was not asked for meanwhile */
    assert_false(put_broken(NAME_KEY, "ka", "app a: one", 4));
}

static void a_record_that_was_repaired_is_logged_again_when_it_breaks(void **state) {
    (void)state;
    assert_true(put_broken(NAME_ID, "a", "app a: one", 0));
    negatives_drop(&negatives, NAME_ID, SLICE("a"), &unlinked);
    assert_int_equal(negatives_count(&negatives), 0);
    assert_true(put_broken(NAME_ID, "a", "app a: one", 1));
}

static void expiring_forgets_unknown_names_and_keeps_the_reasons_of_broken_ones(void **state) {
    (void)state;
    put_unknown(NAME_KEY, "unknown", 0);
    put_broken(NAME_KEY, "broken", "app a: one", 0);
    put_unknown(NAME_ID, "other", 0);
    negatives_expire(&negatives, NAME_KEY, SLICE("unknown"), &unlinked);
    negatives_expire(&negatives, NAME_KEY, SLICE("broken"), &unlinked);
    negatives_expire(&negatives, NAME_KEY, SLICE("nothing"), &unlinked);
    assert_int_equal(find(NAME_KEY, "unknown", 0), APP_PENDING);
    assert_int_equal(find(NAME_KEY, "broken", 0), APP_PENDING);
    assert_int_equal(find(NAME_ID, "other", 0), APP_NOT_FOUND);
    assert_false(put_broken(NAME_KEY, "broken", "app a: one", 0));
    negatives_expire_all(&negatives, &unlinked);
    assert_int_equal(find(NAME_ID, "other", 0), APP_PENDING);
    assert_int_equal(find(NAME_KEY, "broken", 0), APP_PENDING);
    assert_int_equal(negatives_count(&negatives), 1);
    assert_false(put_broken(NAME_KEY, "broken", "app a: one", 0));
    assert_int_equal(find(NAME_KEY, "broken", 0), APP_INVALID);
}

static void each_kind_of_name_is_bounded_and_made_up_names_do_not_displace_broken_ones(void **state) {
    char name[16];

    (void)state;
    put_broken(NAME_KEY, "broken", "app a: one", 0);
    put_unknown(NAME_ID, "first", 0);
    for (unsigned i = 0; i < NEGATIVE_MAX + 10; i++) {
        snprintf(name, sizeof name, "%u", i);
        put_unknown(NAME_KEY, name, 0);
    }
    assert_int_equal(negatives_count(&negatives), NEGATIVE_MAX + 2);
    assert_int_equal(find(NAME_KEY, "9", 0), APP_PENDING); /* the oldest went */
    assert_int_equal(find(NAME_KEY, "10", 0), APP_NOT_FOUND);
    assert_int_equal(find(NAME_KEY, "broken", 0), APP_INVALID);
    assert_int_equal(find(NAME_ID, "first", 0), APP_NOT_FOUND);
    for (unsigned i = 0; i < NEGATIVE_MAX; i++) {
        snprintf(name, sizeof name, "broken-%u", i);
        put_broken(NAME_KEY, name, name, 0);
    }
    assert_int_equal(negatives.broken_count[NAME_KEY], NEGATIVE_MAX);
    assert_int_equal(negatives.reasons.count, NEGATIVE_MAX);
    assert_int_equal(find(NAME_KEY, "broken", 0), APP_PENDING);
    assert_int_equal(find(NAME_KEY, "10", 0), APP_NOT_FOUND);
}

static void clean_up_removes_expired_unknown_names_a_few_at_a_time(void **state) {
    char name[16];

    (void)state;
    put_broken(NAME_KEY, "broken", "app a: one", 0);
    for (unsigned i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "%u", i);
        put_unknown(NAME_KEY, name, i);
    }
    assert_int_equal(negatives_clean_up(&negatives, NAME_KEY, TTL_MS + 5, 4, &unlinked), 4);
    assert_int_equal(negatives_clean_up(&negatives, NAME_KEY, TTL_MS + 5, 4, &unlinked), 2);
    assert_int_equal(negatives_clean_up(&negatives, NAME_KEY, TTL_MS + 5, 4, &unlinked), 0);
    assert_int_equal(negatives_clean_up(&negatives, NAME_ID, TTL_MS + 5, 4, &unlinked), 0);
    assert_int_equal(negatives_count(&negatives), 5);
    assert_false(put_broken(NAME_KEY, "broken", "app a: one", TTL_MS + 5));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_unknown_name_is_not_found_until_it_expires),
        TEST(a_broken_record_is_invalid_with_its_reason),
        TEST(a_reason_is_logged_once_for_each_change_whichever_name_finds_it),
        TEST(a_change_is_logged_though_another_name_still_has_the_reason_of_before),
        TEST(a_record_that_was_repaired_is_logged_again_when_it_breaks),
        TEST(expiring_forgets_unknown_names_and_keeps_the_reasons_of_broken_ones),
        TEST(each_kind_of_name_is_bounded_and_made_up_names_do_not_displace_broken_ones),
        TEST(clean_up_removes_expired_unknown_names_a_few_at_a_time),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
