/* Which secret of an app made a signature: the current one always, the previous one until its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "app/app_secret.h"
#include "app_defaults.h"

#define UNTIL 1000

static struct error error;

static struct app *app_of(const char *fields, enum app_source source) {
    struct app_defaults defaults;
    json_t *json = json_loads(fields, 0, NULL);
    struct app *app;

    assert_non_null(json);
    app_defaults_of_100(&defaults);
    json_object_set_new(json, "id", json_string("a"));
    json_object_set_new(json, "key", json_string("k"));
    json_object_set_new(json, "secret", json_string("new"));
    app = app_parse(json, &defaults, source, NULL, NULL, &error);
    json_decref(json);
    return app;
}

static enum app_signer signer(const struct app *app, const char *secret, uint64_t now_s) {
    const struct slice parts[] = {SLICE("1.2:"), SLICE("private-a")};
    struct hmac_key key;
    char hex[HMAC_SHA256_HEX];

    hmac_key_init(&key, slice_of(secret));
    hmac_sha256_hex(&key, parts, 2, hex);
    return app_signer_of(app, parts, 2, (struct slice){hex, sizeof hex}, now_s);
}

static void both_secrets_sign_until_the_time_and_the_new_one_after_it(void **state) {
    struct app *app = app_of("{\"previous_secret\":\"old\",\"previous_secret_until\":1000}", APP_FROM_STORE);

    (void)state;
    assert_non_null(app);
    for (uint64_t now = UNTIL - 2; now < UNTIL + 2; now++) {
        assert_int_equal(signer(app, "new", now), APP_SIGNER_CURRENT);
        assert_int_equal(signer(app, "old", now), now < UNTIL ? APP_SIGNER_PREVIOUS : APP_SIGNER_NONE);
        assert_int_equal(signer(app, "older", now), APP_SIGNER_NONE);
        assert_int_equal(signer(app, "", now), APP_SIGNER_NONE);
    }
    app_unref(app);
}

static void without_a_time_the_previous_secret_is_never_accepted(void **state) {
    static const char *const records[] = {
        "{\"previous_secret\":\"old\"}",
        "{\"previous_secret\":\"old\",\"previous_secret_until\":null}",
        "{\"previous_secret\":\"old\",\"previous_secret_until\":0}",
        "{\"previous_secret_until\":1000}",
        "{\"previous_secret\":null,\"previous_secret_until\":1000}",
        "{\"previous_secret\":\"\",\"previous_secret_until\":1000}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        struct app *app = app_of(records[i], APP_FROM_STORE);
        assert_non_null(app);
        for (uint64_t now = 0; now < 2; now++) {
            assert_int_equal(signer(app, "old", now), APP_SIGNER_NONE);
            assert_int_equal(signer(app, "", now), APP_SIGNER_NONE);
        }
        app_unref(app);
    }
}

static void both_fields_are_checked(void **state) {
    static const char *const records[][2] = {
        {"{\"previous_secret\":\"caf\\u00e9\"}",
         "app \"a\": previous_secret must have 1 to 255 bytes of printable ASCII"},
        {"{\"previous_secret\":true}", "app \"a\": previous_secret must be a text"},
        {"{\"previous_secret_until\":\"soon\"}",
         "app \"a\": previous_secret_until must be a time in whole seconds since 1970"},
        {"{\"previous_secret_until\":-1}",
         "app \"a\": previous_secret_until must be a time in whole seconds since 1970"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        assert_null(app_of(records[i][0], APP_FROM_CONFIGURATION));
        assert_string_equal(error.text, records[i][1]);
    }
}

static void a_record_that_is_shown_has_no_secret(void **state) {
    struct app *app =
        app_of("{\"previous_secret\":\"old\",\"previous_secret_until\":1000,\"enabled\":true}", APP_FROM_COMMAND);
    json_t *record;

    (void)state;
    assert_non_null(app);
    record = app_to_json(app);
    assert_int_equal(json_object_size(record), 6);
    app_record_hide_secrets(record);
    assert_int_equal(json_object_size(record), 3);
    assert_null(json_object_get(record, "secret"));
    assert_null(json_object_get(record, "previous_secret"));
    assert_null(json_object_get(record, "previous_secret_until"));
    json_decref(record);
    app_unref(app);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_secrets_sign_until_the_time_and_the_new_one_after_it),
        cmocka_unit_test(without_a_time_the_previous_secret_is_never_accepted),
        cmocka_unit_test(both_fields_are_checked),
        cmocka_unit_test(a_record_that_is_shown_has_no_secret),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
