/* A DynamoDB item as a record: what each type of attribute stands for, and what stands for nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "app_defaults.h"
#include "store/dynamodb/dynamodb_internal.h"
#include "store/row.h"

static struct app_defaults defaults;
static struct error error;

/* The app of an item with this attribute, in the JSON that DynamoDB speaks; NULL if it is refused. */
static struct app *app_with(enum app_field field, const char *attribute) {
    json_t *item =
        json_pack("{s:{s:s}, s:{s:s}, s:{s:s}}", "id", "S", "one", "key", "S", "one-key", "secret", "S", "s");
    json_t *value = json_loads(attribute, 0, NULL);
    struct app *app;

    assert_non_null(value);
    app_defaults_of_100(&defaults);
    json_object_set_new(item, app_fields[field].name, value);
    row_to_app(dynamodb_item_to_record(item), &defaults, &app, &error);
    json_decref(item);
    return app;
}

static void origins_are_a_list_a_set_or_a_text(void **state) {
    static const char *const attributes[] = {"{\"L\":[{\"S\":\"a.example\"}]}", "{\"SS\":[\"a.example\"]}",
                                             "{\"S\":\"[\\\"a.example\\\"]\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        struct app *app = app_with(APP_ALLOWED_ORIGINS, attributes[i]);
        assert_non_null(app);
        assert_int_equal(app->allowed_origin_count, 1);
        app_unref(app);
    }
}

static void null_and_an_empty_text_are_not_set(void **state) {
    static const char *const attributes[] = {"{\"NULL\":true}", "{\"S\":\"\"}", "{\"S\":\"null\"}"};

    (void)state;
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        struct app *app = app_with(APP_ALLOWED_ORIGINS, attributes[i]);
        assert_non_null(app);
        assert_false(app_field_is_set(app, APP_ALLOWED_ORIGINS));
        app_unref(app);
    }
}

/* Read as not set, it would let in everybody. */
static void a_type_that_stands_for_no_origins_is_refused(void **state) {
    static const char *const attributes[] = {
        "{\"B\":\"YQ==\"}", "{\"BS\":[\"YQ==\"]}", "{\"NS\":[\"1\"]}",           "{\"N\":\"1\"}", "{\"M\":{}}",
        "{\"BOOL\":false}", "{\"X\":\"unknown\"}", "{\"L\":[{\"B\":\"YQ==\"}]}", "{\"S\":\"[\"}", "{}"};

    (void)state;
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        error = (struct error){0};
        if (app_with(APP_ALLOWED_ORIGINS, attributes[i]) != NULL)
            fail_msg("%s is taken", attributes[i]);
        assert_non_null(strstr(error.text, "allowed_origins"));
    }
}

static void numbers_and_flags_come_as_numbers_texts_and_flags(void **state) {
    struct app *app = app_with(APP_MAX_CONNECTIONS, "{\"N\":\"17\"}");

    (void)state;
    assert_int_equal(app->max_connections, 17);
    app_unref(app);
    app = app_with(APP_MAX_CONNECTIONS, "{\"S\":\"18\"}");
    assert_int_equal(app->max_connections, 18);
    app_unref(app);
    app = app_with(APP_ENABLED, "{\"BOOL\":false}");
    assert_false(app->enabled);
    app_unref(app);
    app = app_with(APP_ENABLED, "{\"N\":\"0\"}");
    assert_false(app->enabled);
    app_unref(app);
    assert_null(app_with(APP_MAX_CONNECTIONS, "{\"N\":\"1.5\"}"));
    assert_null(app_with(APP_MAX_CONNECTIONS, "{\"N\":\"99999999999999999999\"}"));
    assert_null(app_with(APP_MAX_CONNECTIONS, "{\"NS\":[\"1\"]}"));
    assert_null(app_with(APP_ENABLED, "{\"B\":\"AA==\"}"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(origins_are_a_list_a_set_or_a_text),
        cmocka_unit_test(null_and_an_empty_text_are_not_set),
        cmocka_unit_test(a_type_that_stands_for_no_origins_is_refused),
        cmocka_unit_test(numbers_and_flags_come_as_numbers_texts_and_flags),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
