/* Between a store's row and a record: what columns mean, and what is refused rather than read as something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "app_defaults.h"
#include "store/row.h"

static struct app_defaults defaults;
static struct error error;

static int set_up(void **state) {
    (void)state;
    app_defaults_of_100(&defaults);
    error = (struct error){0};
    return 0;
}

/* With the columns that every table has, as far as they say nothing. */
static json_t *row(void) {
    json_t *record = json_object();

    row_set_text(record, APP_ID, SLICE("one"));
    row_set_text(record, APP_KEY, SLICE("one-key"));
    row_set_text(record, APP_SECRET, SLICE("s"));
    row_set_text(record, APP_ENABLED, SLICE("1"));
    row_set_text(record, APP_ENABLE_CLIENT_MESSAGES, SLICE("0"));
    row_set_text(record, APP_MAX_CONNECTIONS, SLICE("100"));
    row_set_text(record, APP_MAX_CLIENT_EVENTS_PER_SECOND, SLICE("100"));
    return record;
}

/* An app whose row has one more column. */
static struct app *app_with(enum app_field field, struct slice text) {
    json_t *record = row();
    struct app *app;

    row_set_text(record, field, text);
    if (row_to_app(record, &defaults, &app, &error) != STORE_OK)
        assert_null(app);
    return app;
}

static void refused(enum app_field field, struct slice text) {
    assert_null(app_with(field, text));
    assert_non_null(strstr(error.text, "one"));
    assert_non_null(strstr(error.text, app_fields[field].name));
}

static void flags_are_what_databases_print_and_nothing_else(void **state) {
    static const char *const on[] = {"1", "t", "true", "TRUE"}, *const off[] = {"0", "f", "false", "False"},
                             *const neither[] = {"", "2", "yes", "on", "tru"};

    (void)state;
    for (size_t i = 0; i < sizeof on / sizeof on[0]; i++) {
        struct app *app = app_with(APP_ENABLE_WATCHLIST_EVENTS, slice_of(on[i]));
        assert_true(app->enable_watchlist_events);
        app_unref(app);
    }
    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++) {
        struct app *app = app_with(APP_ENABLED, slice_of(off[i]));
        assert_false(app->enabled);
        app_unref(app);
    }
    for (size_t i = 0; i < sizeof neither / sizeof neither[0]; i++)
        refused(APP_ENABLED, slice_of(neither[i]));
}

static void numbers_are_digits_and_a_negative_one_is_unsigned(void **state) {
    struct app *app = app_with(APP_MAX_CONNECTIONS, SLICE("-1"));

    (void)state;
    assert_int_equal(app->max_connections, 4294967295u);
    app_unref(app);
    app = app_with(APP_MAX_CONNECTIONS, SLICE("17"));
    assert_int_equal(app->max_connections, 17);
    app_unref(app);
    refused(APP_MAX_CONNECTIONS, SLICE("17x"));
    refused(APP_MAX_CONNECTIONS, SLICE("1.5"));
    refused(APP_MAX_CONNECTIONS, SLICE("4294967296"));
}

static void the_json_text_null_is_not_set_and_broken_json_is_refused(void **state) {
    struct app *app = app_with(APP_ALLOWED_ORIGINS, SLICE("null"));

    (void)state;
    assert_false(app_field_is_set(app, APP_ALLOWED_ORIGINS));
    app_unref(app);
    app = app_with(APP_ALLOWED_ORIGINS, SLICE("[\"a.example\"]"));
    assert_int_equal(app->allowed_origin_count, 1);
    app_unref(app);
    refused(APP_ALLOWED_ORIGINS, SLICE("[\"a.example\""));
    refused(APP_ALLOWED_ORIGINS, SLICE(""));
    refused(APP_CHANNEL_DELTA_COMPRESSION, SLICE("{\"a\":\"fossil\",\"a\":\"disabled\"}"));
}

/* Above all they are no empty list of origins, which would let in everybody. */
static void bytes_that_are_no_utf8_are_refused(void **state) {
    (void)state;
    for (unsigned field = APP_KEY; field < APP_FIELD_COUNT; field++) {
        refused((enum app_field)field, SLICE("\xff\xfe"));
        refused((enum app_field)field, SLICE("[\"\xc3\"]"));
    }
}

static void numbers_and_flags_that_are_none_of_text_are_put_in_as_they_are(void **state) {
    json_t *record = row();
    struct app *app;

    (void)state;
    row_set_number(record, APP_MAX_EVENT_NAME_LENGTH, -2);
    row_set_flag(record, APP_ENABLE_CLIENT_MESSAGES, true);
    assert_int_equal(row_to_app(record, &defaults, &app, &error), STORE_OK);
    assert_int_equal(app->max_event_name_length, 4294967294u);
    assert_true(app->enable_client_messages);
    app_unref(app);
}

struct listed {
    unsigned count;
    char id[64], key[64], error[256];
    bool valid;
};

static void take(void *context, struct slice id, struct slice key, struct app *app, const struct error *why) {
    struct listed *listed = context;

    listed->count++;
    snprintf(listed->id, sizeof listed->id, "%.*s", SLICE_ARGS(id));
    snprintf(listed->key, sizeof listed->key, "%.*s", SLICE_ARGS(key));
    listed->valid = app != NULL;
    if (app == NULL)
        snprintf(listed->error, sizeof listed->error, "%s", why->text);
    app_unref(app);
}

static void one_that_is_broken_is_listed_by_its_id_with_what_is_wrong(void **state) {
    struct listed listed = {0};
    json_t *record = row();

    (void)state;
    row_to_list(row(), &defaults, take, &listed);
    assert_int_equal(listed.count, 1);
    assert_true(listed.valid);
    row_set_text(record, APP_MAX_CONNECTIONS, SLICE("many"));
    row_to_list(record, &defaults, take, &listed);
    assert_int_equal(listed.count, 2);
    assert_false(listed.valid);
    assert_string_equal(listed.id, "one");
    assert_string_equal(listed.key, "one-key");
    assert_non_null(strstr(listed.error, "max_connections"));
}

/* Writes the app to columns and reads them again. */
static struct app *through_columns(const struct app *app) {
    json_t *record = json_object();
    struct app *read;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        struct row_value value;
        row_value_init(&value, app, (enum app_field)i);
        switch (value.kind) {
        case ROW_NULL:
            break;
        case ROW_TEXT:
            assert_int_equal(value.text.data[value.text.length], '\0');
            row_set_text(record, (enum app_field)i, value.text);
            break;
        case ROW_NUMBER:
            row_set_number(record, (enum app_field)i, value.number);
            break;
        case ROW_FLAG:
            row_set_flag(record, (enum app_field)i, value.flag);
            break;
        }
        row_value_dispose(&value);
    }
    assert_int_equal(row_to_app(record, &defaults, &read, &error), STORE_OK);
    return read;
}

static void what_is_written_to_columns_is_read_as_the_same_and_what_is_not_set_stays_so(void **state) {
    static const struct {
        enum app_field field;
        const char *text;
    } cases[] = {
        {APP_PREVIOUS_SECRET, "old"},
        {APP_PREVIOUS_SECRET_UNTIL, "4294967295"},
        {APP_ENABLED, "0"},
        {APP_MAX_CONNECTIONS, "0"},
        {APP_MAX_CLIENT_EVENTS_PER_SECOND, "4294967295"},
        {APP_MAX_EVENT_BATCH_SIZE, "0"},
        {APP_ENABLE_USER_AUTHENTICATION, "0"},
        {APP_ALLOWED_ORIGINS, "[\"https://\xc3\xa4.example\"]"},
        {APP_WEBHOOKS, "[{\"url\":\"https://a.example\",\"event_types\":[\"member_added\"]}]"},
        {APP_CHANNEL_DELTA_COMPRESSION, "{\"a-*\":\"fossil\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct app *app = app_with(cases[i].field, slice_of(cases[i].text)), *read;
        assert_non_null(app);
        read = through_columns(app);
        assert_true(app_equal(app, read));
        app_unref(app);
        app_unref(read);
    }
}

static void a_table_without_a_column_keeps_only_apps_that_say_nothing_there(void **state) {
    uint32_t all = (1u << APP_FIELD_COUNT) - 1;
    static const enum app_field fields[] = {APP_ENABLED, APP_MAX_CONNECTIONS, APP_MAX_EVENT_BATCH_SIZE, APP_WEBHOOKS,
                                            APP_PREVIOUS_SECRET};
    static const char *const says[] = {"0", "5", "100", "[]", "old"};
    struct app *plain = app_with(APP_ENABLED, SLICE("1"));

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct app *app = app_with(fields[i], slice_of(says[i]));
        uint32_t columns = all & ~(1u << fields[i]);
        assert_true(row_keeps(columns, plain, &error));
        assert_true(row_keeps(all, app, &error));
        assert_false(row_keeps(columns, app, &error));
        assert_non_null(strstr(error.text, app_fields[fields[i]].name));
        app_unref(app);
    }
    app_unref(plain);
}

static void names_of_tables_are_letters_digits_and_what_the_store_also_takes(void **state) {
    char longest[66];

    (void)state;
    assert_true(row_name_valid("Apps_2", "", 64, "setting", &error));
    assert_true(row_name_valid("a-b.c", "-.", 64, "setting", &error));
    for (const char *const *bad = (const char *const[]){"a-b", "a b", "a`", "a\"", "a;", "\xc3\xa4", "", NULL};
         *bad != NULL; bad++) {
        assert_false(row_name_valid(*bad, "", 64, "the.setting", &error));
        assert_non_null(strstr(error.text, "the.setting"));
    }
    memset(longest, 'a', sizeof longest);
    longest[64] = '\0';
    assert_true(row_name_valid(longest, "", 64, "setting", &error));
    longest[64] = 'a';
    longest[65] = '\0';
    assert_false(row_name_valid(longest, "", 64, "setting", &error));
    assert_string_equal(error.text, "setting must be 1 to 64 characters long");
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(flags_are_what_databases_print_and_nothing_else),
        TEST(numbers_are_digits_and_a_negative_one_is_unsigned),
        TEST(the_json_text_null_is_not_set_and_broken_json_is_refused),
        TEST(bytes_that_are_no_utf8_are_refused),
        TEST(numbers_and_flags_that_are_none_of_text_are_put_in_as_they_are),
        TEST(one_that_is_broken_is_listed_by_its_id_with_what_is_wrong),
        TEST(what_is_written_to_columns_is_read_as_the_same_and_what_is_not_set_stays_so),
        TEST(a_table_without_a_column_keeps_only_apps_that_say_nothing_there),
        TEST(names_of_tables_are_letters_digits_and_what_the_store_also_takes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
