/* The grace of webhooks, with a clock that the test drives, and the JSON of events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "harness.h"
#include "webhook/event_json.h"
#include "webhook/grace.h"

#define OCCUPIED WEBHOOK_CHANNEL_OCCUPIED
#define VACATED WEBHOOK_CHANNEL_VACATED
#define ADDED WEBHOOK_MEMBER_ADDED
#define REMOVED WEBHOOK_MEMBER_REMOVED

static struct webhook_grace *grace;
static struct webhook_outlet outlet = {.max_events = SIZE_MAX, .max_bytes = SIZE_MAX};
static struct app apps[2];
static struct buffer sent; /* what was sent and not yet checked, a line each */
static uint64_t now_ms;

static void note_sent(void *context, struct webhook_event *event) {
    assert_ptr_equal(context, &sent);
    buffer_appendf(&sent, "%.*s %s %.*s%s%.*s\n", SLICE_ARGS(event->app->id), app_webhook_event_name(event->kind),
                   SLICE_ARGS(event->details.channel), event->details.user_id.data != NULL ? " " : "",
                   SLICE_ARGS(event->details.user_id));
    webhook_event_free(event);
}

static void assert_sent(const char *expected) {
    assert_string_equal(buffer_string(&sent), expected);
    sent.length = 0;
}

static struct webhook_event *make_event(struct app *app, enum app_webhook_event kind,
                                        const struct webhook_details *details) {
    struct webhook_draft draft = {0};

    webhook_draft_make(&draft, &outlet, app, kind, details);
    return draft.event;
}

static void happens(unsigned app, enum app_webhook_event kind, const char *channel, const char *user) {
    const struct webhook_details details = {.channel = slice_of(channel), .user_id = slice_of(user)};

    webhook_grace_add(grace, make_event(&apps[app], kind, &details), now_ms);
}

static uint64_t pass(uint64_t ms) {
    now_ms += ms;
    return webhook_grace_run(grace, now_ms);
}

static void create_grace(size_t max_events, size_t max_bytes) {
    grace = webhook_grace_create(&(struct webhook_grace_settings){max_events, max_bytes, note_sent, &sent});
}

static int set_up(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2; i++)
        apps[i] = (struct app){.references = 1, .id = i == 0 ? SLICE("a") : SLICE("b")};
    now_ms = 5000;
    create_grace(1000, 1000000);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    webhook_grace_destroy(grace);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(atomic_load(&apps[i].references), 1);
    buffer_dispose(&sent);
    return 0;
}

static void whoever_stays_away_for_3_s_is_told(void **state) {
    (void)state;
    happens(0, REMOVED, "presence-x", "\"1\"");
    happens(0, VACATED, "presence-x", NULL);
    assert_sent("");
    assert_int_equal(pass(2999), 8000);
    assert_sent("");
    assert_int_equal(pass(1), UINT64_MAX);
    assert_sent("a member_removed presence-x \"1\"\na channel_vacated presence-x\n");
    happens(0, OCCUPIED, "presence-x", NULL);
    happens(0, ADDED, "presence-x", "\"1\"");
    assert_sent("a channel_occupied presence-x\na member_added presence-x \"1\"\n");
}

static void whoever_is_back_in_time_causes_neither_event(void **state) {
    (void)state;
    happens(0, VACATED, "x", NULL);
    pass(2999);
    happens(0, OCCUPIED, "x", NULL);
    happens(0, REMOVED, "presence-x", "\"1\"");
    happens(0, ADDED, "presence-x", "\"1\"");
    assert_int_equal(pass(10000), UINT64_MAX);
    assert_sent("");
    happens(0, OCCUPIED, "x", NULL); /* the one before has ended the grace */
    assert_sent("a channel_occupied x\n");
}

static void each_grace_begins_anew(void **state) {
    (void)state;
    happens(0, VACATED, "x", NULL);
    pass(2000);
    happens(0, OCCUPIED, "x", NULL);
    happens(0, VACATED, "x", NULL);
    pass(2000);
    assert_sent("");
    pass(1000);
    assert_sent("a channel_vacated x\n");
}

static void a_grace_concerns_one_app_channel_and_user(void **state) {
    (void)state;
    happens(0, VACATED, "presence-x", NULL);
    happens(0, REMOVED, "presence-x", "\"1\"");
    happens(1, OCCUPIED, "presence-x", NULL);
    happens(0, OCCUPIED, "presence-y", NULL);
    happens(0, ADDED, "presence-x", "\"2\"");
    happens(0, ADDED, "presence-y", "\"1\"");
    happens(1, ADDED, "presence-x", "\"1\"");
    assert_sent(
        "b channel_occupied presence-x\na channel_occupied presence-y\na member_added presence-x \"2\"\n"
        "a member_added presence-y \"1\"\nb member_added presence-x \"1\"\n");
    happens(0, OCCUPIED, "presence-x", NULL); /* does not bring the user back */
    assert_sent("");
    pass(3000);
    assert_sent("a member_removed presence-x \"1\"\n");
}

static void other_events_are_sent_at_once(void **state) {
    (void)state;
    happens(0, VACATED, "x", NULL);
    happens(0, WEBHOOK_SUBSCRIPTION_COUNT, "x", NULL);
    happens(0, WEBHOOK_CACHE_MISS, "x", NULL);
    happens(0, WEBHOOK_CLIENT_EVENT, "x", "\"1\"");
    assert_sent("a subscription_count x\na cache_miss x\na client_event x \"1\"\n");
    pass(3000);
    assert_sent("a channel_vacated x\n");
}

static void over_a_bound_the_oldest_is_sent_at_once(void **state) {
    (void)state;
    webhook_grace_destroy(grace);
    create_grace(2, SIZE_MAX);
    happens(0, VACATED, "x", NULL);
    happens(0, VACATED, "y", NULL);
    assert_sent("");
    happens(0, VACATED, "z", NULL);
    assert_sent("a channel_vacated x\n");
    happens(0, OCCUPIED, "x", NULL);
    happens(0, OCCUPIED, "y", NULL);
    assert_sent("a channel_occupied x\n");
    webhook_grace_destroy(grace);
    create_grace(SIZE_MAX, 2 * alloc_footprint(sizeof(struct webhook_event) + 1));
    happens(0, VACATED, "x", NULL);
    happens(0, VACATED, "y", NULL);
    assert_sent("");
    happens(0, VACATED, "a-longer-name-than-those", NULL);
    assert_sent("a channel_vacated x\na channel_vacated y\n");
}

static void over_a_bound_the_app_that_holds_the_most_gives_way(void **state) {
    (void)state;
    webhook_grace_destroy(grace);
    create_grace(3, SIZE_MAX);
    happens(1, VACATED, "mine", NULL);
    happens(0, VACATED, "w", NULL);
    happens(0, VACATED, "x", NULL);
    happens(0, VACATED, "y", NULL);
    happens(0, VACATED, "z", NULL);
    assert_sent("a channel_vacated w\na channel_vacated x\n");
    happens(1, OCCUPIED, "mine", NULL);
    assert_sent("");
    webhook_grace_destroy(grace);
    create_grace(SIZE_MAX, 3 * sizeof(struct webhook_event) + 6);
    happens(1, VACATED, "mine", NULL);
    happens(0, VACATED, "xxxxx", NULL);
    happens(0, VACATED, "y", NULL);
    assert_sent("a channel_vacated xxxxx\n");
    happens(1, VACATED, "more", NULL);
    assert_sent("b channel_vacated mine\n");
    pass(3000);
    assert_sent("a channel_vacated y\nb channel_vacated more\n");
}

static void at_the_end_nothing_is_held_any_more(void **state) {
    (void)state;
    happens(0, VACATED, "x", NULL);
    happens(0, REMOVED, "presence-x", "\"1\"");
    webhook_grace_finish(grace);
    assert_sent("a channel_vacated x\na member_removed presence-x \"1\"\n");
    happens(0, VACATED, "y", NULL);
    happens(0, OCCUPIED, "y", NULL);
    assert_sent("a channel_vacated y\na channel_occupied y\n");
    assert_int_equal(pass(10000), UINT64_MAX);
}

/* The opposite event can be lost where the way to the thread is bounded. */
static void a_second_event_of_the_same_kind_replaces_the_first(void **state) {
    (void)state;
    happens(0, VACATED, "x", NULL);
    pass(1000);
    happens(0, VACATED, "x", NULL);
    pass(2000);
    assert_sent("");
    pass(1000);
    assert_sent("a channel_vacated x\n");
}

/* Any order of events against a model that has an entry for each channel. */
/* In an overlap the events of both processes come here, in any order. */
static void in_an_overlap_both_halves_of_a_change_end_each_other(void **state) {
    (void)state;
    webhook_grace_overlap(grace, true);
    happens(0, VACATED, "moved", NULL); /* the leave there, then the coming here */
    happens(0, OCCUPIED, "moved", NULL);
    happens(0, ADDED, "room", "\"1\""); /* the other way round */
    happens(0, REMOVED, "room", "\"1\"");
    happens(0, OCCUPIED, "shared", NULL); /* its first client is here, and its last one leaves there later */
    happens(0, VACATED, "gone", NULL);
    assert_int_equal(pass(2999), 8000);
    assert_sent("");
    assert_int_equal(pass(1), UINT64_MAX);
    assert_sent("a channel_vacated gone\n");
    happens(0, VACATED, "shared", NULL);
    happens(1, OCCUPIED, "new", NULL);
    happens(1, ADDED, "room", "\"1\"");
    assert_int_equal(pass(60000), UINT64_MAX);
    assert_sent("");
    webhook_grace_overlap(grace, false);
    assert_sent("b channel_occupied new\nb member_added room \"1\"\n");
    happens(1, OCCUPIED, "newer", NULL);
    assert_sent("b channel_occupied newer\n");
}

static void take_held(void *context, struct webhook_event *event) {
    note_sent(context, event);
}

static void all_that_is_held_can_be_given_away(void **state) {
    (void)state;
    happens(0, VACATED, "one", NULL);
    webhook_grace_overlap(grace, true);
    happens(0, OCCUPIED, "two", NULL);
    webhook_grace_take_all(grace, take_held, &sent);
    assert_sent("a channel_vacated one\na channel_occupied two\n");
    assert_int_equal(pass(60000), UINT64_MAX);
    webhook_grace_overlap(grace, false);
    assert_sent("");
}

static void a_random_history_follows_the_model(void **state) {
    enum { CHANNELS = 300, STEPS = 20000 };
    static uint64_t gone_ms[CHANNELS]; /* 0: not held */
    static bool occupied[CHANNELS];
    uint64_t seed = 1, expected = 0, lines = 0;

    (void)state;
    memset(gone_ms, 0, sizeof gone_ms);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = harness_random(&seed, CHANNELS);
        char channel[16];

        snprintf(channel, sizeof channel, "c%u", i);
        pass(harness_random(&seed, 20));
        for (unsigned each = 0; each < CHANNELS; each++) {
            if (gone_ms[each] != 0 && gone_ms[each] + 3000 <= now_ms) {
                gone_ms[each] = 0;
                expected++;
            }
        }
        happens(0, occupied[i] ? VACATED : OCCUPIED, channel, NULL);
        if (occupied[i])
            gone_ms[i] = now_ms;
        else
            expected += gone_ms[i] == 0;
        if (!occupied[i])
            gone_ms[i] = 0;
        occupied[i] = !occupied[i];
        for (size_t at = 0; at < sent.length; at++)
            lines += sent.data[at] == '\n';
        sent.length = 0;
        if (lines != expected)
            fail_msg("after %u steps: %llu events, not %llu", step, (unsigned long long)lines,
                     (unsigned long long)expected);
    }
}

/* --- JSON --- */

static void assert_json(enum app_webhook_event kind, uint32_t count, const struct webhook_details *details,
                        const char *expected) {
    struct webhook_event *event = make_event(&apps[0], kind, details);
    struct buffer text = {0};

    event->count = count;
    webhook_event_append(&text, event);
    assert_string_equal(buffer_string(&text), expected);
    buffer_dispose(&text);
    webhook_event_free(event);
}

/* The fields that Pusher documents: https://pusher.com/docs/channels/server_api/webhooks/#events */
static void each_event_has_its_fields(void **state) {
    const struct webhook_details channel = {.channel = SLICE("x")};

    (void)state;
    assert_json(OCCUPIED, 0, &channel, "{\"name\":\"channel_occupied\",\"channel\":\"x\"}");
    assert_json(VACATED, 0, &channel, "{\"name\":\"channel_vacated\",\"channel\":\"x\"}");
    assert_json(ADDED, 0, &(struct webhook_details){.channel = SLICE("x"), .user_id = SLICE("\"\\u00e9\\\"\"")},
                "{\"name\":\"member_added\",\"channel\":\"x\",\"user_id\":\"\\u00e9\\\"\"}");
    assert_json(REMOVED, 0, &(struct webhook_details){.channel = SLICE("x"), .user_id = SLICE("\"1\"")},
                "{\"name\":\"member_removed\",\"channel\":\"x\",\"user_id\":\"1\"}");
    assert_json(WEBHOOK_CACHE_MISS, 0, &channel, "{\"name\":\"cache_miss\",\"channel\":\"x\",\"data\":\"{}\"}");
    assert_json(WEBHOOK_SUBSCRIPTION_COUNT, 17, &channel,
                "{\"name\":\"subscription_count\",\"channel\":\"x\",\"subscription_count\":17}");
    assert_json(WEBHOOK_CLIENT_EVENT, 0,
                &(struct webhook_details){.channel = SLICE("presence-x"),
                                          .user_id = SLICE("\"1\""),
                                          .event = SLICE("\"client-x\""),
                                          .data = SLICE("{ \"a\": 1.50}"),
                                          .socket_id = SLICE("1.2")},
                "{\"name\":\"client_event\",\"channel\":\"presence-x\",\"event\":\"client-x\",\"data\":{ \"a\": 1.50},"
                "\"socket_id\":\"1.2\",\"user_id\":\"1\"}");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(whoever_stays_away_for_3_s_is_told),
        TEST(whoever_is_back_in_time_causes_neither_event),
        TEST(each_grace_begins_anew),
        TEST(a_grace_concerns_one_app_channel_and_user),
        TEST(other_events_are_sent_at_once),
        TEST(over_a_bound_the_oldest_is_sent_at_once),
        TEST(over_a_bound_the_app_that_holds_the_most_gives_way),
        TEST(at_the_end_nothing_is_held_any_more),
        TEST(a_second_event_of_the_same_kind_replaces_the_first),
        TEST(in_an_overlap_both_halves_of_a_change_end_each_other),
        TEST(all_that_is_held_can_be_given_away),
        TEST(a_random_history_follows_the_model),
        TEST(each_event_has_its_fields),
    };

    hash_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
