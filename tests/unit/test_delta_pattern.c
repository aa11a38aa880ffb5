/* Which entry of `channel_delta_compression` is for a channel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "app/delta_pattern.h"
#include "app_defaults.h"
#include "base/buffer.h"

/* An app with this map of patterns, which may be NULL. */
static struct app *app_with(const char *map) {
    struct app_defaults defaults;
    struct error error = {0};
    json_t *record = json_pack("{s:s,s:s,s:s}", "id", "a", "key", "k", "secret", "s");
    struct app *app;

    if (map != NULL)
        json_object_set_new(record, "channel_delta_compression", json_loads(map, 0, NULL));
    app_defaults_of_100(&defaults);
    app = app_parse(record, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    if (app == NULL)
        fail_msg("%s", error.text);
    json_decref(record);
    return app;
}

/* `wanted` NULL: there is no entry for the channel. */
static void assert_found(const struct app *app, const char *channel, const char *wanted) {
    const struct app_delta_setting *found = app_delta_find(app, slice_of(channel));

    if (found == NULL && wanted != NULL)
        fail_msg("%s: nothing found, not %s", channel, wanted);
    if (found != NULL && (wanted == NULL || !slice_equal(found->pattern, slice_of(wanted))))
        fail_msg("%s: found %.*s, not %s", channel, SLICE_ARGS(found->pattern), wanted != NULL ? wanted : "nothing");
}

static void an_app_without_entries_has_none_for_a_channel(void **state) {
    struct app *without = app_with(NULL), *empty = app_with("{}");

    (void)state;
    assert_found(without, "a", NULL);
    assert_found(empty, "a", NULL);
    app_unref(without);
    app_unref(empty);
}

static void a_star_is_any_text_and_also_none(void **state) {
    struct app *app = app_with("{\"head*\":\"fossil\",\"*tail\":\"fossil\",\"ab*ba\":\"fossil\"}");

    (void)state;
    assert_found(app, "head", "head*");
    assert_found(app, "head-1", "head*");
    assert_found(app, "hea", NULL);
    assert_found(app, "Head-1", NULL);
    assert_found(app, "x-head", NULL);
    assert_found(app, "tail", "*tail");
    assert_found(app, "1-tail", "*tail");
    assert_found(app, "tail-1", NULL);
    assert_found(app, "abba", "ab*ba");
    assert_found(app, "ab-ba", "ab*ba");
    assert_found(app, "aba", NULL); /* the two parts may not overlap */
    assert_found(app, "ab", NULL);
    assert_found(app, "ab-ba-", NULL);
    app_unref(app);
}

static void an_exact_name_wins_then_the_most_characters(void **state) {
    struct app *app = app_with(
        "{\"*\":\"inherit\",\"prices*\":\"fossil\",\"prices-eu-*\":\"disabled\","
        "\"*-ticks\":\"fossil\",\"prices*-ticks\":\"fossil\",\"prices-eu-1\":\"xdelta3\","
        "\"p*\":\"fossil\",\"a\":\"fossil\",\"z\":\"fossil\",\"ab*\":\"fossil\",\"a*b\":\"fossil\","
        "\"*ab\":\"fossil\",\"prices-eu-\":\"fossil\"}");

    (void)state;
    assert_found(app, "prices-eu-1", "prices-eu-1");
    assert_found(app, "prices-eu-", "prices-eu-");
    assert_found(app, "prices-eu-12", "prices-eu-*");
    assert_found(app, "prices-eu", "prices*");
    assert_found(app, "prices-eu-x-ticks", "prices*-ticks"); /* 12 characters, not 10 */
    assert_found(app, "prices", "prices*");
    assert_found(app, "price", "p*");
    assert_found(app, "my-ticks", "*-ticks");
    assert_found(app, "other", "*");
    assert_found(app, "a", "a");
    assert_found(app, "z", "z");
    assert_found(app, "ab", "ab*"); /* as many characters as a*b and *ab, and the longest beginning */
    assert_found(app, "acb", "a*b");
    assert_found(app, "cab", "*ab");
    assert_found(app, "", "*");
    app_unref(app);
}

static void a_thousand_patterns_and_names(void **state) {
    struct buffer map = {0};
    struct app *app;

    (void)state;
    buffer_append(&map, SLICE("{\"p*\":\"fossil\""));
    for (int i = 0; i < 1000; i++)
        buffer_appendf(&map, ",\"p%d-*\":\"fossil\",\"n%d\":\"fossil\"", (i * 617) % 1000, (i * 617) % 1000);
    buffer_append_byte(&map, '}');
    app = app_with(buffer_string(&map));
    for (int i = 0; i < 1000; i++) {
        char channel[20], wanted[20];

        snprintf(channel, sizeof channel, "p%d-7", i);
        snprintf(wanted, sizeof wanted, "p%d-*", i);
        assert_found(app, channel, wanted);
        snprintf(channel, sizeof channel, "n%d", i);
        assert_found(app, channel, channel);
    }
    assert_found(app, "p1000-1", "p*");
    assert_found(app, "n1000", NULL);
    app_unref(app);
    buffer_dispose(&map);
}

static const struct app_delta_setting *must_find(const struct app *app, const char *channel) {
    const struct app_delta_setting *found = app_delta_find(app, slice_of(channel));

    assert_non_null(found);
    return found;
}

static void inherit_and_disabled_leave_the_settings_to_the_server(void **state) {
    struct app *app = app_with(
        "{\"i\":\"inherit\",\"d\":\"disabled\",\"w\":\"xdelta3\",\"o\":{\"enable_tags\":false},"
        "\"off\":{\"enabled\":false}}");

    (void)state;
    assert_false(app_delta_has_settings(NULL));
    assert_false(app_delta_has_settings(must_find(app, "i")));
    assert_false(app_delta_has_settings(must_find(app, "d")));
    assert_true(app_delta_has_settings(must_find(app, "w")));
    assert_true(app_delta_has_settings(must_find(app, "off")));
    assert_false(app_delta_is_off(NULL));
    assert_false(app_delta_is_off(must_find(app, "i")));
    assert_true(app_delta_is_off(must_find(app, "d")));
    assert_false(app_delta_is_off(must_find(app, "w")));
    assert_true(app_delta_is_off(must_find(app, "off")));
    assert_true(app_delta_shows_tags(NULL, true));
    assert_false(app_delta_shows_tags(NULL, false));
    assert_false(app_delta_shows_tags(must_find(app, "i"), false));
    assert_false(app_delta_shows_tags(must_find(app, "d"), false));
    assert_true(app_delta_shows_tags(must_find(app, "w"), false));
    assert_false(app_delta_shows_tags(must_find(app, "o"), true));
    assert_true(app_delta_shows_tags(must_find(app, "off"), false));
    app_unref(app);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_app_without_entries_has_none_for_a_channel),
        cmocka_unit_test(a_star_is_any_text_and_also_none),
        cmocka_unit_test(an_exact_name_wins_then_the_most_characters),
        cmocka_unit_test(a_thousand_patterns_and_names),
        cmocka_unit_test(inherit_and_disabled_leave_the_settings_to_the_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
