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
#include "base/log.h"
#include "config/config.h"
#include "harness.h"
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

static enum store_answer create(const char *id, const char *key) {
    struct app *app = make(id, key, 1);
    enum store_answer answer = store_create(connection, app, &error);

    app_unref(app);
    return answer;
}

static enum store_answer update(const char *id, const char *key, unsigned max_connections) {
    struct app *app = make(id, key, max_connections);
    enum store_answer answer = store_update(connection, app, &error);

    app_unref(app);
    return answer;
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

static void an_empty_store_answers_too(void **state) {
    (void)state;
    open_with("[]");
    assert_int_equal(limit_of("a"), 0);
    assert_false(key_finds("ka", "a"));
    assert_listed("", 10, "");
    assert_int_equal(store_remove(connection, SLICE("a"), &error), STORE_NOT_FOUND);
}

static void creating_takes_an_id_and_a_key_that_nobody_has(void **state) {
    (void)state;
    open_with("[{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\"}]");
    assert_int_equal(create("a", "ka"), STORE_OK);
    assert_int_equal(create("c", "kc"), STORE_OK);
    assert_listed("", 10, "a=ka b=kb c=kc ");
    assert_int_equal(create("b", "new"), STORE_ID_TAKEN);
    assert_string_equal(error.text, "there is already an app with the id b");
    assert_int_equal(create("d", "ka"), STORE_KEY_TAKEN);
    assert_string_equal(error.text, "the key is already that of app a");
    assert_listed("", 10, "a=ka b=kb c=kc ");
}

static void updating_replaces_the_record(void **state) {
    (void)state;
    open_with("[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"},{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\"}]");
    assert_int_equal(update("a", "ka", 7), STORE_OK); /* its own key is nobody else's */
    assert_int_equal(limit_of("a"), 7);
    assert_int_equal(update("a", "new", 8), STORE_OK);
    assert_true(key_finds("new", "a"));
    assert_false(key_finds("ka", "a"));
    assert_int_equal(update("b", "new", 1), STORE_KEY_TAKEN);
    assert_string_equal(error.text, "the key is already that of app a");
    assert_int_equal(update("c", "kc", 1), STORE_NOT_FOUND);
    assert_string_equal(error.text, "there is no app with the id c");
    assert_listed("", 10, "a=new b=kb ");
}

static void updating_repairs_a_broken_record(void **state) {
    (void)state;
    open_with("[{\"id\":\"a\",\"key\":\"ka\"}]");
    assert_listed("", 10, "a=ka! ");
    assert_int_equal(update("a", "ka", 7), STORE_OK);
    assert_listed("", 10, "a=ka ");
}

static void removing_frees_id_and_key(void **state) {
    (void)state;
    open_with(
        "[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"},{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\"},"
        "{\"id\":\"c\",\"key\":\"kc\",\"secret\":\"s\"}]");
    assert_int_equal(store_remove(connection, SLICE("b"), &error), STORE_OK);
    assert_int_equal(store_remove(connection, SLICE("b"), &error), STORE_NOT_FOUND);
    assert_string_equal(error.text, "there is no app with the id b");
    assert_listed("", 10, "a=ka c=kc ");
    assert_int_equal(create("b", "kb"), STORE_OK);
    assert_listed("", 10, "a=ka b=kb c=kc ");
}

static void a_record_that_was_found_outlives_its_removal(void **state) {
    struct app *app = NULL;

    (void)state;
    open_with("[{\"id\":\"a\",\"key\":\"ka\",\"secret\":\"s\"}]");
    assert_int_equal(store_find_by_id(connection, SLICE("a"), &app, &error), STORE_OK);
    assert_int_equal(store_remove(connection, SLICE("a"), &error), STORE_OK);
    assert_true(slice_equal(app->key, SLICE("ka")));
    app_unref(app);
}

/* Random calls against an array of what should be there. */
static void random_use_agrees_with_an_array(void **state) {
    enum { IDS = 40, KEYS = 30 };
    int key_of[IDS];
    unsigned limit[IDS] = {0};
    uint64_t seed = 23;

    (void)state;
    open_with("[]");
    for (unsigned i = 0; i < IDS; i++)
        key_of[i] = -1;
    for (unsigned step = 0; step < 4000; step++) {
        unsigned id = harness_random(&seed, IDS);
        int key = (int)harness_random(&seed, KEYS);
        enum store_answer answer, expected;
        char id_text[8], key_text[8];
        bool key_taken = false;

        snprintf(id_text, sizeof id_text, "%u", id);
        snprintf(key_text, sizeof key_text, "k%d", key);
        for (unsigned i = 0; i < IDS; i++)
            key_taken = key_taken || (i != id && key_of[i] == key);
        switch (harness_random(&seed, 3)) {
        case 0:
            expected = key_of[id] >= 0 ? STORE_ID_TAKEN : key_taken ? STORE_KEY_TAKEN : STORE_OK;
            answer = create(id_text, key_text);
            if (expected == STORE_OK)
                limit[id] = 1;
            break;
        case 1:
            expected = key_of[id] < 0 ? STORE_NOT_FOUND : key_taken ? STORE_KEY_TAKEN : STORE_OK;
            answer = update(id_text, key_text, step + 2);
            if (expected == STORE_OK)
                limit[id] = step + 2;
            break;
        default:
            expected = key_of[id] < 0 ? STORE_NOT_FOUND : STORE_OK;
            answer = store_remove(connection, slice_of(id_text), &error);
            key = -1;
            if (expected == STORE_OK)
                limit[id] = 0;
        }
        assert_int_equal(answer, expected);
        if (answer == STORE_OK)
            key_of[id] = key;
        assert_int_equal(limit_of(id_text), limit[id]);
        if (key_of[id] >= 0) {
            snprintf(key_text, sizeof key_text, "k%d", key_of[id]);
            assert_true(key_finds(key_text, id_text));
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(apps_of_the_configuration_are_found_by_id_and_key),
        TEST(a_broken_record_is_found_as_broken_with_its_field),
        TEST(of_an_id_that_is_configured_twice_the_first_counts),
        TEST(lists_are_in_order_of_id_and_come_in_pages),
        TEST(an_empty_store_answers_too),
        TEST(creating_takes_an_id_and_a_key_that_nobody_has),
        TEST(updating_replaces_the_record),
        TEST(updating_repairs_a_broken_record),
        TEST(removing_frees_id_and_key),
        TEST(a_record_that_was_found_outlives_its_removal),
        TEST(random_use_agrees_with_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
