/* The cache in front of a store: lookups, and what is known of names. The store is SQLite. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app_cache_fixture.h"
#include "app_manager/cache/cache_unknown.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "harness.h"

/* --- looking up --- */

static void a_record_that_was_found_by_key_is_there_at_once_by_key_and_by_id(void **state) {
    (void)state;
    fixture_open("", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    assert_int_equal(fixture.limit, 1);
    assert_string_equal(fixture.last.slot->id, "a");
    assert_int_equal(fixture.answered, 1);
    /* When the watch begins, idle records are to be read once more. */
    for (unsigned round = 1, known = 0; known == 0; round++) {
        uint64_t before = fixture_queries(), hits = fixture_lookups().hits;
        assert_int_equal(fixture_by_key("ka"), APP_FOUND);
        assert_int_equal(fixture_by_id("a"), APP_FOUND);
        known = fixture_queries() == before && fixture_lookups().hits == hits + 2;
        assert_true(round < 5);
    }
    assert_true(fixture_lookups().misses <= 5);
}

static void a_hit_allocates_nothing(void **state) {
    uint64_t before = harness_allocations(), asked;

    (void)state;
    fixture_open("", 5000);
    assert_true(harness_allocations() > before);
    do { /* when the watch begins, the record is to be read once more */
        asked = fixture_queries();
        before = harness_allocations();
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(fixture_by_key("ka"), APP_FOUND);
            assert_int_equal(fixture_by_id("a"), APP_FOUND);
        }
    } while (fixture_queries() != asked);
    assert_int_equal(harness_allocations(), before);
}

static void a_thousand_who_ask_at_once_cost_one_query_on_all_workers(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 1000, sizeof *lookups);

    (void)state;
    fixture_run_sql("BEGIN EXCLUSIVE"); /* WAL: readers go on, but the first connection prepares, and waits */
    fixture_open("", 20000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(fixture_start(&lookups[i], i % FIXTURE_WORKERS, true, "ka"), APP_PENDING);
    fixture_run_sql("COMMIT");
    fixture_await_answers(1000);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(lookups[i].answer, APP_FOUND);
        assert_ptr_equal(lookups[i].slot, lookups[0].slot);
    }
    assert_true(fixture_queries() <= 2); /* once more if the watch began meanwhile */
    free(lookups);
}

static void who_went_away_is_not_answered(void **state) {
    struct app_lookup gone, stays;

    (void)state;
    fixture_run_sql("BEGIN EXCLUSIVE");
    fixture_open("", 20000);
    assert_int_equal(fixture_start(&gone, 0, true, "ka"), APP_PENDING);
    assert_int_equal(fixture_start(&stays, 0, true, "ka"), APP_PENDING);
    app_manager_cancel(fixture.manager, &gone);
    fixture_run_sql("COMMIT");
    fixture_await_answers(1);
    assert_int_equal(stays.answer, APP_FOUND);
    assert_int_equal(gone.answer, APP_PENDING);
    assert_int_equal(fixture.answered, 1);
}

static void a_name_that_is_not_there_is_asked_for_once_in_its_time(void **state) {
    uint64_t asked;

    (void)state;
    fixture_open("\"negative_ttl\":3600", 5000);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(fixture_by_key("nobody"), APP_NOT_FOUND);
        assert_int_equal(fixture_by_id("nobody"), APP_NOT_FOUND);
    }
    assert_in_range(fixture_queries(), 2, 6); /* what was known is forgotten when the watch begins */
    assert_in_range(fixture_lookups().negatives, 34, 38);
    asked = fixture_queries();
    assert_int_equal(fixture_by_key("with blank"), APP_NOT_FOUND); /* no app can have it */
    assert_int_equal(fixture_by_key(""), APP_NOT_FOUND);
    assert_int_equal(fixture_queries(), asked);
}

static void names_that_are_not_there_take_a_bounded_space(void **state) {
    char name[32];

    (void)state;
    fixture_open("\"negative_ttl\":3600", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "made-up-%u", i);
        assert_int_equal(fixture_by_key(name), APP_NOT_FOUND);
        assert_true(fixture_lookups().negative_entries <= i + 1);
    }
    assert_int_equal(fixture_lookups().entries, 1);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
}

/* Looks up made-up names until one is refused; returns how many were asked for. */
static unsigned flood_with_ids(void) {
    enum app_answer answer = APP_NOT_FOUND;
    char name[32];
    unsigned i;

    for (i = 0; answer == APP_NOT_FOUND && i < 100000; i++) {
        snprintf(name, sizeof name, "made-up-%u", i);
        answer = fixture_by_id(name);
    }
    assert_int_equal(answer, APP_UNAVAILABLE);
    return i - 1;
}

/* Tokens that a bucket which was full then can have given until now. */
static uint64_t tokens_at_most(unsigned limit, uint64_t began_ms) {
    return limit + 2 + (clock_monotonic_ms() - began_ms) * limit / (UNKNOWN_WINDOW_S * 1000);
}

static void made_up_names_ask_the_store_so_often_and_no_more(void **state) {
    uint64_t began_ms = clock_monotonic_ms();
    unsigned asked;

    (void)state;
    fixture_open("\"negative_ttl\":0", 20000);
    asked = flood_with_ids();
    assert_in_range(asked, UNKNOWN_ADDRESS_LIMIT, tokens_at_most(UNKNOWN_ADDRESS_LIMIT, began_ms));
    assert_int_equal(fixture_lookups().misses, asked);
    assert_int_equal(fixture_by_key("made-up"), APP_NOT_FOUND); /* keys are counted by themselves */
}

#define IP4(last) (UINT64_C(0xffff) << 32 | (last))
#define IP6(high) (UINT64_C(0x20010db800000000) | (uint64_t)(high))

/* An address with another bucket than the attacker's: the buckets are chosen by chance. */
static uint64_t other_address(const struct unknown_names *names, uint64_t attacker) {
    struct unknown_names probe = *names;
    uint64_t address = IP4(1);

    while (address == attacker || !unknown_names_admit(&probe, NAME_ID, address, clock_monotonic_ms()))
        address++;
    return address;
}

static void a_flood_from_one_address_leaves_the_others_apps_that_were_never_asked_for(void **state) {
    struct unknown_names *names = alloc_zero(sizeof *names);
    uint64_t now_ms = clock_monotonic_ms();

    (void)state;
    fixture.address = IP4(0xc0000201);
    unknown_names_init(names);
    while (unknown_names_admit(names, NAME_ID, fixture.address, now_ms))
        ;
    fixture_open("\"negative_ttl\":0", 20000);
    flood_with_ids();
    fixture.address = other_address(names, fixture.address);
    assert_int_equal(fixture_by_id("a"), APP_FOUND);
    unknown_names_dispose(names);
    free(names);
}

/* Takes tokens until there are no more; returns how many. */
static unsigned drain_unknown(struct unknown_names *names, uint64_t address, uint64_t now_ms) {
    unsigned count = 0;

    while (unknown_names_admit(names, NAME_ID, address, now_ms))
        count++;
    return count;
}

static void addresses_have_a_share_of_the_tokens_and_all_of_them_a_bound(void **state) {
    struct unknown_names *names = alloc_zero(sizeof *names);
    unsigned all = 0;

    (void)state;
    unknown_names_init(names);
    assert_int_equal(drain_unknown(names, IP6(0x0000), 1000), UNKNOWN_ADDRESS_LIMIT);
    assert_int_equal(drain_unknown(names, IP6(0xffff), 1000), 0); /* the same /48 */
    unknown_names_return(names, NAME_ID, IP6(0x1234));
    assert_int_equal(drain_unknown(names, IP6(0x0000), 1000), 1);
    for (unsigned i = 0; i < 100; i++)
        all += drain_unknown(names, IP4(i), 1000);
    assert_int_equal(all, UNKNOWN_LIMIT - UNKNOWN_ADDRESS_LIMIT);
    /* What was refused for want of all has cost none of the address. */
    assert_int_equal(drain_unknown(names, IP4(99), 1000 + UNKNOWN_WINDOW_S * 1000), UNKNOWN_ADDRESS_LIMIT);
    assert_true(unknown_names_admit(names, NAME_KEY, IP4(99), 1000));
    unknown_names_dispose(names);
    free(names);
}

static void made_up_names_do_not_concern_those_that_were_found(void **state) {
    unsigned tries;

    (void)state;
    fixture_open("\"enabled\":false", 20000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    flood_with_ids();
    for (tries = 0; tries < 100; tries++) /* each asks the store, by a name that the table does not hold any more */
        assert_int_equal(fixture_by_id("a"), APP_FOUND);
}

/* Each of them is unknown at first, as after a restart. */
static void apps_that_are_there_cost_no_token_of_made_up_names(void **state) {
    char id[32];

    (void)state;
    fixture_run_sql(
        "WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 2499) "
        "INSERT INTO applications SELECT 'app-' || i, 'key-' || i, 's', 1, 1, 0, 1 FROM n");
    fixture_open("", 20000);
    for (unsigned i = 0; i < 2500; i++) {
        snprintf(id, sizeof id, "app-%u", i);
        assert_int_equal(fixture_by_id(id), APP_FOUND);
    }
}

static void a_broken_record_is_invalid_with_its_field_until_it_is_repaired(void **state) {
    (void)state;
    fixture_insert("b", "kb", "'many'");
    fixture_open("\"negative_ttl\":1", 5000);
    assert_int_equal(fixture_by_key("kb"), APP_INVALID);
    assert_non_null(strstr(fixture.reason, "max_connections"));
    assert_int_equal(fixture_by_id("b"), APP_INVALID);
    assert_int_equal(fixture_by_id("a"), APP_FOUND);
    fixture_run_sql("UPDATE applications SET max_connections = 5 WHERE id = 'b'");
    fixture_until(true, "kb", APP_FOUND, 5);
}

static void a_record_that_breaks_leaves_the_last_valid_one_in_force(void **state) {
    (void)state;
    fixture_open("\"ttl\":1", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    fixture_run_sql("UPDATE applications SET max_connections = 'many' WHERE id = 'a'");
    fixture_insert("fence", "kfence", "2");
    fixture_until(true, "kfence", APP_FOUND, 2);
    for (uint64_t end_ms = clock_monotonic_ms() + 1500; clock_monotonic_ms() < end_ms; poll(NULL, 0, 20)) {
        assert_int_equal(fixture_by_key("ka"), APP_FOUND); /* past its time, and past a refresh */
        assert_int_equal(fixture.limit, 1);
    }
    assert_int_equal(fixture_lookups().broken, 1);
    fixture_run_sql("UPDATE applications SET max_connections = 6 WHERE id = 'a'");
    fixture_until(true, "ka", APP_FOUND, 6);
    assert_int_equal(fixture_lookups().broken, 0);
    fixture_run_sql("UPDATE applications SET max_connections = 'many' WHERE id = 'a'");
    while (fixture_lookups().broken == 0)
        fixture_by_key("ka");
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    fixture_until(true, "ka", APP_NOT_FOUND, 0);
    fixture_until(false, "a", APP_NOT_FOUND, 0);
    assert_int_equal(fixture_lookups().broken, 0);
}

static void every_lookup_asks_the_store(const char *cache) {
    fixture_open(cache, 1000);
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(fixture_by_key("ka"), APP_FOUND);
        assert_int_equal(fixture_by_key("nobody"), APP_NOT_FOUND);
        assert_true(fixture_queries() >= 2 * i);
    }
    fixture_lose_store();
    fixture_until(true, "ka", APP_UNAVAILABLE, 0);
    fixture_bring_back_store();
}

static void without_the_cache_every_lookup_asks_the_store(void **state) {
    (void)state;
    every_lookup_asks_the_store("\"enabled\":false");
}

static void with_a_ttl_of_0_every_lookup_asks_the_store(void **state) {
    (void)state;
    every_lookup_asks_the_store("\"ttl\":0,\"negative_ttl\":0");
}

static void without_the_cache_an_app_that_is_gone_is_not_found_before_its_connections_are_closed(void **state) {
    struct app_slot *slot;
    uint64_t deleted_ms;

    (void)state;
    fixture_open("\"enabled\":false", 5000);
    assert_int_equal(fixture_by_id("a"), APP_FOUND);
    slot = fixture.last.slot;
    assert_true(slot_connection_enter(slot, 0));
    deleted_ms = clock_monotonic_ms();
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    while (fixture.told[0] == 0) {
        assert_int_equal(fixture_by_id("a"), APP_NOT_FOUND);
        assert_int_equal(fixture_by_key("ka"), APP_NOT_FOUND);
        fixture_settle();
        assert_true(clock_monotonic_ms() < deleted_ms + FIXTURE_TIMEOUT_MS);
    }
    assert_true(clock_monotonic_ms() >= deleted_ms + 1000); /* it was looked for twice */
    assert_null(slot_app(slot));
    slot_connection_leave(slot);
}

/* --- space --- */

static void apps_beyond_the_capacity_go_but_never_one_with_connections(void **state) {
    uint64_t end_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;
    struct app_slot *slot;
    char id[32], key[32];

    (void)state;
    setenv("CACHE_MAX_CAPACITY", "20", 1);
    fixture_run_sql("BEGIN");
    for (unsigned i = 0; i < 300; i++) {
        snprintf(id, sizeof id, "app-%u", i);
        snprintf(key, sizeof key, "key-%u", i);
        fixture_insert(id, key, "3");
    }
    fixture_run_sql("COMMIT");
    fixture_open("", 5000);
    unsetenv("CACHE_MAX_CAPACITY");
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    slot = fixture.last.slot;
    assert_true(slot_connection_enter(slot, 0));
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(fixture_by_key(key), APP_FOUND);
        fixture_settle();
    }
    while (fixture_lookups().entries > 21 && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 5);
        fixture_settle();
    }
    assert_in_range(fixture_lookups().entries, 1, 21);
    assert_int_equal(fixture_start(&fixture.last, 0, true, "ka"), APP_FOUND);
    assert_ptr_equal(fixture.last.slot, slot);
    assert_int_equal(fixture_by_key("key-0"), APP_FOUND); /* is asked for again */
    slot_connection_leave(slot);
}

/* What goes does so when every worker has ended a turn; one of them does not, as on a machine that is too busy. */
static void no_more_apps_come_in_than_can_go(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, 1000, sizeof *lookups);
    uint64_t end_ms;
    char key[32];

    (void)state;
    setenv("CACHE_MAX_CAPACITY", "20", 1);
    fixture_run_sql(
        "WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 999) "
        "INSERT INTO applications SELECT 'app-' || i, 'key-' || i, 's', 1, 1, 0, 1 FROM n");
    fixture_open("", 20000);
    unsetenv("CACHE_MAX_CAPACITY");
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(fixture_start(&lookups[i], 0, true, key), APP_PENDING);
    }
    for (end_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS; fixture_lookups().entries < 500;
         harness_settle(fixture.workers.list[0]))
        assert_true(clock_monotonic_ms() < end_ms);
    for (end_ms = clock_monotonic_ms() + 400; clock_monotonic_ms() < end_ms; harness_settle(fixture.workers.list[0]))
        assert_in_range(fixture_lookups().entries, 500, 750);
    fixture_await_answers(1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(lookups[i].answer, APP_FOUND);
    end_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;
    while (fixture_lookups().entries > 20 && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 5);
        fixture_settle();
    }
    assert_in_range(fixture_lookups().entries, 1, 20);
    free(lookups);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_that_was_found_by_key_is_there_at_once_by_key_and_by_id),
        TEST(a_hit_allocates_nothing),
        TEST(a_thousand_who_ask_at_once_cost_one_query_on_all_workers),
        TEST(who_went_away_is_not_answered),
        TEST(a_name_that_is_not_there_is_asked_for_once_in_its_time),
        TEST(names_that_are_not_there_take_a_bounded_space),
        TEST(made_up_names_ask_the_store_so_often_and_no_more),
        TEST(a_flood_from_one_address_leaves_the_others_apps_that_were_never_asked_for),
        TEST(addresses_have_a_share_of_the_tokens_and_all_of_them_a_bound),
        TEST(made_up_names_do_not_concern_those_that_were_found),
        TEST(apps_that_are_there_cost_no_token_of_made_up_names),
        TEST(a_broken_record_is_invalid_with_its_field_until_it_is_repaired),
        TEST(a_record_that_breaks_leaves_the_last_valid_one_in_force),
        TEST(without_the_cache_every_lookup_asks_the_store),
        TEST(with_a_ttl_of_0_every_lookup_asks_the_store),
        TEST(without_the_cache_an_app_that_is_gone_is_not_found_before_its_connections_are_closed),
        TEST(apps_beyond_the_capacity_go_but_never_one_with_connections),
        TEST(no_more_apps_come_in_than_can_go),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
