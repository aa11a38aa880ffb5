/* Sessions: the connection, the activity timeout with ping and pong, and apps that are deleted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/budget.h"
#include "channel/filter/filter_set.h"
#include "session/session_internal.h"
#include "session_fixture.h"

#define PING "{\"event\":\"pusher:ping\",\"data\":\"{}\"}"
#define PONG "{\"event\":\"pusher:pong\",\"data\":\"{}\"}"
#define SHUTTING_DOWN                                                                                                  \
    "{\"event\":\"pusher:error\",\"data\":{\"code\":4100,\"message\":\"the server is restarting, try again\"}}"
#define TOO_LATE "{\"event\":\"pusher:error\",\"data\":{\"code\":4201,\"message\":\"no pong came within 30 s\"}}"

/* What webhooks are told, a line each. */
static struct buffer told;

static void take_webhook_event(struct webhook_thread *thread, struct webhook_message *message) {
    struct webhook_event *event = container_of(message, struct webhook_event, message);

    (void)thread;
    webhook_event_taken(event);
    buffer_appendf(&told, "%s %.*s\n", app_webhook_event_name(event->kind), SLICE_ARGS(event->details.channel));
    webhook_event_free(event);
}

static void ignore_wake(struct webhook_thread *thread) {
    (void)thread;
}

static struct webhook_outlet outlet = {.post = take_webhook_event,
                                       .wake = ignore_wake,
                                       .max_events = 100,
                                       .max_bytes = 100000,
                                       .max_app_events = SIZE_MAX,
                                       .max_app_bytes = SIZE_MAX};

static void connect_client(uint32_t activity_timeout_s) {
    session_fixture.config.activity_timeout_s = activity_timeout_s;
    session_fixture_connect("");
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, "connection_established",
                           strlen("connection_established")));
    session_fixture.in.length = 0;
}

static void take_off(size_t length) {
    session_fixture.in.length -= length;
    memmove(session_fixture.in.data, session_fixture.in.data + length, session_fixture.in.length);
}

/* Checks that the next frame from the server is this text; before pusher:ping, that a WebSocket ping is. */
static void assert_told(const char *text) {
    size_t length = strlen(text);

    session_fixture_receive();
    if (strcmp(text, PING) == 0) {
        assert_true(session_fixture.in.length >= 2);
        assert_memory_equal(session_fixture.in.data, "\x89\0", 2);
        take_off(2);
    }
    if (session_fixture.in.length < length + 2)
        fail_msg("%zu bytes came in place of %s", session_fixture.in.length, text);
    assert_int_equal((uint8_t)session_fixture.in.data[0], 0x81);
    assert_int_equal((uint8_t)session_fixture.in.data[1], length);
    assert_memory_equal(session_fixture.in.data + 2, text, length);
    take_off(length + 2);
}

/* Checks that no frame arrives for `ms`, and then this text within a second: timers have a resolution of a second. */
static void assert_told_after(uint64_t ms, const char *text) {
    harness_advance(session_fixture.worker, ms - 1);
    session_fixture_receive();
    if (session_fixture.in.length != 0)
        fail_msg("%.*s came before %llu ms were over", (int)session_fixture.in.length - 2, session_fixture.in.data + 2,
                 (unsigned long long)ms);
    harness_advance(session_fixture.worker, 1001);
    assert_told(text);
}

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 1, .group_max_bytes = 1000, .webhooks = &outlet, .terminate = session_terminate};

    (void)state;
    session_fixture_create(",\"webhooks\":[{\"url\":\"http://h\",\"event_types\":[\"channel_vacated\"]}]", &settings);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    session_fixture_destroy();
    assert_int_equal(budget_used(BUDGET_CHANNELS), 0);
    close(session_fixture.client);
    buffer_dispose(&told);
    return 0;
}

/* --- connecting --- */

static void who_is_found_during_a_shutdown_is_sent_away_and_counts_nowhere(void **state) {
    (void)state;
    atomic_store(&session_fixture.server.draining, true);
    session_fixture_connect("");
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, SHUTTING_DOWN, strlen(SHUTTING_DOWN)));
    assert_int_equal(atomic_load(&session_fixture_slot()->connections), 0);
    session_fixture.in.length = 0;
    harness_advance(session_fixture.worker, 6000);
    assert_false(harness_receive(session_fixture.client, &session_fixture.in));
}

/* True if the answers to a handshake that offers compression hold this text. */
static bool is_told_at_the_handshake(const char *text) {
    bool found;

    session_fixture_connect("Sec-WebSocket-Extensions: permessage-deflate\r\n");
    found = memmem(session_fixture.in.data, session_fixture.in.length, text, strlen(text)) != NULL;
    if (!found)
        return false;
    found = memmem(session_fixture.in.data, session_fixture.in.length, "permessage-deflate",
                   strlen("permessage-deflate")) == NULL;
    session_fixture.in.length = 0;
    return found;
}

static void without_room_a_connection_is_refused_and_nothing_is_negotiated(void **state) {
    size_t share;

    (void)state;
    session_fixture.server.limits.compress = true;
    session_fixture.server.limits.window_bits = 15;
    budget_set_limit(10000000);
    share = (size_t)budget_kind_limit(BUDGET_CONNECTIONS);
    budget_add(BUDGET_CONNECTIONS, NULL, share);
    assert_true(is_told_at_the_handshake("4100"));
    assert_int_equal(budget_used(BUDGET_COMPRESSION), 0);
    harness_advance(session_fixture.worker, 2000); /* it does not answer the close frame */
    assert_false(harness_receive(session_fixture.client, &session_fixture.in));
    assert_int_equal(budget_used(BUDGET_CONNECTIONS), share);
    close(session_fixture.client);
    budget_give(BUDGET_CONNECTIONS, NULL, share);
    assert_false(is_told_at_the_handshake("4100"));
    assert_non_null(
        memmem(session_fixture.in.data, session_fixture.in.length, "permessage-deflate", strlen("permessage-deflate")));
    assert_in_range(budget_used(BUDGET_COMPRESSION), 1 << 18, 1 << 19);
    budget_set_limit(0);
    session_fixture.server.limits.compress = false;
}

/* --- activity --- */

static void a_silent_client_is_pinged_after_five_quarters_of_the_timeout_and_closed_30_s_later(void **state) {
    const struct {
        uint32_t timeout_s;
        unsigned pinged_after_s;
    } rows[] = {{120, 150}, {4, 5}, {86400, 108000}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        connect_client(rows[i].timeout_s);
        assert_told_after(rows[i].pinged_after_s * UINT64_C(1000), PING);
        assert_told_after(29900, TOO_LATE); /* the ping was sent a moment ago */
        /* The close frame has the code and the same text. */
        assert_memory_equal(session_fixture.in.data, "\x88\x1a\x10\x69no pong came within 30 s", 28);
        session_fixture.in.length = 0;
        harness_advance(session_fixture.worker, 6000);
        assert_false(harness_receive(session_fixture.client, &session_fixture.in));
        if (i + 1 < sizeof rows / sizeof rows[0])
            close(session_fixture.client);
    }
}

static void webhooks_are_told_of_a_client_that_sends_no_pong(void **state) {
    (void)state;
    connect_client(120);
    session_fixture_send_frame(1, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"chat\"}}");
    assert_string_equal(buffer_string(&told), "channel_occupied chat\n");
    session_fixture_receive();
    session_fixture.in.length = 0;
    assert_told_after(150000, PING);
    assert_string_equal(buffer_string(&told), "channel_occupied chat\n");
    assert_told_after(29900, TOO_LATE);
    assert_string_equal(buffer_string(&told), "channel_occupied chat\nchannel_vacated chat\n");
    session_fixture.in.length = 0;
    harness_advance(session_fixture.worker, 6000);
    assert_false(harness_receive(session_fixture.client, &session_fixture.in));
}

static void every_byte_from_the_client_is_a_sign_of_life(void **state) {
    const char *const halves[] = {"\x81", "\x85", "\0\0", "\0\0h"}; /* an incomplete text frame in pieces */
    const size_t lengths[] = {1, 1, 2, 3};

    (void)state;
    connect_client(120);
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        harness_advance(session_fixture.worker, 149000);
        session_fixture_send(halves[i], lengths[i]);
    }
    assert_told_after(150000, PING);
    session_fixture_send("e", 1);
    assert_told_after(150000, PING);
}

static void control_frames_count_and_answer_a_ping(void **state) {
    (void)state;
    connect_client(120);
    for (uint8_t opcode = 9; opcode <= 10; opcode++) {
        harness_advance(session_fixture.worker, 149000);
        session_fixture_send_frame(opcode, "");
        session_fixture_receive();
        session_fixture.in.length = 0; /* ignore a pong */
        assert_told_after(150000, PING);
        harness_advance(session_fixture.worker, 29000);
        session_fixture_send_frame(opcode, "");
        session_fixture_receive();
        session_fixture.in.length = 0;
        assert_told_after(150000, PING);
        session_fixture_send_frame(1, PONG);
    }
}

static void what_the_server_sends_is_no_sign_of_the_client(void **state) {
    (void)state;
    connect_client(120);
    session_fixture_send_frame(1, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"c\"}}");
    session_fixture_receive();
    session_fixture.in.length = 0;
    for (unsigned minute = 0; minute < 2; minute++) {
        harness_advance(session_fixture.worker, 60000);
        channel_publish(session_fixture.server.channels, session_fixture_slot(), session_fixture.worker, SLICE("c"),
                        &(struct channel_event){.event = SLICE("\"e\""), .data = SLICE("1")}, NULL);
        assert_told("{\"event\":\"e\",\"channel\":\"c\",\"data\":1}");
    }
    assert_told_after(30000, PING);
}

static void the_timer_moves_with_the_last_byte_and_not_with_the_ping(void **state) {
    (void)state;
    connect_client(120);
    for (unsigned i = 0; i < 5; i++) {
        assert_told_after(150000, PING);
        harness_advance(session_fixture.worker, 10000);
        session_fixture_send_frame(1, PING);
        assert_told(PONG);
    }
}

/* --- closing for the API --- */

static void an_order_that_has_waited_closes_only_connections_that_were_made_before_it(void **state) {
    uint64_t made_ms = session_fixture.worker->now_ms;
    struct stream *stream;

    (void)state;
    connect_client(120);
    stream =
        container_of(slot_part(session_fixture_slot(), session_fixture.worker)->sessions.next, struct session, link)
            ->websocket.stream;
    session_terminate(stream, false, made_ms - SESSION_TICK_MS);
    session_fixture_send_frame(1, PING);
    assert_told(PONG);
    session_terminate(stream, false, made_ms);
    session_fixture_receive();
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, "terminated by the API",
                           strlen("terminated by the API")));
    session_fixture.in.length = 0;
}

/* --- signing in --- */

#define SIGN_IN_MS 60000

/* Turns enable_user_authentication of the app on or off, as a reload does. */
static void ask_for_sign_in(bool on) {
    struct app_changes changes;
    struct error error;

    session_fixture.config.user_authentication_timeout_s = SIGN_IN_MS / 1000;
    json_decref(session_fixture.config.app_manager.array_apps);
    session_fixture.config.app_manager.array_apps =
        json_pack("[{s:s, s:s, s:s, s:b}]", "id", "id", "key", "key", "secret", "s", "enable_user_authentication", on);
    assert_true(app_manager_reload(session_fixture.apps, &session_fixture.config, &changes, &error));
    harness_settle(session_fixture.worker);
}

static void assert_silence_for(uint64_t ms) {
    harness_advance(session_fixture.worker, ms);
    session_fixture_receive();
    assert_int_equal(session_fixture.in.length, 0);
}

/* Checks that the connection stays for `ms` and is closed within a second and the second that a deadline is rounded. */
static void assert_closed_for_sign_in_after(uint64_t ms) {
    static const char why[] = "not signed in within 60 s (`user_authentication_timeout`)";

    assert_silence_for(ms - 1);
    harness_advance(session_fixture.worker, 2001);
    session_fixture_receive();
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, why, strlen(why)));
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, "\x0f\xa9not signed in",
                           15)); /* the close frame: 4009 */
    session_fixture.in.length = 0;
}

static void a_client_that_does_not_sign_in_in_time_is_closed_whatever_else_it_sends(void **state) {
    (void)state;
    ask_for_sign_in(true);
    connect_client(120);
    session_fixture_send_frame(1, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"c\"}}");
    for (unsigned i = 0; i < 5; i++) {
        harness_advance(session_fixture.worker, 10000);
        session_fixture_send_frame(1, PING);
    }
    session_fixture_receive();
    session_fixture.in.length = 0;
    assert_closed_for_sign_in_after(SIGN_IN_MS - 50000);
}

static void the_time_to_sign_in_and_the_activity_do_not_disturb_each_other(void **state) {
    (void)state;
    ask_for_sign_in(true);
    connect_client(36); /* pinged after 45 s: the time to sign in ends before that for the pong */
    assert_told_after(45000, PING);
    assert_closed_for_sign_in_after(SIGN_IN_MS - 46000);
    close(session_fixture.client);
    connect_client(16);
    for (unsigned i = 0; i < 2; i++) {
        assert_told_after(20000, PING);
        harness_advance(session_fixture.worker, 5000);
        session_fixture_send_frame(10, "");
    }
    assert_closed_for_sign_in_after(SIGN_IN_MS - 52000);
}

static void turned_on_for_a_live_app_it_gives_open_connections_the_full_time(void **state) {
    (void)state;
    connect_client(120);
    assert_silence_for(100000);
    ask_for_sign_in(true);
    session_fixture_send_frame(10, ""); /* no ping before the end of the time */
    assert_closed_for_sign_in_after(SIGN_IN_MS);
}

static void turned_off_it_ends_the_clock_and_turned_on_again_it_starts_anew(void **state) {
    (void)state;
    ask_for_sign_in(true);
    connect_client(120);
    assert_silence_for(40000);
    ask_for_sign_in(false);
    assert_silence_for(100000);
    session_fixture_send_frame(10, "");
    ask_for_sign_in(true);
    assert_closed_for_sign_in_after(SIGN_IN_MS);
}

static void a_change_of_something_else_leaves_the_clock(void **state) {
    (void)state;
    ask_for_sign_in(true);
    connect_client(120);
    assert_silence_for(40000);
    ask_for_sign_in(true);
    sessions_apply_app_changes(&session_fixture.server, session_fixture.worker);
    assert_closed_for_sign_in_after(SIGN_IN_MS - 40000);
}

/* --- without room in the account of memory --- */

static void subscribe(const char *channel) {
    char text[100];

    snprintf(text, sizeof text, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s\"}}", channel);
    session_fixture_send_frame(1, text);
}

static void assert_subscribed(const char *channel) {
    char text[100];

    subscribe(channel);
    snprintf(text, sizeof text,
             "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"%s\",\"data\":\"{}\"}", channel);
    assert_told(text);
}

static void assert_no_room(const char *channel) {
    char start[100];

    subscribe(channel);
    session_fixture_receive();
    snprintf(start, sizeof start,
             "{\"event\":\"pusher:subscription_error\",\"channel\":\"%s\",\"data\":{\"type\":\"LimitReached\"",
             channel);
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, start, strlen(start)));
    assert_non_null(
        memmem(session_fixture.in.data, session_fixture.in.length, "\"status\":4100", strlen("\"status\":4100")));
    session_fixture.in.length = 0;
}

/* The first subscriptions of a connection to channels that are there are taken in any case, also over the limit. */
static void without_room_new_channels_and_larger_sets_are_refused(void **state) {
    struct channel_event event = {.event = SLICE("\"e\""), .data = SLICE("\"d\""), .keep = true};
    static const char *const there[] = {"cache-1", "cache-2", "cache-3", "cache-4"};

    (void)state;
    connect_client(120);
    for (unsigned i = 0; i < 4; i++)
        channel_publish(session_fixture.server.channels, session_fixture_slot(), session_fixture.worker,
                        slice_of(there[i]), &event, NULL);
    budget_set_limit(1000000);
    budget_add(BUDGET_BODIES, NULL, 1000000);
    assert_no_room("new");
    for (unsigned i = 0; i < 3; i++) {
        assert_subscribed(there[i]);
        session_fixture_receive();
        session_fixture.in.length = 0; /* the event that was kept */
    }
    assert_no_room(there[3]);
    budget_give(BUDGET_BODIES, NULL, 1000000);
    assert_subscribed("new");
    close(session_fixture.client);
    harness_settle(session_fixture.worker);
    assert_null(channel_find(session_fixture_slot(), SLICE("new")));
    budget_set_limit(0);
}

static bool is_told(const char *text) {
    bool found;

    session_fixture_receive();
    found = memmem(session_fixture.in.data, session_fixture.in.length, text, strlen(text)) != NULL;
    session_fixture.in.length = 0;
    return found;
}

static void without_room_for_deltas_a_subscription_gets_whole_messages(void **state) {
    static const char subscribe_with_deltas[] =
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"cache-1\",\"delta\":true}}";
    struct channel_event event = {.event = SLICE("\"e\""), .data = SLICE("\"d\""), .keep = true};

    (void)state;
    session_fixture.config.delta_compression.enabled = true;
    connect_client(120);
    channel_publish(session_fixture.server.channels, session_fixture_slot(), session_fixture.worker, SLICE("cache-1"),
                    &event, NULL);
    budget_set_limit(1000000);
    budget_add(BUDGET_BODIES, NULL, 1000000);
    session_fixture_send_frame(1, subscribe_with_deltas);
    session_fixture_receive();
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, "subscription_succeeded",
                           strlen("subscription_succeeded")));
    assert_false(is_told("delta_compression_enabled"));
    channel_publish(session_fixture.server.channels, session_fixture_slot(), session_fixture.worker, SLICE("cache-1"),
                    &event, NULL);
    assert_told("{\"event\":\"e\",\"channel\":\"cache-1\",\"data\":\"d\"}");
    budget_give(BUDGET_BODIES, NULL, 1000000);
    session_fixture_send_frame(1, subscribe_with_deltas);
    assert_true(is_told("delta_compression_enabled"));
    channel_publish(session_fixture.server.channels, session_fixture_slot(), session_fixture.worker, SLICE("cache-1"),
                    &event, NULL);
    assert_told("{\"event\":\"e\",\"channel\":\"cache-1\",\"data\":\"d\",\"__delta_seq\":0}");
    close(session_fixture.client);
    harness_settle(session_fixture.worker);
    budget_set_limit(0);
    session_fixture.config.delta_compression.enabled = false;
}

/* One of the channel that the client has already needs no room but for the filter. */
static void without_room_for_a_filter_a_subscription_is_refused(void **state) {
    static const char subscribe[] =
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"chat\",\"filter\":{\"key\":\"a\",\"cmp\":\"ex\"}}}";
    static const char subscribe_without[] = "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"chat\"}}";
    const struct filter_set *filters = channel_hub_filters(session_fixture.server.channels, session_fixture.worker);

    (void)state;
    session_fixture.config.tag_filtering.enabled = true;
    connect_client(120);
    session_fixture_send_frame(1, subscribe_without);
    assert_true(is_told("subscription_succeeded"));
    budget_set_limit(1000000);
    budget_add(BUDGET_BODIES, NULL, 1000000);
    session_fixture_send_frame(1, subscribe);
    session_fixture_receive();
    assert_non_null(memmem(session_fixture.in.data, session_fixture.in.length, "LimitReached", strlen("LimitReached")));
    assert_true(is_told("\"status\":4100"));
    assert_int_equal(filters->count, 0);
    budget_give(BUDGET_BODIES, NULL, 1000000);
    session_fixture_send_frame(1, subscribe);
    assert_true(is_told("subscription_succeeded"));
    assert_int_equal(filters->count, 1);
    close(session_fixture.client);
    harness_settle(session_fixture.worker);
    assert_int_equal(filters->count, 0);
    budget_set_limit(0);
    session_fixture.config.tag_filtering.enabled = false;
}

/* --- an app that is deleted --- */

struct flicker {
    struct app_slot *slot;
    atomic_bool end;
};

/* Deletes and restores an app again and again, as threads of a store may do. */
static void *flicker_on(void *context) {
    struct flicker *flicker = context;

    while (!atomic_load(&flicker->end)) {
        struct app *app = atomic_exchange(&flicker->slot->current, NULL);
        atomic_store(&flicker->slot->current, app);
    }
    return NULL;
}

static void a_message_is_handled_by_one_record_though_the_app_goes_meanwhile(void **state) {
    static const char *const messages[] = {
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"c\"}}",
        "{\"event\":\"client-e\",\"channel\":\"private-c\"}",
        "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"c\"}}",
        "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"private-c\",\"auth\":\"k:1\"}}",
    };
    struct flicker flicker = {0};
    pthread_t thread;

    (void)state;
    connect_client(120);
    flicker.slot = session_fixture_slot();
    assert_int_equal(pthread_create(&thread, NULL, flicker_on, &flicker), 0);
    for (unsigned i = 0; i < 50000; i++) {
        session_fixture_send_frame(1, messages[i % 4]);
        session_fixture_receive();
        session_fixture.in.length = 0;
        if (i % 500 == 499)
            harness_advance(session_fixture.worker, 1000); /* they are refused: not too many in a second */
    }
    atomic_store(&flicker.end, true);
    pthread_join(thread, NULL);
    session_fixture_send_frame(1, PING);
    assert_told(PONG);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(who_is_found_during_a_shutdown_is_sent_away_and_counts_nowhere),
        TEST(a_silent_client_is_pinged_after_five_quarters_of_the_timeout_and_closed_30_s_later),
        TEST(webhooks_are_told_of_a_client_that_sends_no_pong),
        TEST(every_byte_from_the_client_is_a_sign_of_life),
        TEST(control_frames_count_and_answer_a_ping),
        TEST(what_the_server_sends_is_no_sign_of_the_client),
        TEST(the_timer_moves_with_the_last_byte_and_not_with_the_ping),
        TEST(an_order_that_has_waited_closes_only_connections_that_were_made_before_it),
        TEST(a_client_that_does_not_sign_in_in_time_is_closed_whatever_else_it_sends),
        TEST(the_time_to_sign_in_and_the_activity_do_not_disturb_each_other),
        TEST(turned_on_for_a_live_app_it_gives_open_connections_the_full_time),
        TEST(turned_off_it_ends_the_clock_and_turned_on_again_it_starts_anew),
        TEST(a_change_of_something_else_leaves_the_clock),
        TEST(without_room_a_connection_is_refused_and_nothing_is_negotiated),
        TEST(without_room_new_channels_and_larger_sets_are_refused),
        TEST(without_room_for_deltas_a_subscription_gets_whole_messages),
        TEST(without_room_for_a_filter_a_subscription_is_refused),
        TEST(a_message_is_handled_by_one_record_though_the_app_goes_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
