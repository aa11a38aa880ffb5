/* The field `policy`: that it replaces the flat fields, that both stay in step, and what is refused. The records are as
 * other servers of the protocol family write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "app/app_policy.h"
#include "app_defaults.h"
#include "base/hash.h"
#include "store/row.h"

#define NAMES "\"id\":\"a\",\"key\":\"k\",\"secret\":\"s\""
/* The flat fields of an open app with small limits. */
#define FLAT                                                                                                           \
    "\"enabled\":true,\"enable_client_messages\":false,\"max_connections\":100,\"max_client_events_per_second\":100,"  \
    "\"max_event_payload_in_kb\":7,\"enable_watchlist_events\":false"
/* A policy with every member, those that are not set as null. */
#define POLICY                                                                                                         \
    "{\"limits\":{\"max_connections\":100000,\"max_backend_events_per_second\":null,"                                  \
    "\"max_client_events_per_second\":\"25\",\"max_read_requests_per_second\":50,"                                     \
    "\"max_presence_members_per_channel\":null,\"max_presence_member_size_in_kb\":2,"                                  \
    "\"max_channel_name_length\":200,\"max_event_channels_at_once\":null,\"max_event_name_length\":null,"              \
    "\"max_event_payload_in_kb\":\"512\",\"max_event_batch_size\":null,\"decay_seconds\":10,"                          \
    "\"terminate_on_limit\":true,\"message_rate_limit\":{\"enabled\":true,\"max_attempts\":\"90\","                    \
    "\"decay_seconds\":30,\"terminate_on_limit\":true}},"                                                              \
    "\"features\":{\"enable_client_messages\":true,\"enable_user_authentication\":null,"                               \
    "\"enable_watchlist_events\":true},"                                                                               \
    "\"channels\":{\"allowed_origins\":[\"https://app.example.com\"],"                                                 \
    "\"channel_delta_compression\":{\"prices-*\":\"fossil\"},\"channel_namespaces\":[{\"name\":\"chat\"}],"            \
    "\"annotations_enabled\":true},"                                                                                   \
    "\"webhooks\":[{\"url\":\"https://example.com/hook\",\"event_types\":[\"channel_occupied\"]}],"                    \
    "\"idempotency\":{\"enabled\":true,\"ttl_seconds\":60},\"connection_recovery\":null,\"history\":{\"days\":1}}"

static struct app_defaults defaults;
static struct error error;
static unsigned warnings;
static char last_warning[400];

static int set_up(void **state) {
    (void)state;
    app_defaults_of_100(&defaults);
    warnings = 0;
    last_warning[0] = '\0';
    return 0;
}

static void count_warning(void *context, const char *text) {
    (void)context;
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", text);
}

static json_t *json_of(const char *text) {
    json_t *json = json_loads(text, 0, NULL);

    assert_non_null(json);
    return json;
}

static struct app *parse_from(const char *text, enum app_source source) {
    json_t *record = json_of(text);
    struct app *app = app_parse(record, &defaults, source, count_warning, NULL, &error);

    json_decref(record);
    return app;
}

static struct app *parse(const char *text) {
    struct app *app = parse_from(text, APP_FROM_CONFIGURATION);

    if (app == NULL)
        fail_msg("%s", error.text);
    return app;
}

static void refuse(const char *policy, const char *part) {
    char text[1000];

    snprintf(text, sizeof text, "{" NAMES ",\"policy\":%s}", policy);
    assert_null(parse_from(text, APP_FROM_CONFIGURATION));
    if (strncmp(error.text, "app \"a\": policy", 15) != 0 || strstr(error.text, part) == NULL)
        fail_msg("%s: %s", policy, error.text);
}

static void assert_policy_in_force(const struct app *app) {
    assert_int_equal(app->max_connections, 100000);
    assert_int_equal(app->max_client_events_per_second, 25);
    assert_int_equal(app->max_read_requests_per_second, 50);
    assert_int_equal(app->max_backend_events_per_second, 100); /* the server-wide default */
    assert_int_equal(app->max_presence_member_size_in_kb, 2);
    assert_int_equal(app->max_channel_name_length, 200);
    assert_int_equal(app->max_event_payload_in_kb, 512);
    assert_true(app->enabled && app->enable_client_messages && app->enable_watchlist_events);
    assert_false(app->enable_user_authentication);
    assert_int_equal(app->allowed_origin_count, 1);
    assert_true(slice_equal(app->allowed_origins[0], SLICE("https://app.example.com")));
    assert_int_equal(app->webhook_count, 1);
    assert_int_equal(app->delta_setting_count, 1);
    assert_int_equal(app->policy.decay_seconds, 10);
    assert_true(app->policy.terminate_on_limit);
    assert_true(app->policy.message_rate_limit.enabled && app->policy.message_rate_limit.terminate_on_limit);
    assert_int_equal(app->policy.message_rate_limit.max_attempts, 90);
    assert_int_equal(app->policy.message_rate_limit.decay_seconds, 30);
}

static void a_policy_wins_over_the_flat_fields_beside_it(void **state) {
    static const char *const texts[] = {
        "{" NAMES "," FLAT ",\"policy\":" POLICY "}",
        "{" NAMES ",\"policy\":" POLICY "," FLAT "}",
        "{" NAMES ",\"enabled\":true,\"policy\":" POLICY "}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct app *app = parse(texts[i]);
        assert_policy_in_force(app);
        app_unref(app);
    }
}

static void what_a_policy_leaves_out_is_what_its_servers_take_then(void **state) {
    struct app *app = parse("{" NAMES "," FLAT
                            ",\"allowed_origins\":[\"https://x.example\"],"
                            "\"webhooks\":[{\"url\":\"http://x.example\",\"event_types\":[]}],"
                            "\"enable_client_messages\":true,\"enabled\":false,\"policy\":{}}");

    (void)state;
    assert_int_equal(app->max_connections, 0);
    assert_int_equal(app->max_client_events_per_second, 0);
    assert_int_equal(app->max_event_payload_in_kb, 100); /* the server-wide default, and not the flat value */
    assert_false(app->enabled);                          /* which no policy has */
    assert_false(app->enable_client_messages || app->enable_watchlist_events || app->enable_user_authentication);
    assert_int_equal(app->allowed_origin_count, 0);
    assert_int_equal(app->webhook_count, 0);
    assert_int_equal(app->policy.decay_seconds, 1);
    assert_false(app->policy.terminate_on_limit || app->policy.message_rate_limit.enabled);
    app_unref(app);
}

static void null_is_no_policy(void **state) {
    struct app *app = parse("{" NAMES "," FLAT ",\"policy\":null}");

    (void)state;
    assert_int_equal(app->max_connections, 100);
    assert_int_equal(app->max_event_payload_in_kb, 7);
    assert_false(app_field_is_set(app, APP_POLICY));
    app_unref(app);
}

static void a_policy_in_the_text_of_a_column_is_read_alike(void **state) {
    json_t *record = json_object();
    struct app *app;

    (void)state;
    row_set_text(record, APP_ID, SLICE("a"));
    row_set_text(record, APP_KEY, SLICE("k"));
    row_set_text(record, APP_SECRET, SLICE("s"));
    row_set_flag(record, APP_ENABLED, true);
    row_set_text(record, APP_POLICY, SLICE(POLICY));
    assert_int_equal(row_to_app(record, &defaults, &app, &error), STORE_OK);
    assert_policy_in_force(app);
    app_unref(app);

    record = json_of("{" NAMES "}");
    row_set_text(record, APP_POLICY, SLICE("{cut off"));
    assert_int_equal(row_to_app(record, &defaults, &app, &error), STORE_INVALID);
    assert_non_null(strstr(error.text, "policy must be an object"));
}

static void a_policy_is_written_as_it_was_read_with_its_values_beside_it(void **state) {
    struct app *app = parse("{" NAMES "," FLAT ",\"policy\":" POLICY "}");
    json_t *record = app_to_json(app), *policy = json_of(POLICY);

    (void)state;
    assert_true(json_equal(json_object_get(record, "policy"), policy));
    assert_int_equal(json_integer_value(json_object_get(record, "max_connections")), 100000);
    assert_int_equal(json_integer_value(json_object_get(record, "max_client_events_per_second")), 25);
    assert_true(json_is_true(json_object_get(record, "enable_client_messages")));
    assert_true(json_equal(json_object_get(record, "webhooks"), json_object_get(policy, "webhooks")));
    assert_null(json_object_get(record, "max_backend_events_per_second"));
    json_decref(record);
    json_decref(policy);
    app_unref(app);
}

/* A member of the policy of a record, by its section. */
static json_t *in_policy(const json_t *record, const char *section, const char *field) {
    json_t *policy = json_object_get(record, "policy");

    return json_object_get(section != NULL ? json_object_get(policy, section) : policy, field);
}

static void a_change_is_made_in_both_places_and_the_rest_is_kept(void **state) {
    struct app *app = parse("{" NAMES ",\"policy\":" POLICY "}"), *changed;
    json_t *record = app_to_json(app), *origins = json_of("[\"*\"]"), *number = json_integer(7);

    (void)state;
    app_record_change(record, "max_connections", number);
    app_record_change(record, "allowed_origins", origins);
    app_record_change(record, "enable_watchlist_events", json_false());
    app_record_change(record, "webhooks", NULL);
    app_record_change(record, "enabled", json_false()); /* not part of a policy */
    assert_int_equal(json_integer_value(in_policy(record, "limits", "max_connections")), 7);
    assert_true(json_equal(in_policy(record, "channels", "allowed_origins"), origins));
    assert_true(json_is_false(in_policy(record, "features", "enable_watchlist_events")));
    assert_null(in_policy(record, NULL, "webhooks"));
    assert_null(in_policy(record, NULL, "enabled"));
    assert_non_null(in_policy(record, "channels", "channel_namespaces"));
    assert_non_null(in_policy(record, NULL, "idempotency"));
    assert_non_null(in_policy(record, "limits", "message_rate_limit"));

    changed = app_parse(record, &defaults, APP_FROM_COMMAND, NULL, NULL, &error);
    assert_non_null(changed);
    assert_int_equal(changed->max_connections, 7);
    assert_int_equal(changed->max_event_payload_in_kb, 512);
    assert_int_equal(changed->webhook_count, 0);
    assert_false(changed->enabled);
    assert_policy_in_force(app); /* the record that was there is as it was */
    json_decref(record);
    json_decref(origins);
    json_decref(number);
    app_unref(app);
    app_unref(changed);
}

/* The flat default of the two numbers is 100; a policy without them has no limit. */
static void a_number_that_is_unset_takes_the_flat_default_in_a_policy_too(void **state) {
    struct app *app = parse("{" NAMES ",\"policy\":" POLICY "}"), *changed;
    json_t *record = app_to_json(app);

    (void)state;
    app_record_change(record, "max_connections", NULL);
    app_record_change(record, "max_channel_name_length", NULL);
    changed = app_parse(record, &defaults, APP_FROM_COMMAND, NULL, NULL, &error);
    assert_non_null(changed);
    assert_int_equal(changed->max_connections, 100);
    assert_int_equal(changed->max_channel_name_length, 100);
    assert_null(in_policy(record, "limits", "max_channel_name_length"));
    json_decref(record);
    app_unref(app);
    app_unref(changed);
}

static void without_its_policy_an_app_stays_as_it_is(void **state) {
    struct app *app = parse("{" NAMES ",\"policy\":" POLICY "}"), *changed;
    json_t *record = app_to_json(app);

    (void)state;
    app_record_change(record, "policy", NULL);
    changed = app_parse(record, &defaults, APP_FROM_COMMAND, NULL, NULL, &error);
    assert_false(app_field_is_set(changed, APP_POLICY));
    assert_int_equal(changed->max_connections, 100000);
    assert_int_equal(changed->allowed_origin_count, 1);
    json_decref(record);
    app_unref(app);
    app_unref(changed);
}

static void a_policy_made_of_flat_fields_means_the_same(void **state) {
    struct app *app = parse("{" NAMES
                            ",\"max_event_payload_in_kb\":7,\"enable_watchlist_events\":true,"
                            "\"allowed_origins\":[\"https://a.example\"]}");
    struct app *made = app_with_policy(app, NULL, &defaults);
    json_t *policy = json_of(
        "{\"limits\":{\"max_connections\":100,\"max_client_events_per_second\":100,"
        "\"max_event_payload_in_kb\":7},\"features\":{\"enable_watchlist_events\":true},"
        "\"channels\":{\"allowed_origins\":[\"https://a.example\"]}}");

    (void)state;
    assert_true(json_equal(made->policy_json, policy));
    assert_int_equal(made->max_connections, 100);
    assert_int_equal(made->max_read_requests_per_second, 100);
    json_decref(policy);
    app_unref(app);
    app_unref(made);
}

static void a_policy_of_the_wrong_shape_is_refused_by_the_member(void **state) {
    (void)state;
    refuse("[]", "policy must be an object");
    refuse("\"\"", "policy must be an object");
    refuse("{\"limits\":[]}", "policy.limits must be an object");
    refuse("{\"limits\":{\"max_connections\":\"many\"}}", "max_connections must be a whole number");
    refuse("{\"limits\":{\"decay_seconds\":1.5}}", "policy.limits.decay_seconds must be a whole number");
    refuse("{\"limits\":{\"terminate_on_limit\":\"yes\"}}", "policy.limits.terminate_on_limit must be true or false");
    refuse("{\"limits\":{\"message_rate_limit\":5}}", "policy.limits.message_rate_limit must be an object");
    refuse("{\"limits\":{\"message_rate_limit\":{\"max_attempts\":true}}}", "message_rate_limit.max_attempts must be");
    refuse("{\"features\":{\"enable_client_messages\":\"on\"}}", "enable_client_messages must be true or false");
    refuse("{\"channels\":{\"allowed_origins\":[\"\"]}}", "allowed_origins[0] is empty");
    refuse("{\"webhooks\":{}}", "webhooks must be");
}

static void a_window_of_no_time_is_one_second(void **state) {
    struct app *app = parse("{" NAMES
                            ",\"policy\":{\"limits\":{\"decay_seconds\":0,"
                            "\"message_rate_limit\":{\"decay_seconds\":\"0\"}}}}");

    (void)state;
    assert_int_equal(app->policy.decay_seconds, 1);
    assert_int_equal(app->policy.message_rate_limit.decay_seconds, 1);
    app_unref(app);
}

static void members_without_a_meaning_here_are_named_once_for_all_apps(void **state) {
    static const char text[] = "{" NAMES ",\"policy\":{\"presence_history\":{\"x\":1},\"history\":null}}";

    (void)state;
    app_unref(parse_from(text, APP_FROM_COMMAND)); /* which reports nothing */
    assert_int_equal(warnings, 0);
    app_unref(parse(text));
    assert_int_equal(warnings, 1);
    assert_string_equal(last_warning, "app \"a\": policy.presence_history is kept, and not used by this server");
    app_unref(parse(text));
    app_unref(parse("{\"id\":\"b\",\"key\":\"kb\",\"secret\":\"s\",\"policy\":{\"presence_history\":{}}}"));
    assert_int_equal(warnings, 1);
}

static void a_misspelt_member_is_told_with_the_one_that_was_probably_meant(void **state) {
    static const struct {
        const char *policy, *warning;
    } rows[] = {
        {"{\"limits\":{\"max_conections\":1}}",
         "policy.limits.max_conections is kept, and not used by this server; did you mean "
         "policy.limits.max_connections?"},
        {"{\"limits\":{\"decay_second\":1}}",
         "policy.limits.decay_second is kept, and not used by this server; did you mean policy.limits.decay_seconds?"},
        {"{\"fetures\":{\"enable_client_messages\":true}}",
         "policy.fetures is kept, and not used by this server; did you mean policy.features?"},
        {"{\"allowed_origins\":[]}",
         "policy.allowed_origins is kept, and not used by this server; did you mean policy.channels.allowed_origins?"},
        {"{\"features\":{\"webhook\":[]}}",
         "policy.features.webhook is kept, and not used by this server; did you mean policy.webhooks?"},
        {"{\"limits\":{\"message_rate_limit\":{\"max_atempts\":1,\"enabled\":true}}}",
         "policy.limits.message_rate_limit.max_atempts is kept, and not used by this server; did you mean "
         "max_attempts?"},
        {"{\"limits\":{\"message_rate_limit\":{\"window\":1}}}",
         "policy.limits.message_rate_limit.window is kept, and not used by this server"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[300], warning[300];

        snprintf(text, sizeof text, "{" NAMES ",\"policy\":%s}", rows[i].policy);
        snprintf(warning, sizeof warning, "app \"a\": %s", rows[i].warning);
        app_unref(parse(text));
        assert_string_equal(last_warning, warning);
        assert_int_equal(warnings, i + 1);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_policy_wins_over_the_flat_fields_beside_it),
        TEST(what_a_policy_leaves_out_is_what_its_servers_take_then),
        TEST(null_is_no_policy),
        TEST(a_policy_in_the_text_of_a_column_is_read_alike),
        TEST(a_policy_is_written_as_it_was_read_with_its_values_beside_it),
        TEST(a_change_is_made_in_both_places_and_the_rest_is_kept),
        TEST(a_number_that_is_unset_takes_the_flat_default_in_a_policy_too),
        TEST(without_its_policy_an_app_stays_as_it_is),
        TEST(a_policy_made_of_flat_fields_means_the_same),
        TEST(a_policy_of_the_wrong_shape_is_refused_by_the_member),
        TEST(a_window_of_no_time_is_one_second),
        TEST(members_without_a_meaning_here_are_named_once_for_all_apps),
        TEST(a_misspelt_member_is_told_with_the_one_that_was_probably_meant),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
