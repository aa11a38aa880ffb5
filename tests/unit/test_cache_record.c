/* Records of the cache: entries by id and key, how long they are fresh, and what may be served beyond that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "app_manager/cache/cache_record.h"
#include "base/hash.h"

#define TTL_MS 100000
#define STALE_MS 50000
#define NOW_MS 1000000

static struct cache_settings settings;
static struct cache_wake wake;
static struct records records;
static struct cache_effects effects;
static struct app_defaults defaults;

static void no_channels(void *channels) {
    (void)channels;
    fail_msg("no slot of this test has channels");
}

static int set_up(void **state) {
    (void)state;
    settings = (struct cache_settings){.ttl_ms = TTL_MS, .stale_if_error_ms = STALE_MS, .capacity = 100};
    cache_wake_init(&wake);
    records_init(&records, &settings, &wake, 2, no_channels);
    return 0;
}

/* There are no workers: what was unlinked can be freed, and the record that changed be given up. */
static void forget_effects(void) {
    app_unref(effects.changed);
    app_unref(effects.replaced);
    reclaim_batch_free(&effects.unlinked);
    effects = (struct cache_effects){0};
}

static int tear_down(void **state) {
    (void)state;
    forget_effects();
    records_dispose(&records);
    cache_wake_dispose(&wake);
    return 0;
}

static struct cache_entry *put(const char *id, const char *key, bool enabled) {
    json_t *json = json_pack("{s:s, s:s, s:s, s:b}", "id", id, "key", key, "secret", "s", "enabled", enabled);
    struct error error;
    struct app *app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);

    json_decref(json);
    assert_non_null(app);
    forget_effects();
    return records_put(&records, app, NOW_MS, &effects);
}

static struct cache_entry *find(enum name_kind kind, const char *name) {
    return records_find(&records, kind, slice_of(name), hash_bytes(slice_of(name)));
}

static void a_record_is_found_by_id_and_by_key(void **state) {
    struct cache_entry *entry = put("a", "ka", true);

    (void)state;
    assert_ptr_equal(find(NAME_ID, "a"), entry);
    assert_ptr_equal(find(NAME_KEY, "ka"), entry);
    assert_null(find(NAME_ID, "ka"));
    assert_null(find(NAME_KEY, "a"));
    assert_int_equal(records.count, 1);
    assert_non_null(effects.changed);
    assert_false(effects.closes_sessions);
    assert_ptr_equal(put("a", "ka", true), entry); /* the same again */
    assert_null(effects.changed);
    assert_int_equal(records.count, 1);
}

static void a_record_that_is_disabled_or_dropped_closes_sessions(void **state) {
    struct cache_entry *entry = put("a", "ka", true);

    (void)state;
    put("a", "ka", false);
    assert_true(effects.closes_sessions);
    put("a", "ka", true);
    assert_false(effects.closes_sessions);
    records_drop(&records, entry, &effects);
    assert_true(effects.closes_sessions);
    assert_null(slot_app(entry->slot));
    assert_null(find(NAME_KEY, "ka"));
    assert_ptr_equal(find(NAME_ID, "a"), entry);
    forget_effects();
    records_drop(&records, entry, &effects);
    assert_false(effects.closes_sessions);
}

static void a_key_follows_its_record(void **state) {
    struct cache_entry *a = put("a", "one", true), *b;

    (void)state;
    put("a", "two", true);
    assert_null(find(NAME_KEY, "one"));
    assert_ptr_equal(find(NAME_KEY, "two"), a);
    assert_false(wake.sweep_wanted);
    b = put("b", "two", true);
    assert_ptr_equal(find(NAME_KEY, "two"), b);
    assert_null(a->key);
    assert_int_equal(a->refresh_at_ms, 0); /* which key has it now? */
    assert_true(wake.sweep_wanted);
}

static void a_record_is_fresh_for_its_ttl_and_read_again_well_before(void **state) {
    const struct cache_entry *entry = put("a", "ka", true);

    (void)state;
    assert_int_equal(entry->fresh_until_ms, NOW_MS + TTL_MS);
    assert_in_range(entry->refresh_at_ms, NOW_MS + TTL_MS / 2, NOW_MS + TTL_MS * 3 / 4);
    assert_int_equal(entry_last_used_ms(entry, 2), NOW_MS);
}

static void an_expired_record_may_be_served_for_the_time_of_stale_if_error_and_no_longer(void **state) {
    struct cache_entry *entry = put("a", "ka", true);
    uint64_t last_ms = NOW_MS + TTL_MS + STALE_MS;

    (void)state;
    assert_true(records_may_serve_stale(&records, entry, last_ms - 1));
    assert_false(records_may_serve_stale(&records, entry, last_ms));
    records_serve_stale(&records, entry, NOW_MS + TTL_MS + 1000);
    assert_true(entry->stale);
    assert_int_equal(entry->fresh_until_ms, NOW_MS + TTL_MS + 1000);
    records_serve_stale(&records, entry, last_ms + 1000);
    assert_int_equal(entry->fresh_until_ms, last_ms);
    put("a", "ka", true);
    assert_false(entry->stale);
    records_drop(&records, entry, &effects);
    assert_false(records_may_serve_stale(&records, entry, NOW_MS));
}

static void refreshes_that_fail_back_off(void **state) {
    static const unsigned pauses_ms[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000};
    struct cache_entry *entry = put("a", "ka", true);

    (void)state;
    for (unsigned i = 0; i < sizeof pauses_ms / sizeof pauses_ms[0]; i++) {
        records_put_off(&records, entry, NOW_MS);
        assert_int_equal(entry->refresh_at_ms, NOW_MS + pauses_ms[i]);
    }
    assert_false(entry->stale); /* fresh until after the next attempt */
    records_put_off(&records, entry, NOW_MS + TTL_MS);
    assert_true(entry->stale);
    assert_int_equal(entry->fresh_until_ms, NOW_MS + TTL_MS + 5000 + STALE_AFTER_MS);
    put("a", "ka", true);
    records_put_off(&records, entry, NOW_MS);
    assert_int_equal(entry->refresh_at_ms, NOW_MS + 100);
}

static void without_the_cache_a_record_is_never_fresh_nor_served_stale(void **state) {
    struct cache_entry *entry;

    (void)state;
    settings.passthrough = true;
    entry = put("a", "ka", true);
    assert_int_equal(entry->fresh_until_ms, 0);
    assert_int_equal(entry->refresh_at_ms, NOW_MS + TTL_MS);
    assert_false(records_may_serve_stale(&records, entry, NOW_MS));
    settings.ttl_ms = 0;
    put("a", "ka", true);
    assert_int_equal(entry->refresh_at_ms, NOW_MS + 300000);
}

static void broken_records_are_counted_until_they_are_repaired(void **state) {
    struct cache_entry *a = put("a", "ka", true), *b = put("b", "kb", true);

    (void)state;
    records_set_broken(&records, a, "one");
    records_set_broken(&records, a, "two");
    records_set_broken(&records, b, "one");
    assert_int_equal(records.broken, 2);
    assert_string_equal(a->broken, "two");
    put("a", "ka", true);
    assert_int_equal(records.broken, 1);
    records_drop(&records, b, &effects);
    assert_int_equal(records.broken, 0);
}

static void more_new_entries_than_the_capacity_want_a_sweep(void **state) {
    char id[16];

    (void)state;
    for (unsigned i = 0; i < 106; i++) {
        snprintf(id, sizeof id, "%u", i);
        put(id, id, true);
    }
    assert_false(wake.sweep_wanted);
    put("one-more", "one-more", true);
    assert_true(wake.sweep_wanted);
}

static void an_entry_that_is_used_or_pinned_is_not_evicted(void **state) {
    struct cache_entry *entry = put("a", "ka", true);

    (void)state;
    atomic_store(&entry->life, ENTRY_EVICTING);
    assert_true(entry_revive(entry));
    assert_int_equal(entry->life, ENTRY_LIVE);
    atomic_store(&entry->life, ENTRY_EVICTING);
    entry_pin(entry);
    assert_int_equal(entry->life, ENTRY_LIVE);
    assert_int_equal(entry->pins, 1);
    entry_unpin(entry);
    atomic_store(&entry->life, ENTRY_DEAD);
    assert_false(entry_revive(entry));
    atomic_store(&entry->used_ms[1], NOW_MS + 5);
    assert_int_equal(entry_last_used_ms(entry, 2), NOW_MS + 5);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_is_found_by_id_and_by_key),
        TEST(a_record_that_is_disabled_or_dropped_closes_sessions),
        TEST(a_key_follows_its_record),
        TEST(a_record_is_fresh_for_its_ttl_and_read_again_well_before),
        TEST(an_expired_record_may_be_served_for_the_time_of_stale_if_error_and_no_longer),
        TEST(refreshes_that_fail_back_off),
        TEST(without_the_cache_a_record_is_never_fresh_nor_served_stale),
        TEST(broken_records_are_counted_until_they_are_repaired),
        TEST(more_new_entries_than_the_capacity_want_a_sweep),
        TEST(an_entry_that_is_used_or_pinned_is_not_evicted),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
