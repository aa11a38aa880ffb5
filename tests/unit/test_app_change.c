/* The names of the fields in which two records differ, which is all that the log says of a change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/app_change.h"
#include "app_defaults.h"

static struct app *app_of(const char *fields) {
    struct app_defaults defaults;
    struct buffer text = {0};
    struct error error;
    struct app *app;
    json_t *json;

    app_defaults_of_100(&defaults);
    buffer_appendf(&text, "{\"id\":\"a\",\"key\":\"k\",%s}", fields);
    json = json_loads(buffer_string(&text), 0, NULL);
    assert_non_null(json);
    app = app_parse(json, &defaults, APP_FROM_COMMAND, NULL, NULL, &error);
    assert_non_null(app);
    json_decref(json);
    buffer_dispose(&text);
    return app;
}

static void assert_fields(const char *first, const char *second, const char *expected) {
    struct app *before = first != NULL ? app_of(first) : NULL, *after = second != NULL ? app_of(second) : NULL;
    struct buffer names = {0};

    app_change_append_fields(before, after, &names);
    assert_string_equal(buffer_string(&names), expected);
    buffer_dispose(&names);
    app_unref(before);
    app_unref(after);
}

#define SECRET "\"secret\":\"s\""

static void fields_that_differ_are_named_in_the_order_of_the_documentation(void **state) {
    (void)state;
    assert_fields(SECRET, SECRET, "");
    assert_fields(SECRET, "\"allowed_origins\":[\"*\"],\"max_connections\":5,\"secret\":\"hunter2\"",
                  "secret, max_connections, allowed_origins");
    assert_fields(SECRET ",\"max_connections\":5", SECRET ",\"max_connections\":\"5\"", "");
    assert_fields(SECRET ",\"max_connections\":5", SECRET, "max_connections");
    assert_fields(SECRET, SECRET ",\"policy\":{\"limits\":{\"max_connections\":7,\"max_client_events_per_second\":1}}",
                  "max_connections, max_client_events_per_second, policy");
}

static void unknown_fields_are_named_after_the_others(void **state) {
    (void)state;
    assert_fields(SECRET ",\"colour\":1,\"plan\":1,\"same\":1",
                  SECRET ",\"same\":1,\"colour\":2,\"size\":1,\"enabled\":false", "enabled, colour, size, plan");
}

static void a_default_that_becomes_explicit_is_no_change(void **state) {
    static const char explicit[] = SECRET
        ",\"enabled\":true,\"enable_client_messages\":false,\"max_connections\":100,"
        "\"max_client_events_per_second\":100";

    (void)state;
    assert_fields(SECRET, explicit, "");
    assert_fields(explicit, SECRET, "");
    assert_fields(SECRET, SECRET ",\"enabled\":false,\"max_connections\":99", "enabled, max_connections");
}

static void of_a_new_record_all_fields_that_are_set_are_named(void **state) {
    (void)state;
    assert_fields(NULL, SECRET ",\"enabled\":true", "id, key, secret, enabled");
    assert_fields(SECRET, NULL, "id, key, secret");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_that_differ_are_named_in_the_order_of_the_documentation),
        cmocka_unit_test(a_default_that_becomes_explicit_is_no_change),
        cmocka_unit_test(unknown_fields_are_named_after_the_others),
        cmocka_unit_test(of_a_new_record_all_fields_that_are_set_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
