/* All webhooks: the bounds for what waits, and records that change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "base/budget.h"
#include "base/buffer.h"
#include "config/config.h"
#include "webhook/webhook_table.h"

static struct config config;
static struct webhook_table table;

static int start(void **state) {
    (void)state;
    config = (struct config){0};
    config.webhooks.batching.enabled = true;
    config.webhooks.batching.duration_ms = 50;
    config.webhooks.batching.size = 100;
    config.webhooks.retry.enabled = true;
    webhook_table_init(&table, &config);
    table.bounds =
        (struct webhook_bounds){.webhook_events = 10, .webhook_bytes = 100000, .events = 15, .bytes = 200000};
    return 0;
}

static int end(void **state) {
    (void)state;
    webhook_table_dispose(&table);
    assert_int_equal(table.events, 0);
    assert_int_equal(table.bytes, 0);
    assert_int_equal(budget_used(BUDGET_WEBHOOKS), 0);
    budget_set_limit(0);
    return 0;
}

/* An app whose webhooks have these paths, one letter each. */
static struct app *app_with(const char *id, const char *paths) {
    static const struct app_defaults defaults = {0};
    struct buffer text = {0};
    struct error error;
    struct app *app;
    json_t *json;

    buffer_appendf(&text,
                   "{\"id\":\"%s\",\"key\":\"%s\",\"secret\":\"s\",\"enabled\":true,\"enable_client_messages\":true,"
                   "\"max_connections\":0,\"max_client_events_per_second\":0,\"webhooks\":[",
                   id, id);
    for (; *paths != '\0'; paths++)
        buffer_appendf(&text, "{\"url\":\"http://h/%c\",\"event_types\":[\"cache_miss\"]}%s", *paths,
                       paths[1] != '\0' ? "," : "");
    buffer_append_string(&text, "]}");
    json = json_loads(buffer_string(&text), 0, NULL);
    app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    if (app == NULL)
        fail_msg("%s", error.text);
    json_decref(json);
    buffer_dispose(&text);
    return app;
}

static void add_events(struct app *app, size_t index, unsigned count, struct slice json) {
    for (unsigned i = 0; i < count; i++)
        webhook_table_add(&table, app, index, SLICE("channel"), json, 1, 100);
}

struct found {
    const char *app_id;
    size_t index;
    uint64_t waiting, dropped;
};

static void find_counters(struct slice app_id, size_t index, const struct webhook_counters *counters, void *context) {
    struct found *found = context;

    if (slice_equal(app_id, slice_of(found->app_id)) && index == found->index) {
        found->waiting = counter_read(&counters->waiting);
        found->dropped = counter_read(&counters->dropped[WEBHOOK_DROP_BOUND]);
    }
}

static void assert_counts(const char *app_id, size_t index, uint64_t waiting, uint64_t dropped) {
    struct found found = {app_id, index, 0, 0};

    webhook_table_each(&table, find_counters, &found);
    assert_int_equal(found.waiting, waiting);
    assert_int_equal(found.dropped, dropped);
}

static void a_webhook_over_its_bound_loses_its_oldest_events(void **state) {
    struct app *app = app_with("a", "xy");

    (void)state;
    add_events(app, 0, 12, SLICE("1"));
    add_events(app, 1, 3, SLICE("1"));
    assert_counts("a", 0, 10, 2);
    assert_counts("a", 1, 3, 0);
    app_unref(app);
}

static void over_the_bound_of_all_the_webhook_with_the_most_loses_events(void **state) {
    struct app *a = app_with("a", "x"), *b = app_with("b", "x"), *c = app_with("c", "x");

    (void)state;
    add_events(a, 0, 9, SLICE("1"));
    add_events(b, 0, 4, SLICE("1"));
    add_events(c, 0, 5, SLICE("1"));
    assert_counts("a", 0, 6, 3);
    assert_counts("b", 0, 4, 0);
    assert_counts("c", 0, 5, 0);
    assert_int_equal(table.events, 15);
    app_unref(a);
    app_unref(b);
    app_unref(c);
}

static void bytes_are_bounded_too(void **state) {
    static char json[60000];
    struct app *app = app_with("a", "xyz");

    (void)state;
    memset(json, '1', sizeof json);
    add_events(app, 0, 3, (struct slice){json, sizeof json});
    assert_counts("a", 0, 1, 2);
    add_events(app, 1, 1, (struct slice){json, sizeof json});
    add_events(app, 2, 2, (struct slice){json, 40000});
    /* 200,000 bytes, and what describes the events: the webhook with 80,000 loses one. */
    assert_counts("a", 2, 1, 1);
    assert_true(table.bytes <= 200000);
    assert_int_equal(table.events, 3);
    app_unref(app);
}

static void of_the_app_with_the_most_the_webhook_with_the_most_loses_events(void **state) {
    struct app *many = app_with("a", "vwxyz"), *one = app_with("b", "x");

    (void)state;
    add_events(one, 0, 4, SLICE("1"));
    for (unsigned i = 0; i < 5; i++)
        add_events(many, i, i < 4 ? 2 : 3, SLICE("1"));
    assert_int_equal(table.events, 15);
    add_events(one, 0, 1, SLICE("1"));
    assert_counts("b", 0, 5, 0); /* the largest one, but not of the app with the most */
    assert_counts("a", 4, 2, 1);
    assert_int_equal(table.events, 15);
    app_unref(many);
    app_unref(one);
}

static void with_little_memory_the_bytes_of_all_are_half_of_the_share(void **state) {
    static char json[10000];
    struct app *app = app_with("a", "xy"), *other = app_with("b", "x");

    (void)state;
    memset(json, '1', sizeof json);
    budget_set_limit(400000); /* a quarter of it for webhooks, half of that for queues */
    add_events(other, 0, 1, (struct slice){json, sizeof json});
    add_events(app, 0, 3, (struct slice){json, sizeof json});
    add_events(app, 1, 4, (struct slice){json, sizeof json});
    assert_in_range(table.bytes, 30000, 50000);
    assert_int_equal(budget_used(BUDGET_WEBHOOKS), table.bytes);
    assert_counts("b", 0, 1, 0);
    assert_int_equal(table.events, 4);
    app_unref(app);
    app_unref(other);
}

static void what_is_in_requests_is_not_dropped(void **state) {
    struct app *app = app_with("a", "x"), *other = app_with("b", "x");
    struct webhook *webhook;

    (void)state;
    add_events(app, 0, 10, SLICE("1"));
    webhook = webhook_table_due(&table, 150);
    assert_non_null(webhook_queue_take(&webhook->queue, 150));
    webhook_table_update(&table, webhook);
    add_events(other, 0, 7, SLICE("1"));
    assert_counts("a", 0, 10, 0);
    assert_counts("b", 0, 5, 2);
    app_unref(app);
    app_unref(other);
}

static void a_webhook_keeps_its_queue_wherever_its_target_is_in_the_new_record(void **state) {
    struct app *before = app_with("a", "xyx"), *after = app_with("a", "zxx");

    (void)state;
    add_events(before, 0, 1, SLICE("1"));
    add_events(before, 1, 2, SLICE("1"));
    add_events(before, 2, 3, SLICE("1"));
    webhook_table_change(&table, SLICE("a"), after);
    assert_counts("a", 0, 0, 0);
    assert_counts("a", 1, 1, 0);
    assert_counts("a", 2, 3, 0);
    assert_int_equal(table.events, 4);
    webhook_table_change(&table, SLICE("a"), NULL);
    assert_int_equal(table.events, 0);
    app_unref(before);
    app_unref(after);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(a_webhook_over_its_bound_loses_its_oldest_events),
        CASE(over_the_bound_of_all_the_webhook_with_the_most_loses_events),
        CASE(bytes_are_bounded_too),
        CASE(of_the_app_with_the_most_the_webhook_with_the_most_loses_events),
        CASE(with_little_memory_the_bytes_of_all_are_half_of_the_share),
        CASE(what_is_in_requests_is_not_dropped),
        CASE(a_webhook_keeps_its_queue_wherever_its_target_is_in_the_new_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
