#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/app.h"
#include "base/thread.h"
#include "harness.h"

/* Parses an app with these webhooks, a list in JSON. */
static struct app *app_with(const char *webhooks) {
    const struct app_defaults defaults = {0};
    struct buffer text = {0};
    struct error error;
    struct app *app;
    json_t *json;

    buffer_appendf(&text, "{\"id\":\"1\",\"key\":\"k\",\"secret\":\"s\",\"webhooks\":%s}", webhooks);
    json = json_loads(buffer_string(&text), 0, NULL);
    assert_non_null(json);
    app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    if (app == NULL)
        fail_msg("%s: %s", webhooks, error.text);
    json_decref(json);
    buffer_dispose(&text);
    return app;
}

static struct app *app_with_filter(const char *filter) {
    char webhooks[2048];

    snprintf(webhooks, sizeof webhooks, "[{\"url\":\"http://h\",\"event_types\":[\"channel_occupied\"],\"filter\":%s}]",
             filter);
    return app_with(webhooks);
}

static bool filter_takes(const char *filter, const char *channel) {
    struct app *app = app_with_filter(filter);
    bool takes = app_wants_webhook(app, WEBHOOK_CHANNEL_OCCUPIED, slice_of(channel));

    app_unref(app);
    return takes;
}

static void each_filter_takes_the_channels_that_it_names(void **state) {
    static const struct {
        const char *filter, *taken, *refused;
    } cases[] = {
        {"{}", "anything", NULL},
        {"null", "anything", NULL},
        {"{\"channel_prefix\":\"private-\"}", "private-x", "presence-private-x"},
        {"{\"channel_prefix\":\"private-x\"}", "private-x", "private-"},
        {"{\"channel_prefix\":\"\"}", "x", NULL},
        {"{\"channel_suffix\":\"-eu\"}", "orders-eu", "orders-eu-1"},
        {"{\"channel_suffix\":\"-eu\"}", "-eu", "eu"},
        {"{\"channel_suffix\":\"\"}", "x", NULL},
        {"{\"channel_pattern\":\"^orders-[0-9]+$\"}", "orders-17", "orders-17a"},
        {"{\"channel_pattern\":\"ers\"}", "orders-17", "order-17"}, /* anywhere, as in other regular expressions */
        {"{\"channel_pattern\":\"(?i)^ORDERS\"}", "orders-17", "border"},
        {"{\"channel_pattern\":\"\"}", "x", NULL},
        {"{\"channel_pattern\":\"^(?!private-)\"}", "public", "private-x"},
        {"{\"channel_pattern\":\"^(a)(b)(c)(d)\\\\4$\"}", "abcdd", "abcde"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!filter_takes(cases[i].filter, cases[i].taken))
            fail_msg("%s does not take %s", cases[i].filter, cases[i].taken);
        if (cases[i].refused != NULL && filter_takes(cases[i].filter, cases[i].refused))
            fail_msg("%s takes %s", cases[i].filter, cases[i].refused);
    }
}

static void all_filters_must_match(void **state) {
    const char *filter = "{\"channel_prefix\":\"private-\",\"channel_suffix\":\"-eu\",\"channel_pattern\":\"[0-9]\"}";

    (void)state;
    assert_true(filter_takes(filter, "private-1-eu"));
    assert_false(filter_takes(filter, "presence-1-eu"));
    assert_false(filter_takes(filter, "private-1-us"));
    assert_false(filter_takes(filter, "private-one-eu"));
}

static void only_the_wanted_events_are_taken(void **state) {
    struct app *app = app_with(
        "[{\"url\":\"http://a\",\"event_types\":[\"member_added\",\"cache_miss\"],"
        "\"filter\":{\"channel_prefix\":\"presence-\"}},"
        "{\"url\":\"http://b\",\"event_types\":[\"channel_vacated\"]}]");

    (void)state;
    assert_int_equal(app->webhook_kinds, WEBHOOK_MEMBER_ADDED | WEBHOOK_CACHE_MISS | WEBHOOK_CHANNEL_VACATED);
    assert_true(app_wants_webhook(app, WEBHOOK_MEMBER_ADDED, SLICE("presence-x")));
    assert_int_equal(app_webhook_kinds_of(app, ~0u, SLICE("presence-x")), app->webhook_kinds);
    assert_int_equal(app_webhook_kinds_of(app, ~0u, SLICE("x")), WEBHOOK_CHANNEL_VACATED);
    assert_int_equal(app_webhook_kinds_of(app, WEBHOOK_CACHE_MISS | WEBHOOK_CLIENT_EVENT, SLICE("presence-x")),
                     WEBHOOK_CACHE_MISS);
    assert_false(app_wants_webhook(app, WEBHOOK_MEMBER_ADDED, SLICE("x")));
    assert_false(app_wants_webhook(app, WEBHOOK_MEMBER_REMOVED, SLICE("presence-x")));
    assert_true(app_wants_webhook(app, WEBHOOK_CHANNEL_VACATED, SLICE("x")));
    assert_true(app_webhook_takes(app, 1, WEBHOOK_CHANNEL_VACATED, SLICE("presence-x")));
    assert_false(app_webhook_takes(app, 0, WEBHOOK_CHANNEL_VACATED, SLICE("presence-x")));
    app_unref(app);
    app = app_with("[]");
    assert_int_equal(app->webhook_kinds, 0);
    app_unref(app);
}

static void matching_allocates_nothing(void **state) {
    struct app *app = app_with_filter("{\"channel_prefix\":\"a\",\"channel_pattern\":\"b+$\"}");
    uint64_t before = harness_allocations();

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        assert_true(app_wants_webhook(app, WEBHOOK_CHANNEL_OCCUPIED, SLICE("abbb")));
    assert_int_equal(harness_allocations(), before);
    app_unref(app);
}

/* Patterns that backtrack without end, or recurse deeply, give up. */
static void a_pattern_that_runs_away_does_not_match(void **state) {
    static const char *const patterns[] = {
        "^(a+)+$",
        "^(a|aa)+$",
        "^(a|a?)+$",
        "(.*)*(.*)*(.*)*x",
        "^(([a-z])+.)+[A-Z]$",
        "^(a*)*(a*)*b",
        "(a?){100}a{100}b",
        "^(?:(a+)(?:a+))*b$",
        "^((a)(?1)?)*b$",
        "(?=(a+)+$)a+b",
        "^(.+)+\\\\1+\\\\1+b$",
        "^(?R)?a*(?R)?b$",
    };
    char channel[200], filter[256];

    (void)state;
    memset(channel, 'a', sizeof channel);
    channel[sizeof channel - 2] = '!';
    channel[sizeof channel - 1] = '\0';
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        snprintf(filter, sizeof filter, "{\"channel_pattern\":\"%s\"}", patterns[i]);
        if (filter_takes(filter, channel))
            fail_msg("%s matches", patterns[i]);
    }
}

static void giving_up_is_reported_once(void **state) {
    struct webhook_filter filter = {.pattern_text = SLICE("^(a+)+$")};
    /* Some 2^18 steps: more than the filter allows, and less than PCRE2 does by itself. */
    struct slice channel = SLICE("aaaaaaaaaaaaaaaaaa!");
    bool gave_up = false;
    struct error error;

    (void)state;
    assert_true(webhook_filter_compile(&filter, "channel_pattern", &error));
    assert_false(webhook_filter_takes(&filter, SLICE("b"), &gave_up));
    assert_false(gave_up);
    assert_false(webhook_filter_takes(&filter, channel, &gave_up));
    assert_true(gave_up);
    gave_up = false;
    assert_false(webhook_filter_takes(&filter, channel, &gave_up));
    assert_false(gave_up);
    assert_true(webhook_filter_takes(&filter, SLICE("aaaa"), &gave_up)); /* it is still used */
    webhook_filter_dispose(&filter);
}

/* A name of the longest length that the protocol family uses, with a pattern that people write. */
static void sensible_patterns_stay_within_the_bound(void **state) {
    static const char *const patterns[] = {
        "^(?:private|presence)-.*-(?:eu|us)-.*-[0-9]+$",
        "^[a-z]+(?:-[a-z0-9]+)*$",
        ".*a.*a.*1$",
    };
    char channel[201] = "private-";

    (void)state;
    while (strlen(channel) < 190)
        strcat(channel, "aa-eu-");
    strcat(channel, "z-1");
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        char filter[256];

        snprintf(filter, sizeof filter, "{\"channel_pattern\":\"%s\"}", patterns[i]);
        if (!filter_takes(filter, channel))
            fail_msg("%s does not match %s", patterns[i], channel);
    }
}

static struct app *shared;

static void *match_often(void *context) {
    (void)context;
    for (unsigned i = 0; i < 10000; i++)
        if (!app_wants_webhook(shared, WEBHOOK_CHANNEL_OCCUPIED, SLICE("orders-17")) ||
            app_wants_webhook(shared, WEBHOOK_CHANNEL_OCCUPIED, SLICE("orders-x")))
            return NULL;
    return shared;
}

static void threads_match_one_pattern_at_the_same_time(void **state) {
    pthread_t threads[4];
    struct error error;
    void *result;

    (void)state;
    shared = app_with_filter("{\"channel_pattern\":\"^orders-([0-9]+)$\"}");
    for (size_t i = 0; i < 4; i++)
        assert_true(thread_start(&threads[i], "match", match_often, NULL, &error));
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], &result);
        assert_ptr_equal(result, shared);
    }
    app_unref(shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_filter_takes_the_channels_that_it_names),
        cmocka_unit_test(all_filters_must_match),
        cmocka_unit_test(only_the_wanted_events_are_taken),
        cmocka_unit_test(matching_allocates_nothing),
        cmocka_unit_test(a_pattern_that_runs_away_does_not_match),
        cmocka_unit_test(giving_up_is_reported_once),
        cmocka_unit_test(sensible_patterns_stay_within_the_bound),
        cmocka_unit_test(threads_match_one_pattern_at_the_same_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
