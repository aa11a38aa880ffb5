/* Webhook events of all nodes on their way to the webhook thread: what waits for workers has a bound in bytes, and
 * ends. What another node has lost is asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <unistd.h>

#include "app_cache_fixture.h"
#include "base/budget.h"
#include "base/clock.h"
#include "cluster/roster/roster_reports.h"
#include "config/config.h"
#include "harness.h"

#define LIMIT (UINT64_C(16) * 1024 * 1024)
#define EVENTS_MAX 1000000

static struct webhook_outlet outlet;
static struct cluster_core core;
static struct roster_reports *reports;
static uint32_t count;

static int set_up(void **state) {
    struct error error;

    fixture_set_up(state);
    fixture_open("", 5000);
    outlet = (struct webhook_outlet){0};
    core = (struct cluster_core){.workers = &fixture.workers, .apps = fixture.manager};
    core.loop = loop_create(&error);
    assert_non_null(core.loop);
    reports = roster_reports_create(&core, &outlet);
    budget_settle();
    budget_set_limit(LIMIT);
    return 0;
}

static int tear_down(void **state) {
    budget_set_limit(0);
    cluster_core_dispose_parts(&core);
    loop_destroy(core.loop);
    return fixture_tear_down(state);
}

/* The count of a channel has changed: this node is alone, and tells it. */
static void tell_next_count(void) {
    roster_reports_counted(reports, SLICE("a"), SLICE("room"), ++count);
}

/* The workers take what waits for them. */
static void let_workers_take_all(uint64_t before) {
    uint64_t begin_ms = clock_monotonic_ms();

    do {
        assert_true(clock_monotonic_ms() - begin_ms < 60000);
        fixture_settle();
        usleep(200);
    } while (budget_used(BUDGET_CLUSTER) > before);
}

static void what_waits_for_workers_has_a_bound_and_the_rest_is_counted(void **state) {
    uint64_t before, held, events;

    (void)state;
    tell_next_count(); /* the channel stays in the roster */
    let_workers_take_all(1024);
    before = budget_used(BUDGET_CLUSTER);
    for (unsigned round = 1; round <= 2; round++) {
        for (events = 0; outlet.dropped < round && events < EVENTS_MAX; events++)
            tell_next_count();
        held = budget_used(BUDGET_CLUSTER);
        assert_int_equal(outlet.dropped, round);
        assert_in_range(held, budget_kind_limit(BUDGET_CLUSTER) - 1024, budget_kind_limit(BUDGET_CLUSTER));
        let_workers_take_all(before);
    }
    tell_next_count();
    assert_int_equal(outlet.dropped, 2); /* there is room again */
    let_workers_take_all(before);
}

/* --- another node --- */

static atomic_uint asked;

static bool count_asked(struct bus *bus, struct slice subject, struct bus_bytes *bytes) {
    (void)bus;
    (void)subject;
    atomic_fetch_add(&asked, (unsigned char)bytes->data[1] == MESSAGE_ROSTER_ASK);
    return true;
}

static void flush_nothing(struct bus *bus) {
    (void)bus;
}

static void tell_bus_is_empty(const struct bus *bus, struct bus_state *state) {
    (void)bus;
    *state = (struct bus_state){.up = true};
}

static void tell_node_came(void *context, unsigned number) {
    cluster_core_tell_came(context, number);
}

static void release_nothing(struct bus_message *message) {
    (void)message;
}

static void hear_batch(struct node_id sender, uint64_t number) {
    struct cluster_message message = {.kind = MESSAGE_ROSTER, .version = nodes_version(core.nodes), .sender = sender};
    struct bus_message bus_message = {.subject = SLICE("inbox"), .release = release_nothing};
    struct bus_events events = cluster_core_events(&core);
    struct bus_bytes *bytes;

    message.roster = (struct message_roster){.number = number};
    bytes = message_encode(&message);
    bus_message.payload = (struct slice){bytes->data, bytes->length};
    message_seal(bytes, sender, 1);
    events.message(events.context, &bus_message);
    bus_bytes_unref(bytes);
}

/* The node says nothing after a batch that was lost, and the first request does not reach it. */
static void a_node_that_does_not_answer_is_asked_again(void **state) {
    static const struct bus_driver driver = {
        .name = "test", .publish = count_asked, .flush = flush_nothing, .state = tell_bus_is_empty};
    static struct config config;
    const struct nodes_settings settings = {
        .heartbeat_ms = 10000, .timeout_ms = 30000, .outage_ms = 60000, .versions = message_versions_own()};
    const struct nodes_hooks hooks = {.came = tell_node_came, .context = &core};
    const struct node_hello hello = {
        .versions = message_versions_own(), .name = SLICE("name"), .address = SLICE("address")};
    struct bus bus = {.driver = &driver};
    uint64_t begin_ms = clock_monotonic_ms();
    struct error error;

    (void)state;
    config.adapter.outage_buffer_mb = 1;
    core.config = &config;
    core.bus = &bus;
    core.up = true;
    subjects_init(&core.subjects, SUBJECT_PLAIN, SLICE("test:"));
    core.nodes = nodes_create(&settings, &hooks, loop_now_ms(core.loop));
    assert_int_equal(nodes_hello(core.nodes, (struct node_id){7, 7}, &hello, true, loop_now_ms(core.loop)), 1);
    hear_batch((struct node_id){7, 7}, 1);
    assert_int_equal(atomic_load(&asked), 1);
    assert_true(loop_start(core.loop, &error));
    while (atomic_load(&asked) < 2) {
        assert_true(clock_monotonic_ms() - begin_ms < 60000);
        usleep(1000);
    }
    loop_stop(core.loop);
    cluster_core_dispose_parts(&core);
    nodes_destroy(core.nodes);
    subjects_dispose(&core.subjects);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_waits_for_workers_has_a_bound_and_the_rest_is_counted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_that_does_not_answer_is_asked_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
