/* The memory driver: every call of a store, and the name of each thing that can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app_defaults.h"
#include "base/buffer.h"
#include "base/log.h"
#include "config/config.h"
#include "store/drivers.h"
#include "store/store.h"

static const struct app_store_driver *const driver = &memory_store_driver;
static struct app_defaults defaults;
static struct app_store *store;
static struct store_connection *connection;
static struct deadline deadline;
static struct error error;

static void open_with(const char *apps) {
    struct config config = {0};

    config.app_manager.array_apps = json_loads(apps, 0, NULL);
    assert_non_null(config.app_manager.array_apps);
    store = store_open(driver, &config, &defaults, &error);
    assert_non_null(store);
    connection = store_connect(store, &deadline, &error);
    assert_non_null(connection);
    assert_int_equal(store_prepare(connection, &error), STORE_OK);
    json_decref(config.app_manager.array_apps);
}

static int set_up(void **state) {
    const struct log_settings quiet = {.level = LOG_ERROR};

    (void)state;
    log_configure(&quiet);
    app_defaults_of_100(&defaults);
    error.text[0] = '\0';
    store = NULL;
    deadline = deadline_after(5000, -1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    store_disconnect(connection);
    store_close(store);
    return 0;
}

static struct app *make(const char *id, const char *key, unsigned max_connections) {
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:i}", "id", id, "key", key, "secret", "s", "max_connections", (int)max_connections);
    struct app *app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);

    assert_non_null(app);
    json_decref(json);
    return app;
}

/* max_connections of the app that has the id, 0 if there is none. */
static unsigned limit_of(const char *id) {
    struct app *app = NULL;
    unsigned limit = 0;

    if (store_find_by_id(connection, slice_of(id), &app, &error) == STORE_OK) {
        assert_true(slice_equal(app->id, slice_of(id)));
        limit = app->max_connections;
        app_unref(app);
    }
    return limit;
}

static bool key_finds(const char *key, const char *id) {
    struct app *app = NULL;
    bool found = store_find_by_key(connection, slice_of(key), &app, &error) == STORE_OK;

    if (!found)
        return false;
    found = slice_equal(app->id, slice_of(id));
    app_unref(app);
    return found;
}

static void append_listed(void *context, struct slice id, struct slice key, struct app *app, const struct error *why) {
    struct buffer *out = context;

    buffer_appendf(out, "%.*s=%.*s%s ", SLICE_ARGS(id), SLICE_ARGS(key), app == NULL ? "!" : "");
    if (app == NULL)
        assert_true(why->text[0] != '\0');
    app_unref(app);
}

static void assert_listed(const char *after, size_t limit, const char *expected) {
    struct buffer out = {0};

    assert_int_equal(store_list(connection, slice_of(after), limit, append_listed, &out, &error), STORE_OK);
    buffer_append_byte(&out, '\0');
    assert_string_equal(out.data, expected);
    buffer_dispose(&out);
}

static void apps_of_the_configuration_are_found_by_id_and_key(void **state) {
    struct app *app = NULL;

    (void)state;
    open_with(
        "[{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\",\"max_connections\":2},"
        "{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\",\"max_connections\":1}]");
    assert_string_equal(driver->name, "memory");
    assert_int_equal(limit_of("a"), 1);
    assert_int_equal(limit_of("b"), 2);
    assert_true(key_finds("ka", "a"));
    assert_true(key_finds("kb", "b"));
    assert_int_equal(store_find_by_id(connection, SLICE("kb"), &app, &error), STORE_NOT_FOUND);
    assert_int_equal(store_find_by_key(connection, SLICE("b"), &app, &error), STORE_NOT_FOUND);
    assert_int_equal(store_find_by_id(connection, SLICE(""), &app, &error), STORE_NOT_FOUND);
    assert_int_equal(store_find_by_id(connection, SLICE("aa"), &app, &error), STORE_NOT_FOUND);
    assert_int_equal(store_check_health(connection, &error), STORE_OK);
    assert_null(app);
}

static void ids_and_keys_may_be_integers(void **state) {
    (void)state;
    open_with("[{\"id\":40000,\"key\":12345,\"secret\":678,\"max_connections\":-1}]");
    assert_int_equal(limit_of("40000"), 0);
    assert_true(key_finds("12345", "40000"));
}

static void a_broken_record_is_found_as_broken_with_its_field(void **state) {
    struct app *app = NULL;

    (void)state;
    open_with(
        "[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\",\"max_connections\":\"many\"},"
        "{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\"}]");
    assert_int_equal(store_find_by_id(connection, SLICE("a"), &app, &error), STORE_INVALID);
    assert_non_null(strstr(error.text, "max_connections"));
    error.text[0] = '\0';
    assert_int_equal(store_find_by_key(connection, SLICE("ka"), &app, &error), STORE_INVALID);
    assert_non_null(strstr(error.text, "max_connections"));
    assert_null(app);
    assert_listed("", 10, "a=ka! b=kb ");
}

static void of_an_id_that_is_configured_twice_the_first_counts(void **state) {
    (void)state;
    open_with(
        "[{\"id\":\"c\",\"key\":\"kc\",\"secret\":\"s\",\"max_connections\":1},"
        "{\"id\":\"a\",\"key\":\"ka1\",\"secret\":\"s\",\"max_connections\":1},"
        "{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\",\"max_connections\":1},"
        "{\"id\":\"a\",\"key\":\"ka2\",\"secret\":\"s\",\"max_connections\":2},"
        "{\"id\":\"c\",\"secret\":\"broken\"},"
        "{\"id\":\"a\",\"key\":\"ka3\",\"secret\":\"s\",\"max_connections\":3}]");
    assert_listed("", 10, "a=ka1 b=kb c=kc ");
    assert_int_equal(limit_of("a"), 1);
    assert_false(key_finds("ka2", "a"));
}

static void lists_are_in_order_of_id_and_come_in_pages(void **state) {
    (void)state;
    open_with(
        "[{\"id\":\"9\",\"key\":\"k9\",\"secret\":\"s\"},{\"id\":\"10\",\"key\":\"k10\",\"secret\":\"s\"},"
        "{\"id\":\"1\",\"key\":\"k1\",\"secret\":\"s\"},{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"},"
        "{\"id\":\"Z\",\"key\":\"kz\",\"secret\":\"s\"}]");
    assert_listed("", 10, "1=k1 10=k10 9=k9 Z=kz a=ka ");
    assert_listed("", 2, "1=k1 10=k10 ");
    assert_listed("10", 2, "9=k9 Z=kz ");
    assert_listed("Z", 2, "a=ka ");
    assert_listed("a", 2, "");
    assert_listed("5", 2, "9=k9 Z=kz "); /* the last one of a page may have been removed meanwhile */
    assert_listed("", 0, "");
}

static void a_list_after_what_no_id_can_be_is_refused(void **state) {
    static const struct slice ids[] = {SLICE_INIT("\xff"), SLICE_INIT("a\0b"), SLICE_INIT("\xed\xa0\x80")};
    struct buffer out = {0};

    (void)state;
    open_with("[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"}]");
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        assert_int_equal(store_list(connection, ids[i], 10, append_listed, &out, &error), STORE_REFUSED);
        assert_string_equal(error.text, "the id to list after must be UTF-8 without zero bytes");
        assert_int_equal(out.length, 0);
    }
}

static void an_empty_store_answers_too(void **state) {
    (void)state;
    open_with("[]");
    assert_int_equal(limit_of("a"), 0);
    assert_false(key_finds("ka", "a"));
    assert_listed("", 10, "");
}

static void nothing_can_be_written(void **state) {
    struct app *app = make("b", "kb", 1);

    (void)state;
    open_with("[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"}]");
    assert_int_equal(store_create(connection, app, &error), STORE_REFUSED);
    assert_string_equal(error.text, "the memory driver cannot write apps");
    assert_int_equal(store_update(connection, app, &error), STORE_REFUSED);
    assert_int_equal(store_remove(connection, SLICE("a"), &error), STORE_REFUSED);
    assert_listed("", 10, "a=ka ");
    app_unref(app);
}

static void a_record_that_was_found_outlives_its_store(void **state) {
    struct app *app = NULL;

    (void)state;
    open_with("[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"}]");
    assert_int_equal(store_find_by_id(connection, SLICE("a"), &app, &error), STORE_OK);
    store_disconnect(connection);
    store_close(store);
    open_with("[]");
    assert_true(slice_equal(app->key, SLICE("ka")));
    app_unref(app);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(apps_of_the_configuration_are_found_by_id_and_key),
        TEST(ids_and_keys_may_be_integers),
        TEST(a_broken_record_is_found_as_broken_with_its_field),
        TEST(of_an_id_that_is_configured_twice_the_first_counts),
        TEST(lists_are_in_order_of_id_and_come_in_pages),
        TEST(a_list_after_what_no_id_can_be_is_refused),
        TEST(an_empty_store_answers_too),
        TEST(nothing_can_be_written),
        TEST(a_record_that_was_found_outlives_its_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
