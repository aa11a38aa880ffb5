/* What the cluster's core gives to the bus, and which messages of others it takes; the bus is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cluster/cluster_core.h"
#include "config/config.h"

#define MEGABYTE ((size_t)1024 * 1024)

static struct bus bus;
static struct config config;
static struct cluster_core core;
static size_t waiting, flushed_to; /* in the bus, and after the next flush */
static unsigned published[MESSAGE_KINDS];

static bool note_publish(struct bus *given, struct slice subject, struct bus_bytes *bytes) {
    (void)given;
    (void)subject;
    published[(unsigned char)bytes->data[1] % MESSAGE_KINDS]++;
    return true;
}

static void note_flush(struct bus *given) {
    (void)given;
    waiting = flushed_to;
}

static void tell_waiting(const struct bus *given, struct bus_state *state) {
    (void)given;
    *state = (struct bus_state){.up = true, .waiting_bytes = waiting};
}

static void say_no_hello(void *context, const struct node_id *to, bool answer) {
    (void)context;
    (void)to;
    (void)answer;
}

static void forget_node(void *context, unsigned number) {
    (void)context;
    (void)number;
}

static int set_up(void **state) {
    static const struct bus_driver driver = {
        .name = "test", .publish = note_publish, .flush = note_flush, .state = tell_waiting};
    const struct nodes_settings settings = {
        .heartbeat_ms = 1000, .timeout_ms = 3000, .outage_ms = 60000, .versions = message_versions_own()};
    const struct nodes_hooks hooks = {.say_hello = say_no_hello, .came = forget_node, .left = forget_node};
    struct error error;

    (void)state;
    memset(published, 0, sizeof published);
    waiting = flushed_to = 0;
    config = (struct config){0};
    config.adapter.outage_buffer_mb = 1;
    bus = (struct bus){.driver = &driver};
    core = (struct cluster_core){.bus = &bus, .config = &config, .up = true};
    core.loop = loop_create(&error);
    assert_non_null(core.loop);
    core.nodes = nodes_create(&settings, &hooks, loop_now_ms(core.loop));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    nodes_destroy(core.nodes);
    loop_destroy(core.loop);
    return 0;
}

static bool say(enum message_kind kind) {
    struct cluster_message message = {.kind = kind};

    return cluster_core_say(&core, SLICE("subject"), &message);
}

static void a_full_bus_takes_signs_of_life_only(void **state) {
    (void)state;
    waiting = flushed_to = MEGABYTE;
    assert_false(say(MESSAGE_CHANGE));
    assert_false(say(MESSAGE_COUNT));
    assert_false(say(MESSAGE_STATE_PART));
    assert_false(say(MESSAGE_API_ANSWER));
    assert_int_equal(counter_read(&core.unsent), 4);
    assert_true(say(MESSAGE_HELLO));
    assert_true(say(MESSAGE_HEARTBEAT));
    assert_true(say(MESSAGE_BYE));
    assert_int_equal(published[MESSAGE_CHANGE] + published[MESSAGE_COUNT], 0);
    assert_int_equal(published[MESSAGE_STATE_PART] + published[MESSAGE_API_ANSWER], 0);
    assert_int_equal(published[MESSAGE_HELLO] + published[MESSAGE_HEARTBEAT] + published[MESSAGE_BYE], 3);
}

/* What one turn says is written at its end only, so much may wait for nothing else. */
static void a_bus_is_full_if_flushing_it_does_not_help(void **state) {
    (void)state;
    waiting = MEGABYTE;
    flushed_to = MEGABYTE - 1;
    assert_true(say(MESSAGE_CHANGE));
    assert_int_equal(waiting, MEGABYTE - 1);
    assert_int_equal(published[MESSAGE_CHANGE], 1);
}

/* --- from the bus --- */

static unsigned handled, handled_of;

static bool note_handled(void *context, unsigned node, const struct cluster_message *message,
                         struct bus_message *bytes) {
    (void)context;
    (void)message;
    (void)bytes;
    handled++;
    handled_of = node;
    return false;
}

static void release_nothing(struct bus_message *message) {
    (void)message;
}

static void hear(enum message_kind kind, struct node_id sender) {
    struct cluster_message message = {.kind = kind, .version = nodes_version(core.nodes), .sender = sender};
    struct bus_bytes *bytes;
    struct bus_message bus_message = {.subject = SLICE("subject"), .release = release_nothing};
    struct bus_events events;

    if (kind == MESSAGE_EVENT)
        message.event = (struct message_event){
            .app = SLICE("app"), .channel = SLICE("channel"), .name = SLICE("\"e\""), .data = SLICE("1")};
    else
        message.count.app = SLICE("app"), message.count.channel = SLICE("channel");
    bytes = message_encode(&message);
    bus_message.payload = (struct slice){bytes->data, bytes->length};
    message_seal(bytes, sender, 1);
    events = cluster_core_events(&core);
    events.message(events.context, &bus_message);
    bus_bytes_unref(bytes);
}

/* With sharded pub/sub an event may overtake the sender's hello, and its bye the event. */
static void events_are_taken_before_hello_and_after_bye(void **state) {
    const struct node_id sender = {7, 7};
    const struct node_hello hello = {
        .versions = message_versions_own(), .name = SLICE("name"), .address = SLICE("address")};

    (void)state;
    handled = 0;
    cluster_core_handle_of_any(&core, MESSAGE_EVENT, note_handled, NULL);
    cluster_core_handle(&core, MESSAGE_COUNT, note_handled, false, NULL);
    hear(MESSAGE_EVENT, sender);
    hear(MESSAGE_COUNT, sender);
    assert_int_equal(handled, 1);
    assert_int_equal(nodes_hello(core.nodes, sender, &hello, false, loop_now_ms(core.loop)), 1);
    hear(MESSAGE_EVENT, sender);
    assert_int_equal(handled_of, 1);
    hear(MESSAGE_COUNT, sender);
    assert_int_equal(handled, 3);
    nodes_bye(core.nodes, sender, loop_now_ms(core.loop));
    hear(MESSAGE_EVENT, sender);
    assert_int_equal(handled_of, 0);
    hear(MESSAGE_COUNT, sender);
    assert_int_equal(handled, 4);
    assert_int_equal(counter_read(&core.dropped), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_full_bus_takes_signs_of_life_only),
        TEST(a_bus_is_full_if_flushing_it_does_not_help),
        TEST(events_are_taken_before_hello_and_after_bye),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
