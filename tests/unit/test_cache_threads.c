/* The threads of the cache: what they do in time by themselves, and a system that has none left. The store is a
 * fake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "app_manager/cache/cache.h"
#include "app_manager/cache/cache_internal.h"
#include "app_manager/cache/cache_outage.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fake_store.h"
#include "harness.h"

#define TIMEOUT_MS 120000

static struct config config;
static struct workers workers;
static struct app_cache *cache;
static struct error error;

static void ignore_change(struct worker *worker, void *context) {
    (void)worker;
    (void)context;
}

static void ignore_channels(void *channels) {
    (void)channels;
}

static bool always_empty(void *channels) {
    (void)channels;
    return true;
}

static const struct app_manager_hooks hooks = {
    .changed = ignore_change, .free_channels = ignore_channels, .channels_empty = always_empty};

static int set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR + 1};

    (void)state;
    log_configure(&quiet);
    fake_store_reset();
    fake_store.app_count = 1;
    config = (struct config){0};
    config.app_manager.driver = CONFIG_DRIVER_SQLITE;
    config.app_manager.lookup_timeout_ms = 100;
    config.app_manager.cache.enabled = true;
    config.app_manager.cache.ttl_s = 3600;
    config.app_manager.cache.cleanup_interval_s = 3600;
    config.app_manager.cache.max_capacity = 20;
    harness_create(&workers, 1);
    cache = NULL;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_fail_threads(0);
    assert_true(app_cache_stop(cache));
    harness_settle(workers.list[0]);
    app_cache_destroy(cache);
    harness_destroy(&workers);
    return 0;
}

static struct app_lookup lookup;
static unsigned answered;

static void done(struct app_lookup *of_lookup) {
    (void)of_lookup;
    answered++;
}

static enum app_answer find_key(const char *key) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;
    unsigned before = answered;

    lookup = (struct app_lookup){.done = done};
    workers.list[0]->now_ms = clock_monotonic_ms();
    if (app_cache_find(cache, workers.list[0], NAME_KEY, slice_of(key), &lookup) == APP_PENDING)
        while (answered == before) {
            poll(NULL, 0, 1);
            harness_settle(workers.list[0]);
            assert_true(clock_monotonic_ms() < end_ms);
        }
    return lookup.answer;
}

static void create_with(const struct app_store_driver *driver) {
    cache = app_cache_create(&config, driver, &workers, &hooks, &error);
    if (cache == NULL)
        fail_msg("%s", error.text);
}

static void start_with(const struct app_store_driver *driver) {
    create_with(driver);
    if (!app_cache_start(cache, &error))
        fail_msg("%s", error.text);
}

/* The pool tries to start one thread, and goes without. */
static void a_start_without_a_maintenance_thread_fails(void **state) {
    (void)state;
    create_with(&fake_store_driver);
    harness_fail_threads(2);
    assert_false(app_cache_start(cache, &error));
    assert_non_null(strstr(error.text, "curlew-cache"));
}

static void a_start_without_a_watch_thread_fails(void **state) {
    (void)state;
    create_with(&fake_watched_store_driver);
    harness_fail_threads(2);
    assert_false(app_cache_start(cache, &error));
    assert_non_null(strstr(error.text, "curlew-watch"));
}

static void without_a_thread_of_the_pool_the_cache_starts_and_lookups_find_one_later(void **state) {
    (void)state;
    create_with(&fake_watched_store_driver);
    harness_fail_threads(1);
    assert_true(app_cache_start(cache, &error));
    assert_int_equal(find_key("key-0"), APP_FOUND);
}

/* --- while nothing happens the maintenance thread sleeps long --- */

static void await_long_sleep(void) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;
    bool sleeps_long = false;

    while (!sleeps_long) {
        poll(NULL, 0, 1);
        pthread_mutex_lock(&cache->mutex);
        sleeps_long = cache->wake.sleeps_long;
        pthread_mutex_unlock(&cache->mutex);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/* As a driver does that hangs in the kernel. */
static void prepare_when_gate_opens(void) {
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

static void a_lookup_that_comes_while_it_sleeps_is_ended_in_time(void **state) {
    (void)state;
    fake_store.prepare = prepare_when_gate_opens;
    pthread_mutex_lock(&gate);
    start_with(&fake_store_driver);
    await_long_sleep();
    assert_int_equal(find_key("key-0"), APP_UNAVAILABLE);
    pthread_mutex_unlock(&gate);
}

static atomic_uint ended;

static enum store_answer never_run(struct store_operation *operation, struct store_connection *connection,
                                   struct error *ignored) {
    (void)operation;
    (void)connection;
    (void)ignored;
    return STORE_OK;
}

static void note_end(struct store_operation *operation, enum store_answer answer, const struct error *ignored) {
    (void)operation;
    (void)ignored;
    assert_int_equal(answer, STORE_UNAVAILABLE);
    atomic_fetch_add(&ended, 1);
}

static void an_operation_of_others_that_comes_while_it_sleeps_is_ended_in_time(void **state) {
    struct store_operation operation = {.priority = STORE_URGENT, .run = never_run, .finished = note_end};
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;

    (void)state;
    fake_store.prepare = prepare_when_gate_opens;
    pthread_mutex_lock(&gate);
    start_with(&fake_store_driver);
    await_long_sleep();
    app_cache_submit(cache, &operation, 1);
    while (atomic_load(&ended) == 0) {
        poll(NULL, 0, 1);
        assert_true(clock_monotonic_ms() < end_ms);
    }
    pthread_mutex_unlock(&gate);
}

static void the_end_of_an_outage_is_noticed_though_nothing_is_looked_up(void **state) {
    uint64_t end_ms = clock_monotonic_ms() + TIMEOUT_MS;

    (void)state;
    start_with(&fake_store_driver);
    assert_int_equal(find_key("key-0"), APP_FOUND);
    await_long_sleep();
    atomic_store(&fake_store.down, true);
    assert_int_equal(find_key("key-1"), APP_UNAVAILABLE);
    assert_int_equal(app_cache_health(cache), APP_HEALTH_DEGRADED);
    assert_int_equal(find_key("key-0"), APP_FOUND);
    atomic_store(&fake_store.down, false);
    while (app_cache_health(cache) != APP_HEALTH_OK) {
        poll(NULL, 0, 5);
        assert_true(clock_monotonic_ms() < end_ms);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_start_without_a_maintenance_thread_fails),
        TEST(a_start_without_a_watch_thread_fails),
        TEST(without_a_thread_of_the_pool_the_cache_starts_and_lookups_find_one_later),
        TEST(a_lookup_that_comes_while_it_sleeps_is_ended_in_time),
        TEST(an_operation_of_others_that_comes_while_it_sleeps_is_ended_in_time),
        TEST(the_end_of_an_outage_is_noticed_though_nothing_is_looked_up),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
