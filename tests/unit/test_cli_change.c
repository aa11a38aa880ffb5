/* What `--set` and `--unset` make of a record, and when two records count as the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "app/app.h"
#include "app_defaults.h"
#include "cli/change.h"
#include "cli/compare.h"

static json_t *changed(const char *record, struct changes *changes, struct error *error) {
    json_t *json = json_loads(record, 0, NULL);

    assert_non_null(json);
    if (!changes_apply(changes, json, error)) {
        json_decref(json);
        json = NULL;
    }
    changes_dispose(changes);
    return json;
}

static void assert_json(json_t *json, const char *expected) {
    json_t *other = json_loads(expected, 0, NULL);

    assert_true(json_equal(json, other));
    json_decref(json);
    json_decref(other);
}

static void a_value_is_read_as_its_field_wants_it(void **state) {
    struct changes changes = {0};
    struct error error;

    (void)state;
    assert_true(changes_set(&changes, "key=a=b", &error));
    assert_true(changes_set(&changes, "enabled=false", &error));
    assert_true(changes_set(&changes, "max_connections=12", &error));
    assert_true(changes_set(&changes, "allowed_origins=[\"*\"]", &error));
    assert_json(
        changed("{\"id\":\"x\"}", &changes, &error),
        "{\"id\":\"x\",\"key\":\"a=b\",\"enabled\":false,\"max_connections\":\"12\",\"allowed_origins\":[\"*\"]}");
}

static void a_change_of_the_secret_ends_the_previous_one_unless_that_is_set_too(void **state) {
    static const char record[] = "{\"secret\":\"s\",\"previous_secret\":\"old\",\"previous_secret_until\":5}";
    struct changes changes = {0};
    struct error error;
    json_t *after;

    (void)state;
    assert_true(changes_set(&changes, "secret=new", &error));
    after = changed(record, &changes, &error);
    assert_null(json_object_get(after, "previous_secret"));
    assert_null(json_object_get(after, "previous_secret_until"));
    json_decref(after);
    assert_true(changes_set(&changes, "previous_secret=s", &error));
    assert_true(changes_set(&changes, "secret=new", &error));
    after = changed(record, &changes, &error);
    assert_string_equal(json_string_value(json_object_get(after, "previous_secret")), "s");
    assert_null(json_object_get(after, "previous_secret_until"));
    json_decref(after);
}

static void changes_are_made_in_the_order_given(void **state) {
    struct changes changes = {0};
    struct error error;

    (void)state;
    assert_true(changes_set(&changes, "max_connections=1", &error));
    changes_unset(&changes, "max_connections");
    changes_unset(&changes, "enabled");
    assert_true(changes_set(&changes, "enabled=true", &error));
    changes_unset(&changes, "colour");
    assert_json(changed("{\"colour\":1}", &changes, &error), "{\"enabled\":true}");
}

static void one_origin_is_a_list_of_one(void **state) {
    static const char *const lists[] = {"a b", "a,b", "[a", "'a'", "{}x"};
    struct changes changes = {0};
    struct error error;

    (void)state;
    assert_true(changes_set(&changes, "allowed_origins=https://a.example", &error));
    assert_json(changed("{}", &changes, &error), "{\"allowed_origins\":[\"https://a.example\"]}");
    assert_true(changes_set(&changes, "allowed_origins=*", &error));
    assert_json(changed("{}", &changes, &error), "{\"allowed_origins\":[\"*\"]}");
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        assert_false(changes_set_field(&changes, "allowed_origins", lists[i], &error));
        assert_non_null(strstr(error.text, "allowed_origins must be JSON, such as '[\"https://a.example\"]': "));
    }
}

static void what_names_no_field_is_refused(void **state) {
    struct changes changes = {0};
    struct error error;

    (void)state;
    assert_false(changes_set(&changes, "colour=1", &error));
    assert_string_equal(error.text, "colour is not a field of an app");
    assert_false(changes_set(&changes, "enabled", &error));
    assert_false(changes_set(&changes, "webhooks=[{]", &error));
    assert_string_equal(error.text,
                        "webhooks must be JSON, such as '[{\"url\":\"https://a.example/hook\",\"event_types\":"
                        "[\"channel_occupied\"]}]': the name of a member must be in double quotation marks");
    assert_false(changes_set(&changes, "max_conections=1", &error));
    assert_string_equal(error.text, "max_conections is not a field of an app; did you mean max_connections?");
    changes_unset(&changes, "colour");
    assert_null(changed("{}", &changes, &error));
    assert_string_equal(error.text, "colour is not a field of this app");
}

static struct app *app_of(const char *fields) {
    struct app_defaults defaults;
    struct error error;
    json_t *json = json_loads(fields, 0, NULL);
    struct app *app;

    app_defaults_of_100(&defaults);
    json_object_set_new(json, "id", json_string("x"));
    json_object_set_new(json, "key", json_string("k"));
    json_object_set_new(json, "secret", json_string("s"));
    app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    assert_non_null(app);
    json_decref(json);
    return app;
}

static void assert_difference(const char *wanted, const char *there, const char *names) {
    struct app *first = app_of(wanted), *second = app_of(there);
    struct buffer fields = {0};

    assert_int_equal(compare_apps(first, second, &fields), names[0] != '\0');
    buffer_append_byte(&fields, '\0');
    assert_string_equal(fields.data, names);
    buffer_dispose(&fields);
    app_unref(first);
    app_unref(second);
}

static void an_unset_field_differs_from_its_default_only_where_a_store_can_say_so(void **state) {
    (void)state;
    assert_difference("{}", "{}", "");
    assert_difference("{}", "{\"enabled\":true,\"max_connections\":100}", "");
    assert_difference("{}", "{\"enabled\":false,\"max_connections\":7}", "enabled, max_connections");
    assert_difference("{}", "{\"max_event_batch_size\":100}", "max_event_batch_size");
    assert_difference("{\"webhooks\":[]}", "{}", "webhooks");
}

static void an_unknown_field_differs_only_if_both_have_it(void **state) {
    (void)state;
    assert_difference("{\"colour\":1}", "{}", "");
    assert_difference("{}", "{\"colour\":1}", "");
    assert_difference("{\"colour\":1}", "{\"colour\":2}", "colour");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_read_as_its_field_wants_it),
        cmocka_unit_test(a_change_of_the_secret_ends_the_previous_one_unless_that_is_set_too),
        cmocka_unit_test(changes_are_made_in_the_order_given),
        cmocka_unit_test(one_origin_is_a_list_of_one),
        cmocka_unit_test(what_names_no_field_is_refused),
        cmocka_unit_test(an_unset_field_differs_from_its_default_only_where_a_store_can_say_so),
        cmocka_unit_test(an_unknown_field_differs_only_if_both_have_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
