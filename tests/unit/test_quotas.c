/* What other nodes say of their connections per app. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <semaphore.h>

#include "app/app_slot.h"
#include "app_cache_fixture.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/hash.h"
#include "cluster/quotas.h"
#include "config/config.h"
#include "passing_time.h"

static struct cluster_core core;
static struct quotas *quotas;
static struct buffer list;

static int set_up(void **state) {
    struct error error;

    (void)state;
    hash_seed();
    core = (struct cluster_core){0};
    core.loop = loop_create(&error);
    assert_non_null(core.loop);
    quotas = quotas_create(&core);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    cluster_core_dispose_parts(&core);
    loop_destroy(core.loop);
    buffer_dispose(&list);
    budget_settle();
    assert_int_equal(budget_used(BUDGET_CLUSTER), 0);
    return 0;
}

static void add(const char *app, uint64_t connections) {
    message_add_quota(&list, &(struct message_quota){slice_of(app), connections});
}

/* The node says what was added. */
static void say(unsigned node, uint64_t whole, uint32_t part, bool last) {
    const struct cluster_kind *kind = &core.kinds[MESSAGE_QUOTAS];
    const struct cluster_message message = {
        .kind = MESSAGE_QUOTAS, .quotas = {.whole = whole, .part = part, .last = last, .apps = buffer_slice(&list)}};

    assert_false(kind->handle(kind->context, node, &message, NULL));
    list.length = 0;
}

/* The node says that an app has so many connections. */
static void tell(unsigned node, const char *app, uint64_t connections) {
    add(app, connections);
    say(node, 0, 0, true);
}

static void assert_others(const char *app, uint64_t connections) {
    assert_int_equal(quotas_of_others(quotas, slice_of(app)), connections);
}

static void the_counts_of_nodes_are_added_and_the_last_one_holds(void **state) {
    (void)state;
    assert_others("a", 0);
    add("a", 3);
    add("b", 1);
    say(1, 0, 0, true);
    tell(2, "a", 4);
    assert_others("a", 7);
    assert_others("b", 1);
    tell(1, "a", 1);
    assert_others("a", 5);
    tell(1, "a", 0);
    tell(2, "a", 0);
    assert_others("a", 0);
    assert_others("b", 1);
}

static void apps_that_a_whole_row_leaves_out_have_no_connections(void **state) {
    (void)state;
    add("a", 3);
    add("b", 1);
    say(1, 0, 0, true);
    tell(2, "b", 5);
    add("a", 2);
    say(1, 9, 0, false);
    assert_others("b", 6); /* the row is not over */
    add("late", 8);
    say(1, 0, 0, true); /* a change between the parts */
    add("c", 1);
    say(1, 9, 1, true);
    assert_others("a", 2);
    assert_others("b", 5);
    assert_others("c", 1);
    assert_others("late", 8);
}

static void a_row_with_a_part_missing_removes_nothing(void **state) {
    (void)state;
    tell(1, "a", 3);
    add("b", 1);
    say(1, 9, 0, false);
    add("c", 1);
    say(1, 9, 2, true);
    assert_others("a", 3);
    assert_others("c", 1);
    say(1, 10, 0, true);
    assert_others("a", 0);
    assert_others("b", 0);
    assert_others("c", 0);
}

static void a_node_that_leaves_takes_its_connections_with_it(void **state) {
    (void)state;
    tell(1, "a", 3);
    tell(2, "a", 4);
    core.parts[0].node_left(core.parts[0].context, 1);
    assert_others("a", 4);
}

static void numbers_that_nobody_can_have_do_no_harm(void **state) {
    (void)state;
    tell(1, "a", UINT64_MAX);
    tell(2, "a", UINT64_MAX);
    assert_others("a", 2 * (uint64_t)UINT32_MAX);
    tell(1, "a", 1);
    assert_others("a", (uint64_t)UINT32_MAX + 1);
}

/* --- another node, which has connections and tells this one --- */

static struct {
    struct bus bus; /* the first member */
    struct cluster_core core;
    struct app_slot *slot; /* of app "a" */
    uint64_t began_ms;     /* before it knew of this node */
} teller;

static atomic_bool loses_messages;

/* This node takes what the other one says, on that one's thread. */
static bool take_from_teller(struct bus *bus, struct slice subject, struct bus_bytes *bytes) {
    const struct cluster_kind *kind = &core.kinds[MESSAGE_QUOTAS];
    struct cluster_message message;
    struct error error;

    (void)bus;
    (void)subject;
    if (loses_messages)
        return true;
    assert_int_equal(message_decode((struct slice){bytes->data, bytes->length}, &message, &error), MESSAGE_GOOD);
    assert_int_equal(message.kind, MESSAGE_QUOTAS);
    assert_false(kind->handle(kind->context, 1, &message, NULL));
    return true;
}

static void tell_empty_bus(const struct bus *bus, struct bus_state *state) {
    (void)bus;
    *state = (struct bus_state){.up = true};
}

static void say_no_hello(void *context, const struct node_id *to, bool answer) {
    (void)context;
    (void)to;
    (void)answer;
}

static void tell_teller_came(void *context, unsigned number) {
    cluster_core_tell_came(context, number);
}

static void ignore_gathered(void *context) {
    (void)context;
}

static void create_teller(void) {
    static const struct bus_driver driver = {.name = "test", .publish = take_from_teller, .state = tell_empty_bus};
    static struct config config;
    const struct nodes_settings settings = {
        .heartbeat_ms = 1000, .timeout_ms = 3000, .outage_ms = 60000, .versions = message_versions_own()};
    const struct nodes_hooks hooks = {
        .say_hello = say_no_hello, .came = tell_teller_came, .gathered = ignore_gathered, .context = &teller.core};
    const struct node_hello hello = {
        .versions = message_versions_own(), .name = SLICE("name"), .address = SLICE("address")};
    uint64_t now_ms = clock_monotonic_ms();
    struct error error;

    config.adapter.outage_buffer_mb = 1;
    teller.bus.driver = &driver;
    teller.core = (struct cluster_core){.bus = &teller.bus, .config = &config, .apps = fixture.manager, .up = true};
    teller.began_ms = now_ms;
    teller.core.loop = loop_create(&error);
    assert_non_null(teller.core.loop);
    subjects_init(&teller.core.subjects, SUBJECT_PLAIN, SLICE("test:"));
    teller.core.nodes = nodes_create(&settings, &hooks, now_ms);
    quotas_create(&teller.core);
    nodes_up(teller.core.nodes, now_ms);
    assert_int_equal(nodes_hello(teller.core.nodes, (struct node_id){7, 7}, &hello, false, now_ms), 1);
    assert_true(loop_start(teller.core.loop, &error));
}

static int set_up_teller(void **state) {
    set_up(state);
    fixture_set_up(state);
    fixture_open("", FIXTURE_TIMEOUT_MS);
    assert_int_equal(fixture_by_id("a"), APP_FOUND);
    teller.slot = fixture.last.slot;
    create_teller();
    return 0;
}

static int tear_down_teller(void **state) {
    loop_stop(teller.core.loop);
    cluster_core_dispose_parts(&teller.core);
    nodes_destroy(teller.core.nodes);
    subjects_dispose(&teller.core.subjects);
    loop_destroy(teller.core.loop);
    assert_int_equal(fixture_tear_down(state), 0);
    return tear_down(state);
}

struct turn {
    struct loop_message message;
    sem_t done;
};

static void end_turn(struct loop *loop, struct loop_message *message) {
    (void)loop;
    sem_post(&container_of(message, struct turn, message)->done);
}

/* It does what is due by now. The first turn may have begun before, the second one fires timers after its messages. */
static void let_teller_run(void) {
    struct turn turn = {.message.handle = end_turn};

    sem_init(&turn.done, 0, 0);
    for (unsigned i = 0; i < 3; i++) {
        loop_post(teller.core.loop, &turn.message);
        loop_wake(teller.core.loop);
        sem_wait(&turn.done);
    }
    sem_destroy(&turn.done);
}

/* When it told everything last: not before the first time, and not after the second one. */
struct moment {
    uint64_t earliest_ms, latest_ms;
};

/* Passes the time until this node knows the connections. Fails unless that is a minute after the moment. */
static struct moment learn_after_a_minute(struct moment last, uint64_t connections) {
    uint64_t before_ms = clock_monotonic_ms(), passed_ms;
    struct moment now;

    do {
        now.earliest_ms = before_ms; /* of the step before: it may have been told since this node looked */
        before_ms = clock_monotonic_ms();
        passing_time_add(1000);
        passed_ms = clock_monotonic_ms();
        let_teller_run();
        now.latest_ms = clock_monotonic_ms();
    } while (quotas_of_others(quotas, SLICE("a")) != connections && passed_ms < last.latest_ms + 60000);
    assert_others("a", connections);
    assert_true(now.latest_ms >= last.earliest_ms + 60000);
    return now;
}

static void tell_what_changed(void) {
    passing_time_add(100);
    let_teller_run();
    loses_messages = false;
}

static void a_count_that_was_lost_is_told_again_within_a_minute(void **state) {
    struct moment last = {teller.began_ms, clock_monotonic_ms()};

    (void)state;
    assert_true(slot_connection_enter(teller.slot, 0));
    tell_what_changed();
    assert_others("a", 1);

    loses_messages = true;
    assert_true(slot_connection_enter(teller.slot, 0));
    tell_what_changed();
    assert_others("a", 1);
    last = learn_after_a_minute(last, 2);

    loses_messages = true;
    slot_connection_leave(teller.slot);
    slot_connection_leave(teller.slot);
    tell_what_changed();
    assert_others("a", 2);
    learn_after_a_minute(last, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_counts_of_nodes_are_added_and_the_last_one_holds),
        TEST(apps_that_a_whole_row_leaves_out_have_no_connections),
        TEST(a_row_with_a_part_missing_removes_nothing),
        TEST(a_node_that_leaves_takes_its_connections_with_it),
        TEST(numbers_that_nobody_can_have_do_no_harm),
        cmocka_unit_test_setup_teardown(a_count_that_was_lost_is_told_again_within_a_minute, set_up_teller,
                                        tear_down_teller),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
