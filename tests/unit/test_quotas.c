/* What other nodes say of their connections per app. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/budget.h"
#include "base/hash.h"
#include "cluster/quotas.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(the_counts_of_nodes_are_added_and_the_last_one_holds),
        TEST(apps_that_a_whole_row_leaves_out_have_no_connections),
        TEST(a_row_with_a_part_missing_removes_nothing),
        TEST(a_node_that_leaves_takes_its_connections_with_it),
        TEST(numbers_that_nobody_can_have_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
