/* The app record: what is accepted, what is refused and with which words, and that writing it gives it back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "app_defaults.h"
#include "base/buffer.h"
#include "config/config.h"

#define START "{\"id\":\"a\",\"key\":\"k\",\"secret\":\"s\""

static struct app_defaults defaults;
static struct error error;
static struct buffer warnings;

static int set_up(void **state) {
    (void)state;
    app_defaults_of_100(&defaults);
    warnings.length = 0;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    buffer_dispose(&warnings);
    warnings = (struct buffer){0};
    return 0;
}

static void collect(void *context, const char *text) {
    assert_ptr_equal(context, &warnings);
    buffer_append_string(&warnings, text);
    buffer_append_byte(&warnings, '\n');
}

static bool warned(const char *part) {
    return warnings.length > 0 && memmem(warnings.data, warnings.length, part, strlen(part)) != NULL;
}

static struct app *parse_from(const char *text, enum app_source source) {
    json_error_t problem;
    json_t *json = json_loads(text, JSON_DECODE_ANY, &problem);
    struct app *app;

    if (json == NULL)
        fail_msg("%s: %s", text, problem.text);
    error.text[0] = '\0';
    app = app_parse(json, &defaults, source, collect, &warnings, &error);
    json_decref(json);
    return app;
}

static struct app *parse(const char *text) {
    return parse_from(text, APP_FROM_CONFIGURATION);
}

/* A record with one more field, `rest` being JSON like "enabled":true. */
static struct app *parse_with(const char *rest) {
    struct buffer text = {0};
    struct app *app;

    buffer_appendf(&text, START ",%s}", rest);
    buffer_append_byte(&text, '\0');
    app = parse(text.data);
    buffer_dispose(&text);
    return app;
}

static struct app *must(struct app *app) {
    if (app == NULL)
        fail_msg("refused: %s", error.text);
    return app;
}

/* Refused, with a text that names the app and holds `part`. */
static void refuse(const char *rest, const char *part) {
    struct app *app = parse_with(rest);

    if (app != NULL)
        fail_msg("accepted: %s", rest);
    if (strncmp(error.text, "app \"a\": ", 9) != 0 || strstr(error.text, part) == NULL)
        fail_msg("%s: %s", rest, error.text);
}

/* Written out, the record is `text`. */
static void assert_writes(struct app *app, const char *text) {
    json_t *expected = json_loads(text, 0, NULL), *found = app_to_json(app);

    assert_non_null(expected);
    if (!json_equal(expected, found)) {
        char *dump = json_dumps(found, JSON_COMPACT);

        fail_msg("%s is not %s", dump, text);
    }
    json_decref(expected);
    json_decref(found);
}

static void assert_slice(struct slice slice, const char *text) {
    if (!slice_equal(slice, slice_of(text)))
        fail_msg("\"%.*s\" is not \"%s\"", SLICE_ARGS(slice), text);
}

static void the_table_names_all_24_fields_in_order(void **state) {
    static const char *const names[] = {"id",
                                        "key",
                                        "secret",
                                        "previous_secret",
                                        "previous_secret_until",
                                        "enabled",
                                        "enable_client_messages",
                                        "max_connections",
                                        "max_client_events_per_second",
                                        "max_read_requests_per_second",
                                        "max_backend_events_per_second",
                                        "max_presence_members_per_channel",
                                        "max_presence_member_size_in_kb",
                                        "max_channel_name_length",
                                        "max_event_channels_at_once",
                                        "max_event_name_length",
                                        "max_event_payload_in_kb",
                                        "max_event_batch_size",
                                        "enable_user_authentication",
                                        "enable_watchlist_events",
                                        "allowed_origins",
                                        "webhooks",
                                        "channel_delta_compression",
                                        "policy"};

    (void)state;
    assert_int_equal(APP_FIELD_COUNT, 24);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        enum app_field field;

        assert_string_equal(app_fields[i].name, names[i]);
        assert_true(app_field_from_name(slice_of(names[i]), &field) && field == i);
        assert_int_equal(app_fields[i].optional, i == APP_PREVIOUS_SECRET || i == APP_PREVIOUS_SECRET_UNTIL ||
                                                     i >= APP_MAX_READ_REQUESTS_PER_SECOND);
        assert_int_equal(app_fields[i].hidden, i >= APP_SECRET && i <= APP_PREVIOUS_SECRET_UNTIL);
    }
    assert_false(app_field_from_name(SLICE("max"), &(enum app_field){0}));
}

static void a_minimal_app_takes_every_default(void **state) {
    struct app *app = must(parse(START "}"));

    (void)state;
    assert_slice(app->id, "a");
    assert_slice(app->key, "k");
    assert_slice(app->secret, "s");
    assert_true(app->enabled);
    assert_false(app->enable_client_messages);
    assert_false(app->enable_user_authentication);
    assert_false(app->enable_watchlist_events);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (app_fields[i].type == APP_TYPE_NUMBER)
            assert_int_equal(app_number(app, (enum app_field)i), 100);
        assert_int_equal(app_field_is_set(app, (enum app_field)i), i <= APP_SECRET);
    }
    assert_int_equal(app->allowed_origin_count + app->webhook_count + app->delta_setting_count, 0);
    assert_false(app_wants_subscription_count(app));
    assert_int_equal(warnings.length, 0);
    assert_writes(app, START "}");
    app_unref(app);
}

static void each_number_has_a_place_of_its_own(void **state) {
    struct buffer rest = {0};
    struct app *app;

    (void)state;
    for (unsigned i = APP_MAX_CONNECTIONS; i <= APP_MAX_EVENT_BATCH_SIZE; i++)
        buffer_appendf(&rest, "%s\"%s\":%u", rest.length > 0 ? "," : "", app_fields[i].name, 1000 + i);
    buffer_append_byte(&rest, '\0');
    app = must(parse_with(rest.data));
    for (unsigned i = APP_MAX_CONNECTIONS; i <= APP_MAX_EVENT_BATCH_SIZE; i++) {
        assert_int_equal(app_number(app, (enum app_field)i), 1000 + i);
        assert_true(app_field_is_set(app, (enum app_field)i));
    }
    assert_int_equal(app->max_connections, 1000 + APP_MAX_CONNECTIONS);
    assert_int_equal(app->max_event_payload_in_kb, 1000 + APP_MAX_EVENT_PAYLOAD_IN_KB);
    assert_int_equal(app->max_event_batch_size, 1000 + APP_MAX_EVENT_BATCH_SIZE);
    app_unref(app);
    buffer_dispose(&rest);
}

static void flags_are_read_and_written(void **state) {
    const char *text = START
        ",\"enabled\":false,\"enable_client_messages\":true,\"enable_user_authentication\":true,"
        "\"enable_watchlist_events\":true}";
    struct app *app = must(parse(text));

    (void)state;
    assert_false(app->enabled);
    assert_true(app->enable_client_messages && app->enable_user_authentication && app->enable_watchlist_events);
    assert_writes(app, text);
    app_unref(app);
    refuse("\"enabled\":\"yes\"", "enabled must be true or false");
    refuse("\"enabled\":1", "enabled must be true or false");
    refuse("\"enable_watchlist_events\":[]", "enable_watchlist_events must be true or false");
}

static void numbers_may_be_strings_of_digits(void **state) {
    struct app *app =
        must(parse_with("\"max_connections\":\"250\",\"max_event_batch_size\":\"4294967295\","
                        "\"max_event_name_length\":12.0,\"max_channel_name_length\":\"007\""));

    (void)state;
    assert_int_equal(app->max_connections, 250);
    assert_int_equal(app->max_event_batch_size, UINT32_MAX);
    assert_int_equal(app->max_event_name_length, 12);
    assert_int_equal(app->max_channel_name_length, 7);
    app_unref(app);
}

static void a_number_that_is_negative_fractional_or_too_large_is_refused_by_name(void **state) {
    static const char *const wrong[] = {"-2",   "1.5",    "4294967296", "\"-2\"", "\"1.5\"", "\"4294967296\"",
                                        "\"\"", "\" 1\"", "\"1 \"",     "\"+1\"", "\"x\"",   "true",
                                        "[]",   "{}",     "-0.5",       "1e300",  "\"0x10\""};
    char rest[80];

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (unsigned field = APP_MAX_CONNECTIONS; field <= APP_MAX_EVENT_BATCH_SIZE; field++) {
            snprintf(rest, sizeof rest, "\"%s\":%s", app_fields[field].name, wrong[i]);
            refuse(rest, app_fields[field].name);
            assert_non_null(strstr(error.text, "a whole number from 0 to 4294967295"));
        }
    }
}

static void in_a_store_a_negative_32_bit_number_is_the_unsigned_one(void **state) {
    struct app *app = must(parse_from(START ",\"max_connections\":-1,\"max_event_batch_size\":-2147483648,"
                                            "\"max_event_name_length\":\"-2\",\"enabled\":0,"
                                            "\"enable_client_messages\":1}",
                                      APP_FROM_STORE));

    (void)state;
    assert_int_equal(app->max_connections, UINT32_MAX);
    assert_int_equal(app->max_event_batch_size, 2147483648u);
    assert_int_equal(app->max_event_name_length, UINT32_MAX - 1);
    assert_false(app->enabled);
    assert_true(app->enable_client_messages);
    app_unref(app);
    assert_null(parse_from(START ",\"max_connections\":-2147483649}", APP_FROM_STORE));
    assert_null(parse_from(START ",\"max_connections\":-0.5}", APP_FROM_STORE));
    assert_null(parse_from(START ",\"max_connections\":\"--1\"}", APP_FROM_STORE));
    assert_null(parse_from(START ",\"max_connections\":\"-00\"}", APP_FROM_STORE));
    assert_null(parse_from(START ",\"policy\":{\"limits\":{\"max_connections\":-2}}}", APP_FROM_STORE));
    app = must(parse_from(START ",\"policy\":{\"limits\":{\"max_event_batch_size\":-1}}}", APP_FROM_STORE));
    assert_int_equal(app->max_event_batch_size, 0);
    app_unref(app);
    assert_null(parse_from(START ",\"enabled\":2}", APP_FROM_STORE));
}

static void null_is_not_set_in_every_field(void **state) {
    struct buffer rest = {0};
    struct app *app;

    (void)state;
    for (unsigned i = APP_PREVIOUS_SECRET; i < APP_FIELD_COUNT; i++)
        buffer_appendf(&rest, "%s\"%s\":null", rest.length > 0 ? "," : "", app_fields[i].name);
    buffer_append_byte(&rest, '\0');
    app = must(parse_with(rest.data));
    assert_true(app->enabled);
    assert_int_equal(app->max_connections, 100);
    assert_writes(app, START "}");
    app_unref(app);
    buffer_dispose(&rest);
}

static void zero_is_set_and_means_no_limit(void **state) {
    struct app *app = must(parse_with("\"max_connections\":0,\"max_event_batch_size\":\"0\""));

    (void)state;
    assert_true(app_field_is_set(app, APP_MAX_CONNECTIONS));
    assert_false(limit_exceeded(app->max_connections, SIZE_MAX));
    assert_false(limit_exceeded(app->max_event_batch_size, 1));
    assert_false(limit_exceeded(10, 10));
    assert_true(limit_exceeded(10, 11));
    assert_writes(app, START ",\"max_connections\":0,\"max_event_batch_size\":0}");
    app_unref(app);
}

static void what_is_not_set_takes_the_servers_defaults(void **state) {
    char name[] = "/tmp/curlew-app-XXXXXX";
    int descriptor = mkstemp(name);
    const char text[] =
        "{\"event_limits\":{\"max_channels_at_once\":1,\"max_name_length\":2,\"max_payload_in_kb\":3,"
        "\"max_batch_size\":4},\"channel_limits\":{\"max_name_length\":5},"
        "\"presence\":{\"max_members_per_channel\":6,\"max_member_size_in_kb\":7},"
        "\"rate_limits\":{\"max_read_requests_per_second\":8,\"max_backend_events_per_second\":0}}";
    struct config config;
    struct app *app, *other;

    (void)state;
    assert_int_equal(write(descriptor, text, sizeof text - 1), sizeof text - 1);
    close(descriptor);
    assert_true(config_load(&config, name, NULL, &error));
    unlink(name);
    app_defaults_from_config(&defaults, &config);
    config_dispose(&config);
    app = must(parse_with("\"max_event_name_length\":50"));
    assert_int_equal(app->max_connections, 100);
    assert_int_equal(app->max_client_events_per_second, 100);
    assert_int_equal(app->max_event_channels_at_once, 1);
    assert_int_equal(app->max_event_name_length, 50);
    assert_int_equal(app->max_event_payload_in_kb, 3);
    assert_int_equal(app->max_event_batch_size, 4);
    assert_int_equal(app->max_channel_name_length, 5);
    assert_int_equal(app->max_presence_members_per_channel, 6);
    assert_int_equal(app->max_presence_member_size_in_kb, 7);
    assert_int_equal(app->max_read_requests_per_second, 8);
    assert_int_equal(app->max_backend_events_per_second, 0);
    assert_writes(app, START ",\"max_event_name_length\":50}");
    app_defaults_of_100(&defaults);
    other = must(parse_with("\"max_event_name_length\":50"));
    assert_false(app_equal(app, other)); /* the same record under other limits */
    app_unref(app);
    app_unref(other);
}

static void id_key_and_secret_are_required_and_bounded(void **state) {
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"{}", "an app without an id: id is missing"},
        {"{\"id\":null}", "an app without an id: id is missing"},
        {"{\"id\":7.0,\"key\":\"k\",\"secret\":\"s\"}",
         "id must be a text, or a number of digits only: put it in quotes"},
        {"{\"id\":1e3,\"key\":\"k\",\"secret\":\"s\"}", "an app with an invalid id: id must be a text, or a number"},
        {"{\"id\":-7,\"key\":\"k\",\"secret\":\"s\"}", "an app with an invalid id: id must be a text, or a number"},
        {"{\"id\":7,\"key\":1.0,\"secret\":\"s\"}", "app \"7\": key must be a text, or a number of digits only"},
        {"{\"id\":7,\"key\":\"k\",\"secret\":1e3}", "app \"7\": secret must be a text, or a number of digits only"},
        {"{\"id\":true,\"key\":\"k\",\"secret\":\"s\"}", "an app with an invalid id: id must be a text"},
        {"{\"id\":\"a\"}", "app \"a\": key is missing"},
        {"{\"id\":\"a\",\"key\":\"k\"}", "app \"a\": secret is missing"},
        {"{\"id\":\"a\",\"key\":\"k\",\"secret\":\"\"}", "app \"a\": secret must have 1 to 255 bytes"},
        {"{\"id\":\"\",\"key\":\"k\",\"secret\":\"s\"}", "id must have 1 to 255 bytes"},
        {"{\"id\":\"a/b\",\"key\":\"k\",\"secret\":\"s\"}", "id must have"},
        {"{\"id\":\"a\",\"key\":\"k?\",\"secret\":\"s\"}", "key must have"},
        {"{\"id\":\"a\",\"key\":\"k#\",\"secret\":\"s\"}", "key must have"},
        {"{\"id\":\"a\",\"key\":\"k%\",\"secret\":\"s\"}", "key must have"},
        {"{\"id\":\"a\",\"key\":\"k k\",\"secret\":\"s\"}", "key must have"},
        {"{\"id\":\"a\",\"key\":\"\\u00e9\",\"secret\":\"s\"}", "printable ASCII"},
        {"{\"id\":\"a\",\"key\":\"k\",\"secret\":\"hunter2\\n\"}", "secret must have"},
        {"{\"id\":\"a\",\"key\":\"k\",\"secret\":[\"hunter2\"]}", "secret must be a text"},
        {"[]", "an app must be an object"},
        {"\"a\"", "an app must be an object"},
        {"null", "an app must be an object"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (parse(cases[i].text) != NULL)
            fail_msg("accepted: %s", cases[i].text);
        if (strstr(error.text, cases[i].part) == NULL)
            fail_msg("%s: %s", cases[i].text, error.text);
        assert_null(strstr(error.text, "hunter2"));
    }
}

static void the_field_that_is_refused_is_named(void **state) {
    static const struct {
        const char *text, *field;
    } cases[] = {
        {"[]", NULL},
        {"{\"id\":\"a\",\"max_connections\":-2}", "key"},
        {START ",\"max_connections\":-2}", "max_connections"},
        {START ",\"enabled\":1}", "enabled"},
        {START ",\"webhooks\":1,\"allowed_origins\":1}", "allowed_origins"},
        {START ",\"unknown\":1,\"webhooks\":[1]}", "webhooks"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *json = json_loads(cases[i].text, JSON_DECODE_ANY, NULL);
        const char *field = "untouched";

        assert_null(app_parse_or_name_field(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &field, &error));
        if (cases[i].field == NULL)
            assert_null(field);
        else
            assert_string_equal(field, cases[i].field);
        json_decref(json);
    }
}

static void an_id_key_or_secret_that_is_an_integer_is_its_digits(void **state) {
    static const enum app_source sources[] = {APP_FROM_CONFIGURATION, APP_FROM_COMMAND, APP_FROM_STORE};

    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        struct app *app = must(parse_from("{\"id\":40000,\"key\":9223372036854775807,\"secret\":0}", sources[i]));
        assert_slice(app->id, "40000");
        assert_slice(app->key, "9223372036854775807");
        assert_slice(app->secret, "0");
        assert_writes(app, "{\"id\":\"40000\",\"key\":\"9223372036854775807\",\"secret\":\"0\"}");
        app_unref(app);
    }
}

static void minus_one_is_no_limit_outside_of_a_store(void **state) {
    struct app *app = must(parse_with("\"max_connections\":-1,\"max_event_batch_size\":\"-1\",\"policy\":null"));

    (void)state;
    assert_int_equal(app->max_connections, 0);
    assert_int_equal(app->max_event_batch_size, 0);
    assert_writes(app, START ",\"max_connections\":0,\"max_event_batch_size\":0}");
    app_unref(app);
    app = must(parse_from(START ",\"max_connections\":\"-1\"}", APP_FROM_COMMAND));
    assert_int_equal(app->max_connections, 0);
    app_unref(app);
    refuse("\"max_connections\":-2", "max_connections must be a whole number from 0");
    refuse("\"max_connections\":\"-\"", "max_connections must be a whole number from 0");
    refuse("\"max_connections\":-1.5", "max_connections must be a whole number from 0");
}

static void the_longest_id_has_255_bytes(void **state) {
    char long_id[257], text[400];
    struct app *app;

    (void)state;
    memset(long_id, 'x', sizeof long_id);
    long_id[255] = '\0';
    snprintf(text, sizeof text, "{\"id\":\"%s\",\"key\":\"k\",\"secret\":\"a ~/?#%%\"}", long_id);
    app = must(parse(text));
    assert_int_equal(app->id.length, 255);
    assert_slice(app->secret, "a ~/?#%");
    app_unref(app);
    long_id[255] = 'x';
    long_id[256] = '\0';
    snprintf(text, sizeof text, "{\"id\":\"%s\",\"key\":\"k\",\"secret\":\"s\"}", long_id);
    assert_null(parse(text));
    assert_non_null(strstr(error.text, "id must have 1 to 255 bytes"));
    assert_false(app_name_valid(slice_of(long_id)));
    assert_false(app_name_valid((struct slice){0}));
    assert_true(app_name_valid(SLICE("App_1.~")));
}

static void the_signing_key_is_the_secrets(void **state) {
    struct app *app = must(parse(START "}"));
    struct slice part = SLICE("1.2:private-x");
    struct hmac_key key;
    char ours[HMAC_SHA256_HEX], theirs[HMAC_SHA256_HEX];

    (void)state;
    hmac_key_init(&key, SLICE("s"));
    hmac_sha256_hex(&app->hmac, &part, 1, ours);
    hmac_sha256_hex(&key, &part, 1, theirs);
    assert_memory_equal(ours, theirs, HMAC_SHA256_HEX);
    app_unref(app);
}

static void an_unknown_field_is_a_warning_and_survives(void **state) {
    const char *text = START ",\"colour\":\"red\",\"nested\":{\"a\":[1,null]},\"nothing\":null}";
    struct app *app = must(parse(text));

    (void)state;
    assert_true(warned("app \"a\": colour is not a field that this server knows"));
    assert_true(warned("app \"a\": nested is not"));
    assert_false(warned("did you mean"));
    assert_writes(app, text);
    app_unref(app);
}

static void a_field_that_was_probably_meant_is_named(void **state) {
    (void)state;
    app_unref(must(parse_with("\"max_conections\":5,\"enable_client_message\":true,\"webhook\":[]")));
    assert_true(
        warned("app \"a\": max_conections is not a field that this server knows; it is kept; did you mean "
               "max_connections?"));
    assert_true(warned("did you mean enable_client_messages?"));
    assert_true(warned("did you mean webhooks?"));
    app_unref(
        must(parse_with("\"maxReadRequestsPerSecond\":5,\"max_client_events_per_sec\":5,\"max_read_req_per_sec\":5")));
    assert_true(
        warned("maxReadRequestsPerSecond is not a field that this server knows; it is kept; did you mean "
               "max_read_requests_per_second?"));
    assert_true(
        warned("max_client_events_per_sec is not a field that this server knows; it is kept; did you mean "
               "max_client_events_per_second?"));
    assert_true(
        warned("max_read_req_per_sec is not a field that this server knows; it is kept; did you mean "
               "max_read_requests_per_second?"));
}

static void a_field_that_was_probably_meant_is_named_inside_others_too(void **state) {
    (void)state;
    app_unref(
        must(parse_with("\"webhooks\":[{\"url\":\"http://h\",\"event_type\":[],\"event_types\":[\"member_aded\"],"
                        "\"filter\":{\"channel_prefx\":\"a\"}},"
                        "{\"lambda\":{\"function_name\":\"f\",\"region\":\"r\",\"zone\":1},\"event_types\":[]}],"
                        "\"channel_delta_compression\":{\"a\":{\"max_message_per_key\":1}}")));
    assert_true(
        warned("webhooks[0].event_type is not a field that this server knows; it is kept; did you mean "
               "event_types?"));
    assert_true(
        warned("webhooks[0].event_types[0]: \"member_aded\" is not an event that this server sends; did you mean "
               "member_added?"));
    assert_true(
        warned("webhooks[0].filter.channel_prefx is not a field that this server knows; it is kept; did you mean "
               "channel_prefix?"));
    assert_false(warned("webhooks[1].lambda.zone is not a field that this server knows; it is kept;"));
    assert_true(
        warned("channel_delta_compression[\"a\"].max_message_per_key is not a field that this server knows; it is "
               "kept; did you mean max_messages_per_key?"));
}

static void origins_are_patterns_with_one_star_at_most(void **state) {
    const char *text =
        START ",\"allowed_origins\":[\"*\",\"https://app.example.com\",\"*.example.com\",\"http://localhost:*\"]}";
    struct app *app = must(parse(text));

    (void)state;
    assert_int_equal(app->allowed_origin_count, 4);
    assert_slice(app->allowed_origins[0], "*");
    assert_slice(app->allowed_origins[3], "http://localhost:*");
    assert_writes(app, text);
    app_unref(app);
    app = must(parse_with("\"allowed_origins\":[]"));
    assert_int_equal(app->allowed_origin_count, 0);
    assert_writes(app, START ",\"allowed_origins\":[]}");
    app_unref(app);
    refuse("\"allowed_origins\":\"*\"", "allowed_origins must be a list of texts");
    refuse("\"allowed_origins\":[1]", "allowed_origins[0] must be a text");
    refuse("\"allowed_origins\":[\"a\",\"\"]", "allowed_origins[1] is empty");
    refuse("\"allowed_origins\":[\"*.*.example\"]", "allowed_origins[0]: a pattern may hold one * only");
}

static void a_webhook_is_read_whole(void **state) {
    const char *text = START
        ",\"webhooks\":[{\"url\":\"https://u:p@hooks.example:8443/x?y\",\"event_types\":[\"channel_occupied\","
        "\"channel_vacated\",\"member_added\",\"member_removed\",\"client_event\",\"cache_miss\"],"
        "\"filter\":{\"channel_prefix\":\"private-\",\"channel_suffix\":\"-x\",\"channel_pattern\":\"^a(b|c)+$\"},"
        "\"headers\":{\"X-Token\":\"t\\u00e9\",\"X-Other\":\"\"}},"
        "{\"lambda\":{\"function_name\":\"f\",\"region\":\"eu-west-1\"},\"event_types\":[\"subscription_count\"]},"
        "{\"lambda_function\":\"g\",\"url\":null,\"event_types\":[],\"filter\":null,\"headers\":null},"
        "{\"lambda_function\":\"h\",\"lambda\":{\"region\":\"eu-west-2\"},\"event_types\":[]}]}";
    struct app *app = must(parse(text));
    const struct app_webhook *first = &app->webhooks[0];

    (void)state;
    assert_int_equal(app->webhook_count, 4);
    assert_slice(first->url, "https://u:p@hooks.example:8443/x?y");
    assert_null(first->lambda_function.data);
    assert_int_equal(first->event_types, WEBHOOK_SUBSCRIPTION_COUNT - 1);
    assert_slice(first->filter.prefix, "private-");
    assert_slice(first->filter.suffix, "-x");
    assert_slice(first->filter.pattern_text, "^a(b|c)+$");
    assert_int_equal(first->header_count, 2);
    assert_slice(first->headers[0].name, "X-Token");
    assert_slice(first->headers[0].value, "t\xc3\xa9");
    assert_null(app->webhooks[1].url.data);
    assert_slice(app->webhooks[1].lambda_function, "f");
    assert_slice(app->webhooks[1].lambda_region, "eu-west-1");
    assert_null(app->webhooks[1].filter.pattern_text.data);
    assert_slice(app->webhooks[2].lambda_function, "g");
    assert_null(app->webhooks[2].lambda_region.data);
    assert_slice(app->webhooks[3].lambda_function, "h");
    assert_slice(app->webhooks[3].lambda_region, "eu-west-2");
    assert_true(app_wants_subscription_count(app));
    assert_int_equal(warnings.length, 0);
    assert_writes(app, text);
    app_unref(app);
    app = must(parse_with("\"webhooks\":[]"));
    assert_writes(app, START ",\"webhooks\":[]}");
    app_unref(app);
}

static void nested_webhook_headers_are_read_as_meant_and_written_flat(void **state) {
    struct app *app =
        must(parse_with("\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[],"
                        "\"headers\":{\"headers\":{\"X-A\":\"1\"}}}]"));

    (void)state;
    assert_int_equal(app->webhooks[0].header_count, 1);
    assert_slice(app->webhooks[0].headers[0].name, "X-A");
    assert_writes(app, START ",\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[],\"headers\":{\"X-A\":\"1\"}}]}");
    app_unref(app);
    app = must(parse_with("\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[],\"headers\":{\"headers\":\"1\"}}]"));
    assert_slice(app->webhooks[0].headers[0].name, "headers");
    app_unref(app);
}

static void a_header_of_the_server_is_an_error_on_write_and_left_out_on_read(void **state) {
    static const char *const reserved[] = {"Host",       "content-length",     "Content-Type", "transfer-encoding",
                                           "CONNECTION", "X-Pusher-Signature", "x-pusher-new"};

    (void)state;
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        struct buffer record = {0};
        struct app *app;

        buffer_appendf(&record,
                       START
                       ",\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[],\"headers\":{\"X-Pusher\":\"1\","
                       "\"%s\":\"2\"}}]}",
                       reserved[i]);
        assert_null(parse_from(buffer_string(&record), APP_FROM_COMMAND));
        assert_non_null(strstr(error.text, reserved[i]));
        assert_null(parse_from(record.data, APP_FROM_REQUEST));
        app = must(parse_from(record.data, APP_FROM_STORE));
        assert_int_equal(app->webhooks[0].header_count, 1);
        assert_slice(app->webhooks[0].headers[0].name, "X-Pusher");
        assert_true(warned(reserved[i]));
        assert_writes(app, record.data); /* it stays in the record */
        app_unref(app);
        buffer_dispose(&record);
    }
}

static void secrets_of_webhooks_are_hidden_and_cannot_be_written_hidden(void **state) {
    static const char *const hidden =
        "[{\"url\":\"https://********@h/@\",\"event_types\":[],"
        "\"headers\":{\"X-A\":\"********\"}},{\"lambda_function\":\"f\"}]";
    json_t *list = json_loads(
        "[{\"url\":\"https://u:p@w@h/@\",\"event_types\":[],\"headers\":{\"X-A\":\"1\"}},"
        "{\"lambda_function\":\"f\"}]",
        0, NULL);
    json_t *expected = json_loads(hidden, 0, NULL);
    struct buffer record = {0};

    (void)state;
    app_webhooks_hide_secrets(list);
    assert_true(json_equal(list, expected));
    buffer_append_string(&record, START
                         ",\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[],"
                         "\"headers\":{\"X-A\":\"********\"}}]}");
    assert_null(parse_from(buffer_string(&record), APP_FROM_COMMAND));
    assert_non_null(strstr(error.text, "headers.X-A: \"********\" stands for a hidden value"));
    record.length = 0;
    buffer_append_string(&record, START ",\"webhooks\":[{\"url\":\"http://********@h\",\"event_types\":[]}]}");
    assert_null(parse_from(buffer_string(&record), APP_FROM_REQUEST));
    assert_non_null(strstr(error.text, "stands for a hidden user and password"));
    buffer_dispose(&record);
    json_decref(list);
    json_decref(expected);
}

static void a_bad_webhook_is_refused_with_its_place(void **state) {
    static const struct {
        const char *webhook, *part;
    } cases[] = {
        {"7", "webhooks[1] must be an object"},
        {"{\"event_types\":[]}", "webhooks[1] needs a url or a lambda"},
        {"{\"url\":\"http://h\",\"lambda_function\":\"f\",\"event_types\":[]}", "webhooks[1] has both a url and"},
        {"{\"url\":7,\"event_types\":[]}", "webhooks[1].url must be a text"},
        {"{\"url\":\"\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"ftp://h/\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https:///x\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://h:x/\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://h:65536/\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://:80/\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://u@/\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://[::1/\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://h/a b\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"url\":\"https://h/\\r\\n\",\"event_types\":[]}", "webhooks[1].url must be an http or https URL"},
        {"{\"lambda\":\"f\",\"event_types\":[]}", "webhooks[1].lambda must be an object"},
        {"{\"lambda\":{\"region\":\"r\"},\"event_types\":[]}", "webhooks[1].lambda.function_name is missing"},
        {"{\"lambda\":{\"function_name\":\"f\",\"region\":1},\"event_types\":[]}", "webhooks[1].lambda.region must be"},
        {"{\"lambda_function\":\"\",\"event_types\":[]}", "name of the Lambda function is empty"},
        {"{\"url\":\"http://h\"}", "webhooks[1].event_types must be a list"},
        {"{\"url\":\"http://h\",\"event_types\":[1]}", "webhooks[1].event_types[0] must be a text"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"filter\":[]}", "webhooks[1].filter must be an object"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"filter\":{\"channel_suffix\":1}}",
         "webhooks[1].filter.channel_suffix must be a text"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"filter\":{\"channel_pattern\":\"a(\"}}",
         "webhooks[1].filter.channel_pattern must be a regular expression; at its byte 2"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"headers\":[]}", "webhooks[1].headers must be an object"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"headers\":{\"a b\":\"c\"}}",
         "webhooks[1].headers: \"a b\" cannot"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"headers\":{\"X-Ok\":\"c\",\"X\":\"a\\r\\nb\"}}",
         "webhooks[1].headers.X must be a text without control"},
        {"{\"url\":\"http://h\",\"event_types\":[],\"headers\":{\"X\":1}}", "webhooks[1].headers.X must be a text"},
    };
    struct buffer rest = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rest.length = 0;
        buffer_appendf(&rest,
                       "\"webhooks\":[{\"url\":\"http://[::1]:80/\",\"event_types\":[],\"headers\":{\"A\":\"b\"}},%s]",
                       cases[i].webhook);
        buffer_append_byte(&rest, '\0');
        refuse(rest.data, cases[i].part);
    }
    buffer_dispose(&rest);
    refuse("\"webhooks\":{}", "webhooks must be a list of objects");
}

static void what_a_newer_server_may_mean_in_a_webhook_is_a_warning(void **state) {
    const char *text = START
        ",\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[\"channel_renamed\"],\"retries\":3,"
        "\"filter\":{\"channel_type\":\"x\"}}]}";
    struct app *app = must(parse(text));

    (void)state;
    assert_true(warned("app \"a\": webhooks[0].event_types[0]: \"channel_renamed\" is not an event"));
    assert_true(warned("app \"a\": webhooks[0].retries is not a field"));
    assert_true(warned("app \"a\": webhooks[0].filter.channel_type is not a field"));
    assert_writes(app, text);
    app_unref(app);
}

static const struct app_delta_setting *setting(const struct app *app, const char *pattern) {
    for (size_t i = 0; i < app->delta_setting_count; i++)
        if (slice_equal(app->delta_settings[i].pattern, slice_of(pattern)))
            return &app->delta_settings[i];
    fail_msg("no setting for %s", pattern);
    return NULL;
}

static void delta_settings_are_words_or_objects_with_defaults(void **state) {
    struct app *app = must(parse_with(
        "\"channel_delta_compression\":{\"a\":\"inherit\",\"b\":\"disabled\",\"c-*\":\"fossil\",\"d\":\"Xdelta3\","
        "\"e\":{},\"f\":{\"enabled\":false,\"algorithm\":\"xdelta3\",\"conflation_key\":\"tags.symbol\","
        "\"max_messages_per_key\":\"3\",\"max_conflation_keys\":4,\"enable_tags\":false},"
        "\"*\":{\"algorithm\":\"FOSSIL\",\"conflation_key\":null,\"max_conflation_keys\":null}}"));

    (void)state;
    assert_int_equal(app->delta_setting_count, 7);
    assert_int_equal(setting(app, "a")->kind, APP_DELTA_INHERIT);
    assert_int_equal(setting(app, "b")->kind, APP_DELTA_DISABLED);
    assert_int_equal(setting(app, "c-*")->kind, APP_DELTA_WORD);
    assert_int_equal(setting(app, "c-*")->algorithm, APP_DELTA_FOSSIL);
    assert_int_equal(setting(app, "d")->algorithm, APP_DELTA_XDELTA3);
    assert_int_equal(setting(app, "e")->kind, APP_DELTA_OBJECT);
    assert_true(setting(app, "e")->enabled && setting(app, "e")->enable_tags);
    assert_int_equal(setting(app, "e")->algorithm, APP_DELTA_FOSSIL);
    assert_null(setting(app, "e")->conflation_key.data);
    assert_int_equal(setting(app, "e")->max_messages_per_key, 10);
    assert_int_equal(setting(app, "e")->max_conflation_keys, 100);
    assert_false(setting(app, "e")->max_conflation_keys_set);
    assert_false(setting(app, "f")->enabled || setting(app, "f")->enable_tags);
    assert_int_equal(setting(app, "f")->algorithm, APP_DELTA_XDELTA3);
    assert_slice(setting(app, "f")->conflation_key, "tags.symbol");
    assert_int_equal(setting(app, "f")->max_messages_per_key, 3);
    assert_int_equal(setting(app, "f")->max_conflation_keys, 4);
    assert_true(setting(app, "f")->max_conflation_keys_set);
    assert_false(setting(app, "*")->max_conflation_keys_set);
    /* the family reads the algorithm in an object capitalised only, and a word in lower case only */
    assert_writes(app, START
                  ",\"channel_delta_compression\":{\"a\":\"inherit\",\"b\":\"disabled\",\"c-*\":\"fossil\","
                  "\"d\":\"xdelta3\",\"e\":{},\"f\":{\"enabled\":false,\"algorithm\":\"Xdelta3\","
                  "\"conflation_key\":\"tags.symbol\",\"max_messages_per_key\":\"3\",\"max_conflation_keys\":4,"
                  "\"enable_tags\":false},\"*\":{\"algorithm\":\"Fossil\",\"conflation_key\":null,"
                  "\"max_conflation_keys\":null}}}");
    app_unref(app);
}

static void a_bad_delta_setting_is_refused_with_its_channel(void **state) {
    (void)state;
    refuse("\"channel_delta_compression\":[]", "channel_delta_compression must be an object");
    refuse("\"channel_delta_compression\":\"fossil\"", "channel_delta_compression must be an object");
    refuse("\"channel_delta_compression\":{\"a\":\"gzip\"}", "channel_delta_compression[\"a\"] must be inherit");
    refuse("\"channel_delta_compression\":{\"a\":7}", "channel_delta_compression[\"a\"] must be inherit");
    refuse("\"channel_delta_compression\":{\"a\":null}", "channel_delta_compression[\"a\"] must be inherit");
    refuse("\"channel_delta_compression\":{\"\":\"fossil\"}", "holds an empty channel name");
    refuse("\"channel_delta_compression\":{\"a*b*\":\"fossil\"}", "[\"a*b*\"]: a pattern may hold one * only");
    refuse("\"channel_delta_compression\":{\"a\":{\"algorithm\":\"gzip\"}}", "[\"a\"].algorithm must be fossil or");
    refuse("\"channel_delta_compression\":{\"a\":{\"enabled\":1}}", "[\"a\"].enabled must be true or false");
    refuse("\"channel_delta_compression\":{\"a\":{\"max_conflation_keys\":-1}}", "[\"a\"].max_conflation_keys must be");
    refuse("\"channel_delta_compression\":{\"a\":{\"conflation_key\":1}}", "[\"a\"].conflation_key must be a text");
    app_unref(must(parse_with("\"channel_delta_compression\":{\"a\":{\"level\":9}}")));
    assert_true(warned("channel_delta_compression[\"a\"].level is not a field"));
}

static void a_conflation_key_that_no_message_has_is_told(void **state) {
    static const char *const odd[] = {"a..b", ".a", "a.", ".", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16.17"};
    static const char *const good[] = {"", "a", "data.a.b", "tags.symbol", "1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16"};
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        snprintf(text, sizeof text, "\"channel_delta_compression\":{\"c\":{\"conflation_key\":\"%s\"}}", odd[i]);
        warnings.length = 0;
        app_unref(must(parse_with(text)));
        assert_true(warned("channel_delta_compression[\"c\"].conflation_key finds nothing: it is 1 to 16 names"));
    }
    warnings.length = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        snprintf(text, sizeof text, "\"channel_delta_compression\":{\"c\":{\"conflation_key\":\"%s\"}}", good[i]);
        app_unref(must(parse_with(text)));
        assert_false(warned("conflation_key"));
    }
    app_unref(must(
        parse_with("\"channel_delta_compression\":{\"c\":{\"conflation_key\":\"tags.a\",\"enable_tags\":false}}")));
    assert_true(warned("channel_delta_compression[\"c\"].conflation_key finds nothing: with enable_tags false"));
}

static void equal_means_the_same_record_under_the_same_limits(void **state) {
    struct app *one = must(parse_with("\"max_connections\":100,\"webhooks\":[]"));
    struct app *same = must(parse_with("\"webhooks\":[],\"max_connections\":\"100\""));
    struct app *unset = must(parse_with("\"webhooks\":[]"));
    struct app *other = must(parse_with("\"max_connections\":100,\"webhooks\":[],\"colour\":1"));

    (void)state;
    assert_true(app_equal(one, one));
    assert_true(app_equal(one, same));
    assert_false(app_equal(one, unset));
    assert_false(app_equal(one, other));
    app_unref(one);
    app_unref(same);
    app_unref(unset);
    app_unref(other);
}

static void a_replaced_record_leads_to_the_one_in_force(void **state) {
    struct app *first = must(parse_with("\"max_connections\":1")), *last = first;

    (void)state;
    assert_ptr_equal(app_latest(first), first);
    for (unsigned i = 0; i < 100000; i++) { /* freed one after the other, not by recursion */
        struct app *next = must(parse_with("\"max_connections\":2"));
        app_set_successor(last, next);
        if (last != first)
            app_unref(last);
        last = next;
    }
    assert_ptr_equal(app_latest(first), last);
    app_set_successor(last, NULL);
    assert_null(app_latest(first));
    assert_null(app_latest(last));
    app_unref(last);
    app_unref(first);
}

static void a_record_lives_until_its_last_reference(void **state) {
    struct app *app = must(parse(START "}"));

    (void)state;
    assert_ptr_equal(app_ref(app), app);
    app_unref(app);
    assert_slice(app->id, "a");
    app_unref(app);
    app_unref(NULL);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_table_names_all_24_fields_in_order),
        TEST(a_minimal_app_takes_every_default),
        TEST(each_number_has_a_place_of_its_own),
        TEST(flags_are_read_and_written),
        TEST(numbers_may_be_strings_of_digits),
        TEST(a_number_that_is_negative_fractional_or_too_large_is_refused_by_name),
        TEST(in_a_store_a_negative_32_bit_number_is_the_unsigned_one),
        TEST(null_is_not_set_in_every_field),
        TEST(zero_is_set_and_means_no_limit),
        TEST(what_is_not_set_takes_the_servers_defaults),
        TEST(id_key_and_secret_are_required_and_bounded),
        TEST(the_field_that_is_refused_is_named),
        TEST(an_id_key_or_secret_that_is_an_integer_is_its_digits),
        TEST(minus_one_is_no_limit_outside_of_a_store),
        TEST(the_longest_id_has_255_bytes),
        TEST(the_signing_key_is_the_secrets),
        TEST(an_unknown_field_is_a_warning_and_survives),
        TEST(a_field_that_was_probably_meant_is_named),
        TEST(a_field_that_was_probably_meant_is_named_inside_others_too),
        TEST(origins_are_patterns_with_one_star_at_most),
        TEST(a_webhook_is_read_whole),
        TEST(nested_webhook_headers_are_read_as_meant_and_written_flat),
        TEST(secrets_of_webhooks_are_hidden_and_cannot_be_written_hidden),
        TEST(a_header_of_the_server_is_an_error_on_write_and_left_out_on_read),
        TEST(a_bad_webhook_is_refused_with_its_place),
        TEST(what_a_newer_server_may_mean_in_a_webhook_is_a_warning),
        TEST(delta_settings_are_words_or_objects_with_defaults),
        TEST(a_bad_delta_setting_is_refused_with_its_channel),
        TEST(a_conflation_key_that_no_message_has_is_told),
        TEST(equal_means_the_same_record_under_the_same_limits),
        TEST(a_record_lives_until_its_last_reference),
        TEST(a_replaced_record_leads_to_the_one_in_force),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
