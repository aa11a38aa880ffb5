/* The sweep: which records are read again, and which entries go, and when. The test makes the sweeps and the workers'
 * turns itself; the store is a fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "app_manager/cache/cache.h"
#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_invalidate.h"
#include "app_manager/cache/cache_removal.h"
#include "app_manager/cache/cache_sweep.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fake_store.h"
#include "harness.h"

#define WORKERS 2
#define CAPACITY 20
#define TIMEOUT_MS 120000

static struct config config;
static struct workers workers;
static struct app_cache *cache;
static struct cache_sweep *sweep;
static struct app_lookup lookup;
static unsigned answered;

/* What stands for the channels of a slot. */
static struct channels {
    bool empty;
    unsigned asked;
} channels;

static void ignore_change(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void ignore_channels(void *of_slot) {
    (void)of_slot;
}

/* Takes locks of its own in the server: the cache's mutex must be free. */
static bool channels_empty(void *of_slot) {
    assert_ptr_equal(of_slot, &channels);
    assert_int_equal(pthread_mutex_trylock(&cache->mutex), 0);
    pthread_mutex_unlock(&cache->mutex);
    channels.asked++;
    return channels.empty;
}

static const struct app_manager_hooks hooks = {
    .changed = ignore_change, .free_channels = ignore_channels, .channels_empty = channels_empty};

static int set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR};
    struct error error;

    (void)state;
    log_configure(&quiet);
    fake_store_reset();
    fake_store.app_count = 1000;
    channels = (struct channels){.empty = true};
    config = (struct config){0};
    config.app_manager.driver = CONFIG_DRIVER_SQLITE;
    config.app_manager.lookup_timeout_ms = TIMEOUT_MS;
    config.app_manager.vanished_grace_s = 3600;
    config.app_manager.cache.enabled = true;
    config.app_manager.cache.ttl_s = 3600;
    config.app_manager.cache.stale_if_error_s = 3600;
    config.app_manager.cache.max_capacity = CAPACITY;
    harness_create(&workers, WORKERS);
    cache = app_cache_create(&config, &fake_store_driver, &workers, &hooks, &error);
    if (cache == NULL)
        fail_msg("%s", error.text);
    sweep = cache_sweep_create(cache);
    store_pool_start(cache->pool); /* no maintenance thread: the test sweeps */
    answered = 0;
    return 0;
}

/* Turns until what was deferred is freed; what is deferred meanwhile waits for the next turns. */
static void turn_all(void) {
    for (unsigned i = 0; i < 4 * WORKERS; i++)
        harness_settle(workers.list[i % WORKERS]);
}

static int tear_down(void **state) {
    (void)state;
    assert_true(app_cache_stop(cache));
    turn_all();
    cache_sweep_destroy(sweep);
    app_cache_destroy(cache);
    harness_destroy(&workers);
    return 0;
}

static void run_sweep(void) {
    cache_sweep_begin(sweep);
    cache_sweep_continue(sweep);
}

static void done(struct app_lookup *of_lookup) {
    (void)of_lookup;
    answered++;
}

static bool fetches_are_in_flight(void) {
    bool in_flight;

    pthread_mutex_lock(&cache->mutex);
    in_flight = !list_empty(&cache->fetches.list);
    pthread_mutex_unlock(&cache->mutex);
    return in_flight;
}

static void await_queries(unsigned count) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;

    while (atomic_load(&fake_store.queries) < count || fetches_are_in_flight()) {
        poll(NULL, 0, 1);
        if (clock_monotonic_ms() > end_ms)
            fail_msg("%u of %u queries", atomic_load(&fake_store.queries), count);
    }
}

/* On worker 0, at `now_ms`; the answer may need the store. */
static enum app_answer find_at(unsigned number, uint64_t now_ms) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;
    unsigned before = answered;
    char id[32];

    snprintf(id, sizeof id, "app-%u", number);
    lookup = (struct app_lookup){.done = done};
    workers.list[0]->now_ms = now_ms;
    if (app_cache_find(cache, workers.list[0], NAME_ID, slice_of(id), &lookup) == APP_PENDING)
        while (answered == before) {
            poll(NULL, 0, 1);
            harness_settle(workers.list[0]);
            if (clock_monotonic_ms() > end_ms)
                fail_msg("no answer for %s", id);
        }
    return lookup.answer;
}

static enum app_answer find(unsigned number) {
    return find_at(number, clock_monotonic_ms());
}

static struct cache_entry *entry_of(unsigned number) {
    char id[32];
    struct cache_entry *entry;

    snprintf(id, sizeof id, "app-%u", number);
    pthread_mutex_lock(&cache->mutex);
    entry = records_find(&cache->records, NAME_ID, slice_of(id), hash_bytes(slice_of(id)));
    pthread_mutex_unlock(&cache->mutex);
    return entry;
}

/* Loads apps from number 0 on, used in this order. */
static void load(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(find(i), APP_FOUND);
        entry_of(i)->loaded_ms -= count - i;
        atomic_store(&entry_of(i)->used_ms[0], 0);
    }
    await_queries(count);
    turn_all();
}

static void the_least_recently_used_go_when_every_worker_has_ended_a_turn(void **state) {
    (void)state;
    load(CAPACITY + 5); /* five, and a sixteenth of the capacity */
    run_sweep();
    assert_true(cache->eviction_pending);
    assert_int_equal(cache->records.count, CAPACITY + 5);
    harness_settle(workers.list[0]);
    assert_int_equal(cache->records.count, CAPACITY + 5);
    turn_all();
    assert_int_equal(cache->records.count, CAPACITY - 1);
    for (unsigned i = 0; i < CAPACITY + 5; i++)
        assert_int_equal(entry_of(i) != NULL, i >= 6);
    assert_false(cache->eviction_pending);
}

static void an_entry_that_is_found_meanwhile_stays(void **state) {
    (void)state;
    load(CAPACITY + 2);
    run_sweep();
    assert_int_equal(find(0), APP_FOUND);
    turn_all();
    assert_non_null(entry_of(0));
    assert_null(entry_of(1));
    assert_null(entry_of(2));
    assert_int_equal(find(1), APP_FOUND); /* from the store */
}

static void an_entry_that_a_query_has_pinned_meanwhile_stays(void **state) {
    struct cache_entry *entry;

    (void)state;
    load(CAPACITY + 2);
    entry = entry_of(0);
    run_sweep();
    assert_int_equal(entry->life, ENTRY_EVICTING);
    pthread_mutex_lock(&cache->mutex);
    entry_pin(entry);
    pthread_mutex_unlock(&cache->mutex);
    turn_all();
    assert_ptr_equal(entry_of(0), entry);
    assert_null(entry_of(1));
    entry_unpin(entry);
    run_sweep();
    turn_all();
    assert_ptr_equal(entry_of(0), entry); /* within the capacity now */
}

static void apps_with_connections_stay_and_do_not_count(void **state) {
    (void)state;
    load(2 * CAPACITY);
    for (unsigned i = 0; i < CAPACITY; i++)
        assert_true(slot_connection_enter(entry_of(i)->slot, 0));
    run_sweep();
    turn_all();
    assert_int_equal(cache->records.count, 2 * CAPACITY);
    assert_int_equal(cache->capacity.in_use, CAPACITY);
    for (unsigned i = 0; i < CAPACITY; i++)
        slot_connection_leave(entry_of(i)->slot);
    run_sweep();
    turn_all();
    assert_int_equal(cache->records.count, CAPACITY - 1);
}

static void an_app_that_gets_a_connection_meanwhile_stays(void **state) {
    struct cache_entry *entry;

    (void)state;
    load(CAPACITY + 2);
    entry = entry_of(0);
    run_sweep();
    assert_true(slot_connection_enter(entry->slot, 0));
    turn_all();
    assert_ptr_equal(entry_of(0), entry);
    assert_int_equal(entry->life, ENTRY_LIVE);
    slot_connection_leave(entry->slot);
}

static void an_app_whose_channels_keep_an_event_stays_and_they_are_asked_without_the_mutex(void **state) {
    (void)state;
    load(CAPACITY + 2);
    atomic_store(&entry_of(0)->slot->channels, &channels);
    channels.empty = false;
    run_sweep();
    assert_int_equal(channels.asked, 1);
    turn_all();
    assert_int_equal(cache->capacity.in_use, 1);
    assert_non_null(entry_of(0));
    channels.empty = true;
    load(CAPACITY + 10);
    atomic_store(&entry_of(0)->slot->channels, &channels);
    run_sweep();
    channels.empty = false; /* it gets an event before the workers have ended their turns */
    turn_all();
    assert_non_null(entry_of(0));
}

static void an_entry_that_has_lost_its_record_goes_whatever_the_capacity(void **state) {
    (void)state;
    load(2);
    app_cache_written(cache, app_cache_write_version(cache), SLICE("app-0"), NULL, NULL);
    run_sweep();
    turn_all();
    assert_null(entry_of(0));
    assert_non_null(entry_of(1));
}

static void evict_meanwhile(struct app_slot *slot, void *context) {
    unsigned *seen = context;

    if ((*seen)++ == 0) {
        run_sweep();
        turn_all();
    }
    assert_non_null(slot_app(slot));
}

static void slots_stay_for_a_thread_that_reads_them_all(void **state) {
    unsigned seen = 0;

    (void)state;
    load(CAPACITY + 5);
    app_cache_each_slot(cache, evict_meanwhile, &seen);
    assert_int_equal(seen, CAPACITY + 5);
    turn_all();
    assert_int_equal(cache->records.count, CAPACITY - 1);
}

static void records_in_use_are_read_again_when_it_is_time(void **state) {
    (void)state;
    load(3);
    run_sweep();
    await_queries(3);
    for (unsigned i = 0; i < 3; i++)
        entry_of(i)->refresh_at_ms = 1;
    assert_true(slot_connection_enter(entry_of(0)->slot, 0));
    atomic_store(&entry_of(1)->used_ms[1], clock_monotonic_ms());
    fake_store.max_connections = 7;
    run_sweep();
    await_queries(5); /* the one that is not in use is left alone */
    run_sweep();
    assert_int_equal(fake_store.queries, 5);
    turn_all();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(slot_app(entry_of(i)->slot)->max_connections, i < 2 ? 7 : 1);
    slot_connection_leave(entry_of(0)->slot);
}

static void of_what_may_have_changed_all_in_use_is_read_again_and_the_rest_when_it_is_looked_up(void **state) {
    (void)state;
    load(2);
    assert_true(slot_connection_enter(entry_of(0)->slot, 0));
    fake_store.max_connections = 7;
    app_cache_invalidate_all(cache);
    assert_true(cache->wake.sweep_wanted);
    run_sweep();
    await_queries(3);
    assert_int_equal(slot_app(entry_of(0)->slot)->max_connections, 7);
    assert_int_equal(slot_app(entry_of(1)->slot)->max_connections, 1);
    assert_int_equal(find(1), APP_FOUND);
    assert_int_equal(lookup.app->max_connections, 7);
    assert_int_equal(fake_store.queries, 4);
    slot_connection_leave(entry_of(0)->slot);
}

/* --- apps that vanish from a store without notices --- */

/* Sweeps until so many apps are held, or known. */
static void sweep_until(const size_t *value, size_t wanted) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;
    size_t seen;

    do {
        poll(NULL, 0, 10);
        run_sweep();
        turn_all();
        pthread_mutex_lock(&cache->mutex);
        seen = *value;
        pthread_mutex_unlock(&cache->mutex);
        if (clock_monotonic_ms() > end_ms)
            fail_msg("%zu, not %zu", seen, wanted);
    } while (seen != wanted);
}

/* Loads as many apps as fit, a while ago; then the store has fewer, and the last app is read again. */
static void load_and_read_last_again(unsigned app_count) {
    load(CAPACITY);
    for (unsigned i = 0; i < CAPACITY; i++)
        entry_of(i)->loaded_ms -= 5000;
    fake_store.app_count = app_count;
    fake_store.queries = 0;
    pthread_mutex_lock(&cache->mutex);
    cache->records.array[CAPACITY - 1]->early = true;
    records_refresh_now(&cache->records, cache->records.array[CAPACITY - 1]);
    pthread_mutex_unlock(&cache->mutex);
}

/* One that is not found has others read early, though none of them is due or in use. */
static void when_all_apps_vanish_one_look_finds_all_of_them_and_they_are_held(void **state) {
    (void)state;
    load_and_read_last_again(0);
    sweep_until(&cache->records.removals.held, CAPACITY);
    assert_int_equal(cache->records.known, CAPACITY);
    assert_in_range(fake_store.queries, 2 * CAPACITY, 4 * CAPACITY);
    for (unsigned i = 0; i < CAPACITY; i++)
        assert_int_equal(find(i), APP_FOUND);
    assert_int_equal(cache->records.removals.total, 1);
    assert_int_equal(app_cache_confirm_removal(cache), CAPACITY);
    sweep_until(&cache->records.known, 0);
    assert_int_equal(cache->records.removals.held, 0);
    assert_int_equal(find(1), APP_NOT_FOUND);
}

static void when_one_app_vanishes_few_others_are_read_and_it_goes(void **state) {
    (void)state;
    load_and_read_last_again(CAPACITY - 1);
    sweep_until(&cache->records.known, CAPACITY - 1);
    assert_in_range(fake_store.queries, 2, 12);
    assert_int_equal(cache->records.removals.total, 0);
    assert_int_equal(find(CAPACITY - 1), APP_NOT_FOUND);
    assert_int_equal(find(0), APP_FOUND);
}

/* Records that cannot be read have not vanished. */
static void while_the_store_fails_no_app_is_removed_though_its_time_is_over(void **state) {
    (void)state;
    load_and_read_last_again(0);
    sweep_until(&cache->records.removals.held, CAPACITY);
    fake_store.down = true;
    fake_store.queries = 0;
    pthread_mutex_lock(&cache->mutex);
    for (size_t i = 0; i < CAPACITY; i++) {
        cache->records.array[i]->vanishing.held_until_ms = 1;
        records_refresh_now(&cache->records, cache->records.array[i]);
    }
    pthread_mutex_unlock(&cache->mutex);
    run_sweep();
    while (fetches_are_in_flight())
        poll(NULL, 0, 1);
    assert_int_equal(cache->records.known, CAPACITY);
    fake_store.down = false;
    sweep_until(&cache->records.known, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_least_recently_used_go_when_every_worker_has_ended_a_turn),
        TEST(an_entry_that_is_found_meanwhile_stays),
        TEST(an_entry_that_a_query_has_pinned_meanwhile_stays),
        TEST(apps_with_connections_stay_and_do_not_count),
        TEST(an_app_that_gets_a_connection_meanwhile_stays),
        TEST(an_app_whose_channels_keep_an_event_stays_and_they_are_asked_without_the_mutex),
        TEST(an_entry_that_has_lost_its_record_goes_whatever_the_capacity),
        TEST(slots_stay_for_a_thread_that_reads_them_all),
        TEST(records_in_use_are_read_again_when_it_is_time),
        TEST(of_what_may_have_changed_all_in_use_is_read_again_and_the_rest_when_it_is_looked_up),
        TEST(when_all_apps_vanish_one_look_finds_all_of_them_and_they_are_held),
        TEST(when_one_app_vanishes_few_others_are_read_and_it_goes),
        TEST(while_the_store_fails_no_app_is_removed_though_its_time_is_over),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
