/* Fetches: one query for all lookups of a name, and its answer on each lookup's worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app_manager/cache/cache_fetch.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/hash.h"
#include "harness.h"

#define WORKERS 2

static struct workers workers;
static struct lookup_counters *counters;
static struct cache_wake wake;
static struct fetches fetches;
static struct reclaim_batch unlinked;
static unsigned answered[WORKERS];

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, WORKERS);
    counters = alloc_cache_line(WORKERS * sizeof *counters);
    cache_wake_init(&wake);
    fetches_init(&fetches, &workers, counters, &wake);
    memset(answered, 0, sizeof answered);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        harness_settle(workers.list[i]);
    fetches_dispose(&fetches);
    reclaim_batch_free(&unlinked);
    cache_wake_dispose(&wake);
    free(counters);
    harness_destroy(&workers);
    return 0;
}

static void done_on_first(struct app_lookup *lookup) {
    (void)lookup;
    answered[0]++;
}

static void done_on_second(struct app_lookup *lookup) {
    (void)lookup;
    answered[1]++;
}

static struct cache_fetch *add(const char *key) {
    return fetches_add(&fetches, NAME_KEY, slice_of(key), NULL, 0, &unlinked);
}

static void join(struct cache_fetch *fetch, unsigned worker, struct app_lookup *lookup) {
    *lookup = (struct app_lookup){.answer = APP_PENDING, .done = worker == 0 ? done_on_first : done_on_second};
    fetch_join(fetch, workers.list[worker], lookup);
}

static void answer(struct cache_fetch *fetch, enum app_answer result, const char *reason) {
    struct fetch_delivery *deliveries = NULL;

    fetch_answer(fetch, result, reason, &deliveries);
    fetch_post(deliveries);
}

static void end(struct cache_fetch *fetch) {
    fetches_remove(&fetches, fetch);
    fetch_unref(fetch);
}

static void a_fetch_is_found_by_its_name_until_it_ends(void **state) {
    struct slice name = SLICE("a");
    struct cache_fetch *fetch = add("a");

    (void)state;
    assert_ptr_equal(fetches_find(&fetches, NAME_KEY, name, hash_bytes(name)), fetch);
    assert_null(fetches_find(&fetches, NAME_ID, name, hash_bytes(name)));
    assert_int_equal(fetch->operation.priority, STORE_UNKNOWN);
    assert_true(wake.work_waits); /* it may have to be ended in time */
    end(fetch);
    assert_null(fetches_find(&fetches, NAME_KEY, name, hash_bytes(name)));
}

static void each_lookup_is_answered_once_on_its_own_worker(void **state) {
    struct app_lookup lookups[5];
    struct cache_fetch *fetch = add("a");

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        join(fetch, i % 2, &lookups[i]);
    answer(fetch, APP_NOT_FOUND, NULL);
    end(fetch);
    harness_settle(workers.list[1]);
    assert_int_equal(answered[0], 0);
    assert_int_equal(answered[1], 2);
    harness_settle(workers.list[0]);
    assert_int_equal(answered[0], 3);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(lookups[i].answer, APP_NOT_FOUND);
}

static void fetches_and_the_lookups_that_wait_are_counted_and_have_a_bound(void **state) {
    struct cache_fetch *fetch = add("a");
    uint64_t alone = budget_used(BUDGET_LOOKUPS), refusals = budget_refusals(BUDGET_LOOKUPS);
    struct app_lookup lookups[3];
    size_t rest;

    (void)state;
    assert_in_range(alone, sizeof *fetch, sizeof *fetch + 64);
    for (unsigned i = 0; i < 3; i++)
        join(fetch, i % 2, &lookups[i]);
    assert_true(budget_used(BUDGET_LOOKUPS) >= alone + 3 * sizeof lookups[0]);
    fetch_leave(&lookups[0]);
    fetch_leave(&lookups[0]);
    budget_set_limit(UINT64_C(16) << 20);
    assert_true(fetches_have_room(SLICE("b")));
    rest = (size_t)(budget_kind_limit(BUDGET_LOOKUPS) - budget_used(BUDGET_LOOKUPS));
    budget_add(BUDGET_LOOKUPS, NULL, rest - 1000);
    assert_false(fetches_have_room(SLICE("b")));
    assert_int_equal(budget_refusals(BUDGET_LOOKUPS) - refusals, 1);
    budget_give(BUDGET_LOOKUPS, NULL, rest - 1000);
    budget_set_limit(0);
    answer(fetch, APP_NOT_FOUND, NULL);
    end(fetch);
    for (unsigned i = 0; i < WORKERS; i++)
        harness_settle(workers.list[i]);
    assert_int_equal(answered[0], 1);
    assert_int_equal(answered[1], 1);
    assert_int_equal(budget_used(BUDGET_LOOKUPS), 0);
}

static void a_cancelled_lookup_is_not_answered(void **state) {
    struct app_lookup gone, stays;
    struct cache_fetch *fetch = add("a");

    (void)state;
    join(fetch, 0, &gone);
    join(fetch, 0, &stays);
    fetch_leave(&gone);
    answer(fetch, APP_UNAVAILABLE, NULL);
    end(fetch);
    harness_settle(workers.list[0]);
    assert_int_equal(answered[0], 1);
    assert_int_equal(gone.answer, APP_PENDING);
    assert_int_equal(counter_read(&counters[0].errors), 1);
}

static char reason_then[32];

static void keep_reason(struct app_lookup *lookup) {
    snprintf(reason_then, sizeof reason_then, "%s", lookup->reason);
}

static void the_reason_of_a_broken_record_is_there_when_the_lookup_is_answered(void **state) {
    char reason[] = "why";
    struct app_lookup lookup;
    struct cache_fetch *fetch = add("a");

    (void)state;
    join(fetch, 0, &lookup);
    lookup.done = keep_reason;
    answer(fetch, APP_INVALID, reason);
    memset(reason, 'x', 3);
    end(fetch);
    harness_settle(workers.list[0]);
    assert_int_equal(lookup.answer, APP_INVALID);
    assert_string_equal(reason_then, "why");
}

static void a_fetch_that_goes_on_answers_later_lookups_with_its_next_answer(void **state) {
    struct app_lookup early, late;
    struct cache_fetch *fetch = add("a");

    (void)state;
    join(fetch, 0, &early);
    answer(fetch, APP_UNAVAILABLE, NULL);
    harness_settle(workers.list[0]);
    assert_int_equal(early.answer, APP_UNAVAILABLE);
    join(fetch, 0, &late);
    answer(fetch, APP_NOT_FOUND, NULL);
    end(fetch);
    harness_settle(workers.list[0]);
    assert_int_equal(late.answer, APP_NOT_FOUND);
    assert_int_equal(answered[0], 2);
}

static void thousands_of_lookups_are_answered_over_several_turns(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 1200, sizeof *lookups);
    struct cache_fetch *fetch = add("a");

    (void)state;
    for (unsigned i = 0; i < 1200; i++)
        join(fetch, 0, &lookups[i]);
    answer(fetch, APP_NOT_FOUND, NULL);
    end(fetch);
    harness_turn(workers.list[0]);
    assert_in_range(answered[0], 1, 1000);
    harness_settle(workers.list[0]);
    assert_int_equal(answered[0], 1200);
    free(lookups);
}

/* An entry that is good for pins only. */
static struct cache_entry *create_entry(void) {
    struct cache_entry *entry = alloc_cache_line(sizeof *entry + WORKERS * sizeof entry->used_ms[0]);

    entry->by_id.text = SLICE("a");
    entry->by_id.hash = hash_bytes(entry->by_id.text);
    return entry;
}

static void refreshes_are_bounded_and_the_sweep_is_woken_when_half_have_ended(void **state) {
    struct cache_entry *entry = create_entry();
    struct cache_fetch *refreshes[REFRESHES_MAX];

    (void)state;
    for (unsigned i = 0; i < REFRESHES_MAX; i++) {
        assert_true(fetches_may_refresh(&fetches));
        refreshes[i] = fetches_add_refresh(&fetches, entry, 0, &unlinked);
    }
    assert_int_equal(entry->pins, REFRESHES_MAX);
    assert_int_equal(refreshes[0]->operation.priority, STORE_KNOWN);
    assert_false(fetches_may_refresh(&fetches));
    for (unsigned i = 0; i < REFRESHES_MAX; i++) {
        assert_int_equal(wake.sweep_wanted, i >= REFRESHES_MAX / 2);
        end(refreshes[i]);
    }
    assert_int_equal(entry->pins, 0);
    assert_true(list_empty(&fetches.list));
    free(entry);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_fetch_is_found_by_its_name_until_it_ends),
        TEST(each_lookup_is_answered_once_on_its_own_worker),
        TEST(fetches_and_the_lookups_that_wait_are_counted_and_have_a_bound),
        TEST(a_cancelled_lookup_is_not_answered),
        TEST(the_reason_of_a_broken_record_is_there_when_the_lookup_is_answered),
        TEST(a_fetch_that_goes_on_answers_later_lookups_with_its_next_answer),
        TEST(thousands_of_lookups_are_answered_over_several_turns),
        TEST(refreshes_are_bounded_and_the_sweep_is_woken_when_half_have_ended),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
