/* Webhook events of all nodes on their way to the webhook thread: what waits for workers has a bound in bytes, and
 * ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "app_cache_fixture.h"
#include "base/budget.h"
#include "base/clock.h"
#include "cluster/roster/roster_reports.h"
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_waits_for_workers_has_a_bound_and_the_rest_is_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
