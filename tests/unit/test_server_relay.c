/* The relay of an upgrade, when the apps of what it receives are not known yet: events wait for the store, and keep
 * their order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "app_cache_fixture.h"
#include "channel/channel.h"
#include "handover/handover_relay_event.h"
#include "harness.h"
#include "server/server_internal.h"

/* Types of messages of server_relay.c. */
enum {
    RELAY_EVENT = HANDOVER_RELAY_FIRST,
    RELAY_KEPT = RELAY_EVENT + 2,
    RELAY_KEPT_NEXT,
    RELAY_KEPT_PAGE,
    RELAY_KEPT_END,
    RELAY_WEBHOOK,
};

#define VACATED "2" /* WEBHOOK_CHANNEL_VACATED */

static struct server *server;
static struct handover_link link_to_other;
static struct handover_socket other; /* the end of the other process */
static struct error error;

static void ignore_stream(struct stream *stream, bool reconnect, uint64_t before_ms) {
    (void)before_ms;
    (void)stream;
    (void)reconnect;
}

static bool has_no_socket_id(const struct stream *stream, const struct socket_id *id) {
    (void)stream;
    (void)id;
    return false;
}

static int set_up(void **state) {
    const struct channel_hub_settings settings = {.group_max_messages = 64,
                                                  .group_max_bytes = 65536,
                                                  .terminate = ignore_stream,
                                                  .has_socket_id = has_no_socket_id};
    const struct handover_handler handler = {0};
    struct handover_socket own;
    int ends[2];

    if (fixture_set_up(state) != 0)
        return -1;
    fixture.has_channels = true;
    fixture_use_hanging_disk();
    fixture_open("", FIXTURE_TIMEOUT_MS);
    assert_int_equal(fixture_by_id("nobody"), APP_NOT_FOUND); /* the store is open */
    server = calloc(1, sizeof *server);
    server->workers = fixture.workers;
    server->apps = fixture.manager;
    server->sessions.channels = channel_hub_create(&fixture.workers, &settings);
    reclaimer_init(&server->reclaimer, &fixture.workers);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    handover_socket_init(&own, ends[0]);
    handover_socket_init(&other, ends[1]);
    link_to_other = (struct handover_link){0};
    assert_true(handover_link_init(&link_to_other, &own, &handler, &error));
    server_relay_begin(server, &link_to_other);
    fixture_let_disk_hang(true);
    return 0;
}

static int tear_down(void **state) {
    assert_int_equal(atomic_load(&server->relay_inbox.held), 0);
    server_relay_end(server);
    fixture_settle();
    reclaimer_dispose(&server->reclaimer);
    channel_hub_destroy(server->sessions.channels);
    handover_link_dispose(&link_to_other);
    handover_socket_dispose(&other);
    free(server);
    return fixture_tear_down(state);
}

static void receive(uint8_t type, struct slice payload) {
    if (!server_relay_message(server, &(struct handover_message){.type = type, .payload = payload}, &error))
        fail_msg("%s", error.text);
}

/* The other process tells of an event of the app "a", which the cache channel keeps. */
static void receive_event(uint8_t type, const char *data) {
    struct buffer bytes = {0};

    relay_event_append(&bytes, &(struct relay_event){.app_id = SLICE("a"),
                                                     .channel = SLICE("cache-x"),
                                                     .name = SLICE("\"e\""),
                                                     .data = slice_of(data),
                                                     .keep = true});
    receive(type, buffer_slice(&bytes));
    buffer_dispose(&bytes);
}

/* The worker that has a message. */
static unsigned worker_with_message(void) {
    return atomic_load(&fixture.workers.list[0]->mailbox.head) != NULL ? 0 : 1;
}

/* Turns of this worker only, until a lookup of it is answered. */
static void await_answer_on(unsigned worker) {
    while (fixture.answered == 0) {
        poll(NULL, 0, 1);
        harness_settle(fixture.workers.list[worker]);
    }
}

/* Turns until nothing that was received waits. */
static void await_handled(void) {
    while (atomic_load(&server->relay_inbox.held) != 0) {
        poll(NULL, 0, 1);
        fixture_settle();
    }
}

static void assert_kept(const char *data) {
    struct channel_info info = {0};

    assert_int_equal(fixture_by_id("a"), APP_FOUND);
    channel_inspect(fixture.last.slot, SLICE("cache-x"), true, &info);
    assert_string_equal(buffer_string(&info.cached_data), data);
    buffer_dispose(&info.cached_data);
}

static void events_keep_their_order_while_their_app_is_looked_up(void **state) {
    struct app_lookup lookup;
    unsigned worker;

    (void)state;
    receive_event(RELAY_EVENT, "1");
    worker = worker_with_message();
    harness_settle(fixture.workers.list[worker]);
    assert_int_equal(fixture_start(&lookup, 1 - worker, false, "a"), APP_PENDING);
    fixture_await_hanging();
    receive_event(RELAY_EVENT, "2");
    receive_event(RELAY_EVENT, "3");
    fixture_let_disk_hang(false);
    await_answer_on(1 - worker); /* the app is known before the second event is looked at */
    await_handled();
    assert_kept("3");
}

static void an_event_of_an_app_that_does_not_exist_is_dropped(void **state) {
    (void)state;
    fixture_run_sql("DELETE FROM applications");
    receive_event(RELAY_EVENT, "1");
    receive_event(RELAY_EVENT, "2");
    fixture_settle();
    assert_true(atomic_load(&server->relay_inbox.held) != 0);
    fixture_let_disk_hang(false);
    await_handled();
    assert_int_equal(fixture_by_id("a"), APP_NOT_FOUND);
}

/* Kept events whose app is looked up, and then this message. The next message of this process is `answer`, and it comes
 * when all of them are in place. */
static void assert_answered_when_taken(uint8_t last, uint8_t answer) {
    struct handover_message message;

    receive_event(RELAY_KEPT, "1");
    fixture_settle();
    receive(last, SLICE(""));
    fixture_settle();
    assert_int_equal(atomic_load(&link_to_other.queued_bytes), 0);
    fixture_let_disk_hang(false);
    await_handled();
    assert_true(atomic_load(&link_to_other.queued_bytes) != 0);
    assert_kept("1");
    handover_link_finish(&link_to_other);
    assert_true(handover_link_run(&link_to_other, &error));
    assert_int_equal(handover_socket_receive(&other, &message, &error), HANDOVER_GOT_MESSAGE);
    assert_int_equal(message.type, answer);
    assert_int_equal(handover_socket_receive(&other, &message, &error), HANDOVER_GOT_NOTHING);
}

static void a_process_is_ready_when_all_kept_events_are_in_place(void **state) {
    (void)state;
    assert_answered_when_taken(RELAY_KEPT_END, HANDOVER_READY);
}

static void the_next_page_is_asked_for_when_the_events_of_one_are_in_place(void **state) {
    (void)state;
    assert_answered_when_taken(RELAY_KEPT_PAGE, RELAY_KEPT_NEXT);
}

/* --- webhooks --- */

static bool note_forwarded(void *context, const struct webhook_event *event) {
    struct buffer *told = context;

    buffer_appendf(told, "%u %.*s\n", (unsigned)event->kind, SLICE_ARGS(event->details.channel));
    return true;
}

/* The end of the overlap makes the webhook thread forget where it forwards events to. */
static void the_overlap_ends_after_the_last_webhook_event_of_the_other_process(void **state) {
    struct config_report report = {0};
    struct buffer bytes = {0}, told = {0};

    (void)state;
    fixture_run_sql(
        "UPDATE applications SET webhooks = "
        "'[{\"url\":\"https://example.com/\",\"event_types\":[\"channel_vacated\"]}]'");
    assert_true(config_load(&server->config, NULL, &report, &error));
    config_report_dispose(&report);
    assert_true(server_webhooks_create(server, &error));
    server->sessions.webhooks = server_webhooks_outlet(server);
    webhook_events_forward(server->webhook_events, note_forwarded, &told);
    assert_true(webhook_thread_start(server->webhooks, &error));

    relay_event_append(&bytes,
                       &(struct relay_event){.app_id = SLICE("a"), .channel = SLICE("room"), .name = SLICE(VACATED)});
    receive(RELAY_WEBHOOK, buffer_slice(&bytes));
    fixture_settle();
    server_relay_end_overlap(server);
    fixture_let_disk_hang(false);
    await_handled();
    webhook_thread_stop(server->webhooks, 0);
    assert_string_equal(buffer_string(&told), VACATED " room\n");

    webhook_thread_destroy(server->webhooks);
    webhook_events_destroy(server->webhook_events);
    config_dispose(&server->config);
    buffer_dispose(&bytes);
    buffer_dispose(&told);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(events_keep_their_order_while_their_app_is_looked_up),
        TEST(an_event_of_an_app_that_does_not_exist_is_dropped),
        TEST(a_process_is_ready_when_all_kept_events_are_in_place),
        TEST(the_overlap_ends_after_the_last_webhook_event_of_the_other_process),
        TEST(the_next_page_is_asked_for_when_the_events_of_one_are_in_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
