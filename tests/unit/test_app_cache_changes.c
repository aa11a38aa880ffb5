/* Changes of apps that the cache knows: writes of this process, and those of others, for which another handle on the
 * SQLite file stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "app_cache_fixture.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"

/* --- writes --- */

static struct app *record(const char *id, const char *key, unsigned max_connections, bool enabled) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:i, s:b}", "id", id, "key", key, "secret", "s", "max_connections",
                             (int)max_connections, "enabled", enabled);
    struct app *app =
        app_parse(json, app_manager_defaults(fixture.manager), APP_FROM_CONFIGURATION, NULL, NULL, &fixture.error);

    json_decref(json);
    assert_non_null(app);
    return app;
}

static void a_changed_key_works_at_once_and_the_old_one_no_more(void **state) {
    struct app *old, *new;

    (void)state;
    fixture_open("\"negative_ttl\":3600", 5000);
    assert_int_equal(fixture_by_key("ka2"), APP_NOT_FOUND);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    old = record("a", "ka", 1, true);
    new = record("a", "ka2", 2, true);
    fixture_run_sql("UPDATE applications SET key = 'ka2', max_connections = 2 WHERE id = 'a'");
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), old, new);
    assert_int_equal(fixture_by_key("ka2"), APP_FOUND);
    assert_int_equal(fixture.limit, 2);
    assert_int_equal(fixture_by_key("ka"), APP_NOT_FOUND);
    assert_int_equal(fixture_by_id("a"), APP_FOUND);
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), new, NULL);
    assert_int_equal(fixture_by_id("a"), APP_NOT_FOUND);
    assert_int_equal(fixture_by_key("ka2"), APP_NOT_FOUND);
    app_unref(old);
    app_unref(new);
    fixture_settle();
}

static void each_record_that_a_write_replaces_is_told(void **state) {
    struct app *first, *second;

    (void)state;
    fixture_open("\"ttl\":3600", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    first = record("a", "ka", 1, true);
    second = record("a", "ka", 2, true);
    fixture_run_sql("UPDATE applications SET max_connections = 2 WHERE id = 'a'");
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), first, second);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), second, NULL);
    assert_int_equal(fixture_by_id("a"), APP_NOT_FOUND);
    assert_true(fixture_was_told("a 1>2\na 2>0\n"));
    app_unref(first);
    app_unref(second);
    fixture_settle();
}

/* The writers' threads may tell of their writes in the other order. */
static void of_two_writes_at_the_same_moment_the_later_one_counts_whoever_tells_of_it_first(void **state) {
    struct app *old, *new;
    uint64_t first, second;

    (void)state;
    fixture_open("\"ttl\":3600", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    old = record("a", "ka", 2, true);
    new = record("a", "ka", 3, true);
    first = app_manager_write_version(fixture.manager);
    fixture_run_sql("UPDATE applications SET max_connections = 2 WHERE id = 'a'");
    second = app_manager_write_version(fixture.manager);
    fixture_run_sql("UPDATE applications SET max_connections = 3 WHERE id = 'a'");
    app_manager_written(fixture.manager, second, SLICE("a"), NULL, new);
    app_manager_written(fixture.manager, first, SLICE("a"), NULL, old);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    assert_int_equal(fixture.limit, 3);
    first = app_manager_write_version(fixture.manager);
    fixture_run_sql("UPDATE applications SET max_connections = 2 WHERE id = 'a'");
    second = app_manager_write_version(fixture.manager);
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    app_unref(old);
    old = record("a", "ka", 2, true);
    app_manager_written(fixture.manager, second, SLICE("a"), new, NULL);
    app_manager_written(fixture.manager, first, SLICE("a"), NULL, old);
    assert_int_equal(fixture_by_key("ka"), APP_NOT_FOUND);
    assert_int_equal(fixture_by_id("a"), APP_NOT_FOUND);
    app_unref(old);
    app_unref(new);
    fixture_settle();
}

static void live_connections_hear_of_an_app_that_is_disabled_or_deleted(void **state) {
    struct app *off, *on;

    (void)state;
    fixture_open("", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    off = record("a", "ka", 1, false);
    on = record("a", "ka", 1, true);
    assert_true(slot_connection_enter(fixture.last.slot, 0));
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, off);
    fixture_settle();
    assert_int_equal(fixture.told[0], 1);
    assert_int_equal(fixture.told[1], 1);
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, on);
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), on, NULL);
    fixture_settle();
    assert_int_equal(fixture.told[1], 2);
    assert_null(slot_app(fixture.last.slot));
    slot_connection_leave(fixture.last.slot);
    app_unref(off);
    app_unref(on);
}

/* A worker has found the app, and lets somebody in in the same turn. */
static void who_is_let_in_while_the_app_is_disabled_or_deleted_hears_of_it(void **state) {
    struct app *off;

    (void)state;
    fixture_open("", 5000);
    for (unsigned deleted = 0; deleted < 2; deleted++) {
        unsigned before = fixture.told[0];
        assert_int_equal(fixture_by_key("ka"), APP_FOUND);
        fixture_settle();
        for (unsigned count = fixture.answered;
             fixture_start(&fixture.last, 0, true, "ka") == APP_PENDING;) /* others' changes are watched now */
            fixture_await_answers(++count);
        off = deleted ? NULL : record("a", "ka", 1, false);
        app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, off);
        assert_true(slot_connection_enter(fixture.last.slot, 0));
        fixture_settle();
        assert_true(fixture.told[0] > before && fixture.told[1] > before);
        slot_connection_leave(fixture.last.slot);
        app_unref(off);
        off = record("a", "ka", 1, true);
        app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, off);
        app_unref(off);
    }
}

static void write_record(bool enabled) {
    struct app *written = record("a", "ka", 1, enabled); /* a new one each time: a record enters a slot only once */

    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, written);
    app_unref(written);
}

/* Many changes in a turn are one look; what changes after it is another. */
static void one_look_is_for_all_changes_before_it(void **state) {
    (void)state;
    fixture_open("", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    fixture_settle();
    for (unsigned i = 0; i < 100; i++) {
        write_record(false);
        write_record(true);
    }
    fixture_settle();
    assert_int_equal(fixture.told[0], 1);
    assert_int_equal(fixture.told[1], 1);
    write_record(false);
    fixture_settle();
    assert_int_equal(fixture.told[0], 2);
    assert_int_equal(fixture.told[1], 2);
}

/* Whoever holds a record and finds it replaced in its slot finds the newer one by it, at any moment. */
static void a_record_that_is_replaced_knows_its_successor(void **state) {
    struct app *before, *latest;
    struct app_slot *slot;

    (void)state;
    fixture_open("", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    slot = fixture.last.slot;
    before = app_ref(atomic_load(&slot->current));
    assert_ptr_equal(app_latest(before), before);
    write_record(false);
    latest = app_latest(before);
    assert_ptr_not_equal(latest, before);
    assert_ptr_equal(latest, slot_app(slot));
    write_record(true);
    assert_ptr_equal(app_latest(before), slot_app(slot));
    app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, NULL);
    assert_null(app_latest(before));
    app_unref(before);
    fixture_settle();
}

struct writer {
    atomic_bool end;
    atomic_uint written; /* no lookup that starts now may see less */
};

static void *write_on(void *context) {
    struct writer *writer = context;
    sqlite3 *own;
    char sql[128];

    assert_int_equal(sqlite3_open(fixture.database_path, &own), SQLITE_OK);
    sqlite3_busy_timeout(own, FIXTURE_TIMEOUT_MS);
    for (unsigned i = 2; i < 400; i++) {
        struct app *app = record("a", "ka", i, true);
        snprintf(sql, sizeof sql, "UPDATE applications SET max_connections = %u WHERE id = 'a'", i);
        assert_int_equal(sqlite3_exec(own, sql, NULL, NULL, NULL), SQLITE_OK);
        app_manager_written(fixture.manager, app_manager_write_version(fixture.manager), SLICE("a"), NULL, app);
        atomic_store(&writer->written, i);
        app_unref(app);
    }
    atomic_store(&writer->end, true);
    sqlite3_close(own);
    return NULL;
}

static void a_query_that_began_before_a_write_never_fills_the_cache(void **state) {
    struct writer writer = {0};
    pthread_t thread;

    (void)state;
    fixture_open("\"enabled\":false", 20000); /* each lookup is a query that races with the writes */
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    while (!atomic_load(&writer.end)) {
        unsigned least = atomic_load(&writer.written);
        assert_int_equal(fixture_by_key("ka"), APP_FOUND);
        assert_true(fixture.limit >= least);
    }
    pthread_join(thread, NULL);
}

/* --- changes that others make --- */

static void an_app_that_others_delete_is_gone_for_live_connections_too(void **state) {
    uint64_t deleted_ms;
    struct app_slot *slot;

    (void)state;
    fixture_open("", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    slot = fixture.last.slot;
    assert_true(slot_connection_enter(slot, 0));
    deleted_ms = clock_monotonic_ms();
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    while (fixture.told[0] == 0 && clock_monotonic_ms() < deleted_ms + FIXTURE_TIMEOUT_MS) {
        poll(NULL, 0, 5);
        fixture_settle();
    }
    assert_int_equal(fixture.told[0], 1);
    assert_true(clock_monotonic_ms() >= deleted_ms + 1000); /* it was looked for twice */
    assert_null(slot_app(slot));
    slot_connection_leave(slot);
}

/* As a store may have it that answers from a copy which lags behind. */
static void an_app_that_is_missing_once_and_there_a_second_later_closes_nobody(void **state) {
    uint64_t asked, end_ms = clock_monotonic_ms() + FIXTURE_TIMEOUT_MS;
    struct app_slot *slot;

    (void)state;
    fixture_open("", 5000);
    assert_int_equal(fixture_by_key("ka"), APP_FOUND);
    slot = fixture.last.slot;
    assert_true(slot_connection_enter(slot, 0));
    fixture_insert("fence", "kfence",
                   "2"); /* the watch is there when this is noticed, and the app has been read again */
    fixture_until(true, "kfence", APP_FOUND, 2);
    fixture_run_sql("UPDATE applications SET max_connections = 7 WHERE id = 'a'");
    fixture_until(true, "ka", APP_FOUND, 7);
    asked = fixture_queries();
    fixture_run_sql("DELETE FROM applications WHERE id = 'a'");
    while (fixture_queries() == asked) {
        poll(NULL, 0, 1);
        assert_true(clock_monotonic_ms() < end_ms);
    }
    fixture_insert("a", "ka", "8");
    fixture_until(true, "ka", APP_FOUND, 8); /* it was read again */
    fixture_settle();
    assert_int_equal(fixture.told[0], 0);
    assert_ptr_equal(fixture.last.slot, slot);
    slot_connection_leave(slot);
}

#define MANY 8000

/* What all of them wait for; each is on a connection's slot. */
static void find_many(struct app_lookup *lookups) {
    char key[32];

    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(fixture_start(&lookups[i], i % FIXTURE_WORKERS, true, key), APP_PENDING);
        if (i % 500 == 499) /* no more than may wait */
            fixture_await_answers(i + 1);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(lookups[i].answer, APP_FOUND);
        assert_true(slot_connection_enter(lookups[i].slot, 0));
    }
}

static unsigned count_with_limit(const struct app_lookup *lookups, unsigned max_connections) {
    unsigned count = 0;

    for (unsigned i = 0; i < MANY; i++)
        count += slot_app(lookups[i].slot)->max_connections == max_connections;
    return count;
}

/* The file is read every second. Sweeps of a thousand apps, a second apart, would need seven seconds more. How long the
 * machine takes for as many queries is measured first. */
static void thousands_of_live_apps_that_others_change_are_read_again_at_once(void **state) {
    struct app_lookup *lookups = alloc_array(NULL, MANY, sizeof *lookups);
    uint64_t began_ms, took_ms, end_ms;

    (void)state;
    fixture_run_sql(
        "WITH RECURSIVE n (i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 7999) "
        "INSERT INTO applications SELECT 'app-' || i, 'key-' || i, 's', 1, 1, 0, 1 FROM n");
    fixture_open("", 60000);
    began_ms = clock_monotonic_ms();
    find_many(lookups);
    took_ms = clock_monotonic_ms() - began_ms;
    fixture_run_sql("UPDATE applications SET max_connections = 2");
    end_ms = clock_monotonic_ms() + 4000 + 10 * took_ms;
    while (count_with_limit(lookups, 2) < MANY && clock_monotonic_ms() < end_ms) {
        poll(NULL, 0, 5);
        fixture_settle();
    }
    assert_int_equal(count_with_limit(lookups, 2), MANY);
    for (unsigned i = 0; i < MANY; i++)
        slot_connection_leave(lookups[i].slot);
    free(lookups);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_changed_key_works_at_once_and_the_old_one_no_more),
        TEST(each_record_that_a_write_replaces_is_told),
        TEST(of_two_writes_at_the_same_moment_the_later_one_counts_whoever_tells_of_it_first),
        TEST(live_connections_hear_of_an_app_that_is_disabled_or_deleted),
        TEST(who_is_let_in_while_the_app_is_disabled_or_deleted_hears_of_it),
        TEST(one_look_is_for_all_changes_before_it),
        TEST(a_record_that_is_replaced_knows_its_successor),
        TEST(a_query_that_began_before_a_write_never_fills_the_cache),
        TEST(an_app_that_others_delete_is_gone_for_live_connections_too),
        TEST(an_app_that_is_missing_once_and_there_a_second_later_closes_nobody),
        TEST(thousands_of_live_apps_that_others_change_are_read_again_at_once),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
