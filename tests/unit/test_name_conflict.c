/* Conflicts about names: which lookups are made before a write, and what they answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "app_defaults.h"
#include "store/name_conflict.h"

/* What the lookups answer, and how often they were asked. */
static enum store_answer id_answer, key_answer;
static unsigned id_lookups, key_lookups;

static struct store_connection connection;
static struct app *app;
static struct error error;

static enum store_answer id_owner(struct store_connection *asked, const struct app *for_app, struct buffer *owner,
                                  struct error *why) {
    assert_ptr_equal(asked, &connection);
    assert_ptr_equal(for_app, app);
    id_lookups++;
    if (id_answer == STORE_OK)
        buffer_append_string(owner, "A");
    if (id_answer == STORE_UNAVAILABLE)
        error_set(why, "no answer");
    return id_answer;
}

static enum store_answer key_owner(struct store_connection *asked, const struct app *for_app, struct buffer *owner,
                                   struct error *why) {
    assert_ptr_equal(asked, &connection);
    assert_ptr_equal(for_app, app);
    key_lookups++;
    if (key_answer == STORE_OK)
        buffer_append_string(owner, "other");
    if (key_answer == STORE_UNAVAILABLE)
        error_set(why, "no answer");
    return key_answer;
}

static const struct conflict_lookups lookups = {id_owner, key_owner};

static int set_up(void **state) {
    json_t *json = json_pack("{s:s, s:s, s:s}", "id", "a", "key", "k", "secret", "s");
    struct app_defaults defaults;

    (void)state;
    app_defaults_of_100(&defaults);
    app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    json_decref(json);
    id_answer = key_answer = STORE_NOT_FOUND;
    id_lookups = key_lookups = 0;
    error.text[0] = '\0';
    return app == NULL;
}

static int tear_down(void **state) {
    (void)state;
    app_unref(app);
    return 0;
}

static enum store_answer check_create(enum store_answer id, enum store_answer key) {
    id_answer = id;
    key_answer = key;
    return conflict_check_create(&connection, &lookups, app, &error);
}

static enum store_answer check_update(enum store_answer id, enum store_answer key) {
    id_answer = id;
    key_answer = key;
    return conflict_check_update(&connection, &lookups, app, &error);
}

static void an_app_is_created_if_neither_name_is_taken(void **state) {
    (void)state;
    assert_int_equal(check_create(STORE_NOT_FOUND, STORE_NOT_FOUND), STORE_OK);
    assert_string_equal(error.text, "");
}

static void a_taken_id_is_named_as_the_store_has_it(void **state) {
    (void)state;
    assert_int_equal(check_create(STORE_OK, STORE_OK), STORE_ID_TAKEN);
    assert_string_equal(error.text, "there is already an app with the id A");
    assert_int_equal(key_lookups, 0);
}

static void a_taken_key_is_named_by_its_owner(void **state) {
    (void)state;
    assert_int_equal(check_create(STORE_NOT_FOUND, STORE_OK), STORE_KEY_TAKEN);
    assert_string_equal(error.text, "the key is already that of app other");
    assert_int_equal(check_update(STORE_OK, STORE_OK), STORE_KEY_TAKEN);
    assert_string_equal(error.text, "the key is already that of app other");
}

static void an_app_is_updated_if_it_exists_and_its_key_is_not_taken(void **state) {
    (void)state;
    assert_int_equal(check_update(STORE_OK, STORE_NOT_FOUND), STORE_OK);
    assert_int_equal(check_update(STORE_NOT_FOUND, STORE_NOT_FOUND), STORE_NOT_FOUND);
    assert_string_equal(error.text, "there is no app with the id a");
    assert_int_equal(key_lookups, 1);
}

static void a_lookup_that_fails_is_the_answer(void **state) {
    (void)state;
    assert_int_equal(check_create(STORE_UNAVAILABLE, STORE_NOT_FOUND), STORE_UNAVAILABLE);
    assert_int_equal(check_update(STORE_UNAVAILABLE, STORE_NOT_FOUND), STORE_UNAVAILABLE);
    assert_int_equal(key_lookups, 0);
    assert_int_equal(check_create(STORE_NOT_FOUND, STORE_UNAVAILABLE), STORE_UNAVAILABLE);
    assert_int_equal(check_update(STORE_OK, STORE_REFUSED), STORE_REFUSED);
    assert_string_equal(error.text, "no answer");
}

static void the_key_alone_is_checked_without_a_lookup_of_the_id(void **state) {
    (void)state;
    assert_int_equal(conflict_check_key(&connection, &lookups, app, &error), STORE_OK);
    assert_int_equal(id_lookups, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(an_app_is_created_if_neither_name_is_taken), TEST(a_taken_id_is_named_as_the_store_has_it),
        TEST(a_taken_key_is_named_by_its_owner),          TEST(an_app_is_updated_if_it_exists_and_its_key_is_not_taken),
        TEST(a_lookup_that_fails_is_the_answer),          TEST(the_key_alone_is_checked_without_a_lookup_of_the_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
