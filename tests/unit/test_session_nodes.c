/* Sessions with other nodes: subscriptions and sign-ins wait until these were heard. The test is the cluster. */
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
#include "base/crypto.h"
#include "channel/remote.h"
#include "session_fixture.h"
#include "text_frames.h"

static char socket_id[64];
static struct buffer received; /* the last message that was read */

/* --- the cluster --- */

#define NOTICED_MAX 16

static struct channel *noticed[NOTICED_MAX]; /* with a reference each */
static unsigned noticed_count;

static void on_interest(void *context, struct channel *channel) {
    (void)context;
    assert_true(noticed_count < NOTICED_MAX);
    noticed[noticed_count++] = channel;
}

static struct channel_own_change *create_no_change(void *context, bool webhooks) {
    (void)webhooks;
    (void)context;
    return NULL;
}

static void ignore_count(void *context, struct channel *channel, uint64_t version, uint32_t count) {
    (void)context;
    (void)channel;
    (void)version;
    (void)count;
}

static void ignore_wake(void *context) {
    (void)context;
}

static const struct channel_hooks hooks = {
    .interest = on_interest, .change_create = create_no_change, .own_count = ignore_count, .wake = ignore_wake};

/* Answers all notices: what waits is ready, and afterwards what nobody wants is let go. */
static void settle_notices(void) {
    struct channel *unwanted[NOTICED_MAX];
    uint32_t generations[NOTICED_MAX];
    unsigned count = 0;

    harness_settle(session_fixture.worker);
    while (noticed_count != 0) {
        struct channel *channel = noticed[--noticed_count];
        struct channel_interest interest = channel_take_interest(channel);

        if (interest.waits)
            channel_ready(session_fixture.server.channels, channel, interest.generation);
        if (interest.held && !interest.wanted && count < NOTICED_MAX) {
            generations[count] = interest.generation;
            unwanted[count++] = channel;
        } else {
            channel_unref(channel);
        }
        harness_settle(session_fixture.worker);
    }
    for (unsigned i = 0; i < count; i++) {
        channel_let_go(session_fixture.worker, unwanted[i], generations[i]);
        channel_unref(unwanted[i]);
    }
    while (noticed_count != 0) {
        channel_take_interest(noticed[--noticed_count]);
        channel_unref(noticed[noticed_count]);
    }
}

/* --- the client --- */

static void send_text(const char *text) {
    session_fixture_send_frame(1, text);
}

/* Takes the next text from the server; an empty one if there is none. */
static const char *next_text(void) {
    harness_settle(session_fixture.worker);
    return text_frame_receive(session_fixture.client, &session_fixture.in, &received) ? buffer_string(&received) : "";
}

static void assert_told(const char *expected) {
    assert_string_equal(next_text(), expected);
}

static void assert_told_part(const char *expected) {
    const char *text = next_text();

    if (strstr(text, expected) == NULL)
        fail_msg("%s came in place of %s", text, expected);
}

static void assert_succeeded(const char *channel) {
    char text[200];

    snprintf(text, sizeof text,
             "{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":\"%s\",\"data\":\"{}\"}", channel);
    assert_told(text);
}

static void connect_client(void) {
    char *id, *end;

    session_fixture_connect("");
    id = memmem(session_fixture.in.data, session_fixture.in.length, "socket_id\\\":\\\"", 14);
    assert_non_null(id);
    id += 14;
    end = memchr(id, '\\', 40);
    snprintf(socket_id, sizeof socket_id, "%.*s", (int)(end - id), id);
    session_fixture.in.length = 0;
}

static void close_client(void) {
    close(session_fixture.client);
    session_fixture.client = -1;
    harness_settle(session_fixture.worker);
    settle_notices();
}

/* The signature of the texts, joined with colons. */
static const char *sign(const char *what, const char *data) {
    static char auth[4 + HMAC_SHA256_HEX + 1];
    struct slice parts[] = {slice_of(socket_id), SLICE(":"), slice_of(what), SLICE(":"), slice_of(data)};
    struct hmac_key key;
    char hex[HMAC_SHA256_HEX];

    hmac_key_init(&key, SLICE("s"));
    hmac_sha256_hex(&key, parts, data != NULL ? 5 : 3, hex);
    snprintf(auth, sizeof auth, "key:%.*s", HMAC_SHA256_HEX, hex);
    return auth;
}

static void subscribe(const char *channel) {
    char text[400];

    snprintf(text, sizeof text, "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"%s\",\"auth\":\"%s\"}}",
             channel, sign(channel, NULL));
    send_text(text);
}

static void unsubscribe(const char *channel) {
    char text[200];

    snprintf(text, sizeof text, "{\"event\":\"pusher:unsubscribe\",\"data\":{\"channel\":\"%s\"}}", channel);
    send_text(text);
}

static void sign_in(const char *user_data, const char *escaped) {
    char text[600];

    snprintf(text, sizeof text, "{\"event\":\"pusher:signin\",\"data\":{\"auth\":\"%s\",\"user_data\":\"%s\"}}",
             sign(":user:", user_data) /* socket_id::user::data */, escaped);
    send_text(text);
}

static void publish(const char *channel, const char *data) {
    channel_publish(session_fixture.server.channels, session_fixture_slot(), session_fixture.worker, slice_of(channel),
                    &(struct channel_event){.event = SLICE("\"e\""), .data = slice_of(data)}, NULL);
}

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 1, .group_max_bytes = 1000, .terminate = session_terminate};

    (void)state;
    session_fixture_create(
        ",\"enable_client_messages\":true,\"max_presence_members_per_channel\":1,"
        "\"enable_watchlist_events\":true",
        &settings);
    session_fixture.config.activity_timeout_s = 120;
    session_fixture.config.websocket.max_subscriptions_per_connection = 3;
    channel_hub_set_hooks(session_fixture.server.channels, &hooks);
    noticed_count = 0;
    connect_client();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (session_fixture.client >= 0)
        close_client();
    settle_notices();
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 0);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_CHANNELS), 0);
    assert_int_equal(budget_used(BUDGET_PRESENCE), 0);
    session_fixture_destroy();
    buffer_dispose(&received);
    return 0;
}

#define PONG "{\"event\":\"pusher:pong\",\"data\":\"{}\"}"

static void a_subscription_is_answered_when_other_nodes_were_heard(void **state) {
    struct channel_info info;

    (void)state;
    subscribe("chat");
    send_text("{\"event\":\"pusher:ping\",\"data\":{}}");
    assert_told(PONG); /* other messages are handled meanwhile */
    publish("chat", "1");
    channel_inspect(session_fixture_slot(), SLICE("chat"), false, &info);
    assert_false(info.occupied);
    settle_notices();
    assert_succeeded("chat");
    publish("chat", "2");
    assert_told("{\"event\":\"e\",\"channel\":\"chat\",\"data\":2}");
    subscribe("chat"); /* at once */
    assert_succeeded("chat");
    assert_told("");
}

static void unsubscribing_ends_the_wait(void **state) {
    (void)state;
    subscribe("chat");
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 1);
    unsubscribe("chat");
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 0);
    settle_notices();
    assert_told("");
    subscribe("chat");
    settle_notices();
    assert_succeeded("chat");
}

static void each_request_for_the_same_channel_is_answered(void **state) {
    (void)state;
    subscribe("chat");
    subscribe("chat");
    send_text("{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"chat\",\"delta\":\"fossil\"}}");
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 1);
    settle_notices();
    for (unsigned i = 0; i < 3; i++)
        assert_succeeded("chat");
    assert_told("");
    subscribe("other");
    for (unsigned i = 0; i < 50; i++) /* but not for ever */
        subscribe("other");
    settle_notices();
    for (unsigned i = 0; i < 8; i++)
        assert_succeeded("other");
    assert_told("");
}

static void a_client_event_to_a_channel_that_waits_is_refused(void **state) {
    static const char event[] = "{\"event\":\"client-e\",\"channel\":\"private-x\",\"data\":1}";

    (void)state;
    subscribe("private-x");
    send_text(event);
    assert_told_part("client event refused: this connection is not subscribed to the channel");
    settle_notices();
    assert_succeeded("private-x");
    send_text(event);
    assert_told("");
}

static void what_waits_counts_towards_the_limit_of_subscriptions(void **state) {
    (void)state;
    subscribe("a");
    subscribe("b");
    subscribe("c");
    subscribe("d");
    assert_told_part("a connection holds at most 3 subscriptions");
    unsubscribe("b");
    subscribe("d");
    assert_told("");
    settle_notices();
    assert_told_part("subscription_succeeded");
    assert_told_part("subscription_succeeded");
    assert_told_part("subscription_succeeded");
    subscribe("b");
    assert_told_part("a connection holds at most 3 subscriptions");
}

/* The limit of members is checked with those that other nodes have told meanwhile. */
static void a_channel_may_be_full_when_it_is_heard(void **state) {
    const struct remote_change change = {
        .node = 1, .version = 1, .added = true, .member = {SLICE("remote"), SLICE("{}"), 1}};
    char text[500];

    (void)state;
    snprintf(text, sizeof text,
             "{\"event\":\"pusher:subscribe\",\"data\":{\"channel\":\"presence-x\",\"auth\":\"%s\",\"channel_data\":"
             "\"{\\\"user_id\\\":\\\"me\\\"}\"}}",
             sign("presence-x", "{\"user_id\":\"me\"}"));
    send_text(text);
    assert_int_equal(channel_remote_change(session_fixture.server.channels, session_fixture_slot(),
                                           session_fixture.worker, SLICE("presence-x"), &change),
                     REMOTE_DONE);
    settle_notices();
    assert_told_part("the channel is full");
    assert_told("");
}

#define USER "{\"id\":\"u\",\"watchlist\":[\"v\",\"w\"]}"
#define USER_ESCAPED "{\\\"id\\\":\\\"u\\\",\\\"watchlist\\\":[\\\"v\\\",\\\"w\\\"]}"

static void a_sign_in_waits_for_all_users_of_the_watchlist(void **state) {
    (void)state;
    sign_in(USER, USER_ESCAPED);
    sign_in(USER, USER_ESCAPED);
    assert_told("");
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 3);
    assert_int_equal(channel_remote_change(session_fixture.server.channels, session_fixture_slot(),
                                           session_fixture.worker, SLICE("#server-to-user-w"),
                                           &(struct remote_change){.node = 1, .version = 1, .added = true}),
                     REMOTE_DONE);
    settle_notices();
    assert_told("{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":\"" USER_ESCAPED "\"}}");
    assert_told("{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":\"" USER_ESCAPED "\"}}");
    assert_told(
        "{\"event\":\"pusher_internal:watchlist_events\",\"data\":\"{\\\"events\\\":["
        "{\\\"name\\\":\\\"online\\\",\\\"user_ids\\\":[\\\"w\\\"]},"
        "{\\\"name\\\":\\\"offline\\\",\\\"user_ids\\\":[\\\"v\\\"]}]}\"}");
    assert_told("");
    publish("#server-to-user-u", "1");
    assert_told("{\"event\":\"e\",\"channel\":\"#server-to-user-u\",\"data\":1}");
    sign_in(USER, USER_ESCAPED);
    assert_told_part("signin_success");
}

/* A client need not wait for the answer to its sign-in before it subscribes as that user. */
static void a_user_who_is_about_to_sign_in_may_subscribe(void **state) {
    (void)state;
    sign_in("{\"id\":\"u\"}", "{\\\"id\\\":\\\"u\\\"}");
    subscribe("presence-x");
    settle_notices();
    for (unsigned i = 0; i < 2; i++) {
        const char *text = next_text();
        assert_true(strstr(text, "signin_success") != NULL || strstr(text, "\\\"ids\\\":[\\\"u\\\"]") != NULL);
    }
    assert_told("");
}

static void another_user_cannot_sign_in_meanwhile(void **state) {
    (void)state;
    sign_in("{\"id\":\"u\"}", "{\\\"id\\\":\\\"u\\\"}");
    sign_in("{\"id\":\"v\"}", "{\\\"id\\\":\\\"v\\\"}");
    assert_told_part("this connection is signed in as another user");
    session_fixture.in.length = 0;
}

static void what_waits_ends_with_the_connection(void **state) {
    (void)state;
    subscribe("a");
    subscribe("private-b");
    sign_in(USER, USER_ESCAPED);
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 5);
    close(session_fixture.client);
    harness_settle(session_fixture.worker);
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 0);
    session_fixture.client = -1;
}

static void a_shutdown_closes_who_waits(void **state) {
    (void)state;
    subscribe("a");
    sign_in(USER, USER_ESCAPED);
    atomic_store(&session_fixture.server.draining, true);
    sessions_drain(&session_fixture.server, session_fixture.worker, 0, NULL, NULL);
    assert_told_part("\"code\":4100");
    assert_int_equal(channel_hub_waiting(session_fixture.server.channels), 0);
    settle_notices();
    session_fixture.in.length = 0;
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_subscription_is_answered_when_other_nodes_were_heard),
        TEST(unsubscribing_ends_the_wait),
        TEST(each_request_for_the_same_channel_is_answered),
        TEST(a_client_event_to_a_channel_that_waits_is_refused),
        TEST(what_waits_counts_towards_the_limit_of_subscriptions),
        TEST(a_channel_may_be_full_when_it_is_heard),
        TEST(a_sign_in_waits_for_all_users_of_the_watchlist),
        TEST(a_user_who_is_about_to_sign_in_may_subscribe),
        TEST(another_user_cannot_sign_in_meanwhile),
        TEST(what_waits_ends_with_the_connection),
        TEST(a_shutdown_closes_who_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
