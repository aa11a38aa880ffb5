#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/budget.h"
#include "cluster/message/message.h"
#include "cluster/outgoing.h"

#define KB ((size_t)1024)

/* What the bus would have got: numbers of messages. */
static struct {
    unsigned numbers[4096];
    unsigned count;
    uint64_t waited_ms[4096];
    size_t waiting, taken_by_flush;
    bool down;
} bus;

static struct outgoing outgoing;

static bool take_message(void *context, struct slice subject, struct bus_bytes *bytes) {
    struct cluster_message message;

    (void)context;
    if (bus.down)
        return false;
    assert_true(slice_equal(subject, SLICE("n")));
    assert_int_equal(message_decode((struct slice){bytes->data, bytes->length}, &message, NULL), MESSAGE_GOOD);
    assert_in_range(bus.count, 0, 4095);
    bus.waited_ms[bus.count] = message.kind == MESSAGE_TERMINATE ? message.terminate.waited_ms : 0;
    bus.numbers[bus.count++] = (unsigned)message.number;
    bus.waiting += bytes->length;
    return true;
}

static void flush_bus(void *context) {
    (void)context;
    bus.waiting -= bus.taken_by_flush < bus.waiting ? bus.taken_by_flush : bus.waiting;
}

static size_t waiting_in_bus(void *context) {
    (void)context;
    return bus.waiting;
}

static int set_up(void **state) {
    const struct outgoing_target target = {take_message, flush_bus, waiting_in_bus, NULL};

    (void)state;
    memset(&bus, 0, sizeof bus);
    bus.taken_by_flush = SIZE_MAX;
    outgoing_init(&outgoing, &target, 8 * OUTGOING_BUS_BYTES, 60000);
    outgoing_release(&outgoing);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    outgoing_dispose(&outgoing);
    assert_int_equal(counter_read(&outgoing.waiting), 0);
    assert_int_equal(counter_read(&outgoing.waiting_bytes), 0);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_CLUSTER), 0);
    return 0;
}

static const struct node_id sender = {1, 2};

static bool publish_event(unsigned number, size_t bytes, uint64_t now_ms) {
    static char data[2 * OUTGOING_BUS_BYTES];
    struct cluster_message message = {.kind = MESSAGE_EVENT, .version = 1, .sender = sender, .number = number};

    memset(data, '1', sizeof data);
    message.event =
        (struct message_event){.app = SLICE("a"), .channel = SLICE("c"), .name = SLICE("\"e\""), .data = {data, bytes}};
    return outgoing_publish(&outgoing, outgoing_item_create(SLICE("n"), message_encode(&message), true, now_ms));
}

static bool publish_order(unsigned number, uint64_t now_ms) {
    struct cluster_message message = {.kind = MESSAGE_TERMINATE, .version = 1, .sender = sender, .number = number};

    message.terminate = (struct message_terminate){.app = SLICE("a"), .user_id = SLICE("u")};
    return outgoing_publish(&outgoing, outgoing_item_create(SLICE("n"), message_encode(&message), false, now_ms));
}

static void assert_published(unsigned first, unsigned last) {
    assert_int_equal(bus.count, last - first + 1);
    for (unsigned i = 0; i < bus.count; i++)
        assert_int_equal(bus.numbers[i], first + i);
}

static void run_to_the_end(uint64_t now_ms) {
    for (unsigned turns = 0; !outgoing_run(&outgoing, now_ms); turns++)
        assert_in_range(turns, 0, 100);
}

/* --- the tests --- */

static void messages_go_at_once_while_the_bus_is_up(void **state) {
    (void)state;
    assert_true(publish_event(1, 10, 0));
    assert_true(publish_order(2, 0));
    assert_published(1, 2);
}

static void messages_wait_through_an_outage_and_keep_their_order(void **state) {
    (void)state;
    outgoing_hold(&outgoing);
    for (unsigned i = 1; i <= 2500; i++)
        assert_false(publish_event(i, 10, 0));
    assert_int_equal(bus.count, 0);
    assert_false(outgoing_run(&outgoing, 0));
    assert_int_equal(bus.count, 0);
    outgoing_release(&outgoing);
    assert_false(outgoing_run(&outgoing, 0)); /* one run is short */
    assert_int_equal(bus.count, OUTGOING_RUN_MESSAGES);
    assert_false(publish_event(2501, 10, 0)); /* behind the others */
    run_to_the_end(0);
    assert_published(1, 2501);
    assert_true(publish_event(2502, 10, 0));
}

static void a_bus_that_goes_down_by_itself_loses_nothing_that_waits(void **state) {
    (void)state;
    bus.down = true;
    assert_false(publish_event(1, 10, 0));
    assert_false(publish_event(2, 10, 0));
    assert_false(outgoing_run(&outgoing, 0));
    bus.down = false;
    run_to_the_end(0);
    assert_published(1, 2);
}

static void the_oldest_go_when_there_is_no_room(void **state) {
    (void)state;
    outgoing_hold(&outgoing);
    for (unsigned i = 1; i <= 10; i++)
        publish_event(i, OUTGOING_BUS_BYTES, 0);
    assert_int_equal(counter_read(&outgoing.dropped), 3); /* each is a little more than an eighth */
    assert_int_equal(counter_read(&outgoing.waiting), 7);
    assert_in_range(counter_read(&outgoing.waiting_bytes), 7 * OUTGOING_BUS_BYTES, 8 * OUTGOING_BUS_BYTES);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_CLUSTER), counter_read(&outgoing.waiting_bytes));
    outgoing_release(&outgoing);
    run_to_the_end(0);
    assert_published(4, 10);
}

static void events_that_have_waited_too_long_are_dropped_and_orders_are_not(void **state) {
    (void)state;
    outgoing_hold(&outgoing);
    publish_event(1, 10, 1000);
    publish_order(2, 1000);
    publish_event(3, 10, 2000);
    outgoing_release(&outgoing);
    run_to_the_end(61001);
    assert_published(2, 3);
    assert_int_equal(bus.waited_ms[0], 60001);
    assert_int_equal(counter_read(&outgoing.expired), 1);
    assert_int_equal(counter_read(&outgoing.dropped), 0);
}

static void a_slow_bus_is_given_little_at_a_time(void **state) {
    unsigned number = 0;

    (void)state;
    bus.taken_by_flush = 0;
    while (publish_event(++number, 100 * KB, 0))
        ;
    assert_in_range(bus.waiting, OUTGOING_BUS_BYTES, OUTGOING_BUS_BYTES + 101 * KB);
    assert_false(publish_event(++number, 100 * KB, 0));
    assert_false(outgoing_run(&outgoing, 0));
    while (counter_read(&outgoing.dropped) == 0)
        publish_event(++number, 100 * KB, 0);
    assert_in_range(bus.waiting + counter_read(&outgoing.waiting_bytes), 7 * OUTGOING_BUS_BYTES,
                    8 * OUTGOING_BUS_BYTES);
    bus.taken_by_flush = SIZE_MAX;
    run_to_the_end(0);
    assert_int_equal(bus.numbers[bus.count - 1], number);
    assert_int_equal(bus.count, number - counter_read(&outgoing.dropped));
}

static void a_queue_that_nobody_would_hear_is_dropped(void **state) {
    (void)state;
    outgoing_hold(&outgoing);
    publish_event(1, 10, 0);
    outgoing_clear(&outgoing);
    outgoing_release(&outgoing);
    assert_true(publish_event(2, 10, 0));
    assert_published(2, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_go_at_once_while_the_bus_is_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(messages_wait_through_an_outage_and_keep_their_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bus_that_goes_down_by_itself_loses_nothing_that_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_oldest_go_when_there_is_no_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(events_that_have_waited_too_long_are_dropped_and_orders_are_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_slow_bus_is_given_little_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_queue_that_nobody_would_hear_is_dropped, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
