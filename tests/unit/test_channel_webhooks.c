/* The events of webhooks that joining, leaving and publishing cause: which, in which order, and at no cost for others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/budget.h"
#include "base/clock.h"
#include "channel/channel_internal.h"
#include "harness.h"

#define PEERS_MAX 128

struct peer {
    struct stream *stream;
    int client;
    struct subscription own;
};

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct app *app;
static struct peer peers[PEERS_MAX];
static struct webhook_outlet outlet;

/* What was posted and not yet checked, a line each. */
static struct buffer posted;
static struct webhook_event *waiting[1000];
static unsigned waiting_count;
static unsigned wakes;

/* --- an outlet that keeps events for the test --- */

static void note_event(const struct webhook_event *event) {
    const struct webhook_details *details = &event->details;

    buffer_appendf(&posted, "%s %.*s", app_webhook_event_name(event->kind), SLICE_ARGS(details->channel));
    if (details->user_id.data != NULL)
        buffer_appendf(&posted, " %.*s", SLICE_ARGS(details->user_id));
    if (details->event.data != NULL)
        buffer_appendf(&posted, " %.*s %.*s %.*s", SLICE_ARGS(details->event), SLICE_ARGS(details->data),
                       SLICE_ARGS(details->socket_id));
    if (event->kind == WEBHOOK_SUBSCRIPTION_COUNT)
        buffer_appendf(&posted, " %u", event->count);
    buffer_append_byte(&posted, '\n');
}

static void keep_event(struct webhook_thread *thread, struct webhook_message *message) {
    struct webhook_event *event = container_of(message, struct webhook_event, message);

    (void)thread;
    assert_true(waiting_count < sizeof waiting / sizeof waiting[0]);
    waiting[waiting_count++] = event;
    note_event(event);
}

static void count_wake(struct webhook_thread *thread) {
    (void)thread;
    wakes++;
}

static void take_events(void) {
    for (unsigned i = 0; i < waiting_count; i++) {
        webhook_event_taken(waiting[i]);
        webhook_event_free(waiting[i]);
    }
    waiting_count = 0;
}

/* Checks what was posted since the last check, and frees it. */
static void assert_posted(const char *expected) {
    assert_string_equal(buffer_string(&posted), expected);
    posted.length = 0;
    take_events();
}

/* --- the app, and connections to its channels --- */

/* Replaces the record by one with these webhooks; NULL: the app is deleted. */
static void set_webhooks(const char *webhooks) {
    const struct app_defaults defaults = {0};
    struct buffer text = {0};
    struct error error;
    json_t *json;

    app_unref(atomic_exchange(&slot->current, NULL));
    app = NULL;
    if (webhooks == NULL)
        return;
    buffer_appendf(&text, "{\"id\":\"42\",\"key\":\"k\",\"secret\":\"s\",\"webhooks\":%s}", webhooks);
    json = json_loads(buffer_string(&text), 0, NULL);
    assert_non_null(json);
    app = app_parse(json, &defaults, APP_FROM_CONFIGURATION, NULL, NULL, &error);
    assert_non_null(app);
    atomic_store(&slot->current, app);
    json_decref(json);
    buffer_dispose(&text);
}

#define EVERYTHING                                                                                                     \
    "[{\"url\":\"http://h\",\"event_types\":[\"channel_occupied\",\"channel_vacated\",\"member_added\","               \
    "\"member_removed\",\"client_event\",\"cache_miss\",\"subscription_count\"]}]"

static void join_as(unsigned peer, const char *channel, const char *user) {
    struct channel_join join = {.user_id = slice_of(user), .user_info = SLICE("{}"), .app = app};

    assert_int_equal(channel_subscribe(hub, slot, peers[peer].stream, slice_of(channel), &peers[peer].own, &join),
                     CHANNEL_JOINED);
    member_list_unref(join.members);
}

static void join(unsigned peer, const char *channel) {
    join_as(peer, channel, NULL);
}

static void leave(unsigned peer) {
    channel_leave(hub, &peers[peer].own, app);
}

static void pass(uint64_t ms) {
    for (unsigned i = 0; i < workers.count; i++) {
        harness_advance(workers.list[i], ms);
        harness_settle(workers.list[i]);
    }
}

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .group_max_messages = 64, .group_max_bytes = 65536, .webhooks = &outlet};

    (void)state;
    outlet = (struct webhook_outlet){.post = keep_event,
                                     .wake = count_wake,
                                     .handle = keep_event,
                                     .max_events = 1000,
                                     .max_bytes = 1000000,
                                     .max_app_events = SIZE_MAX,
                                     .max_app_bytes = SIZE_MAX};
    harness_create(&workers, 2);
    hub = channel_hub_create(&workers, &settings);
    slot = app_slot_create(SLICE("42"), workers.count);
    set_webhooks(EVERYTHING);
    wakes = 0;
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        peers[i] = (struct peer){0};
        peers[i].stream = harness_open(workers.list[i % 2], &peers[i], &peers[i].client);
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (peers[i].own.channel != NULL)
            leave(i);
        stream_close(peers[i].stream);
        close(peers[i].client);
    }
    pass(10000);
    channel_hub_destroy(hub);
    app_slot_destroy(slot, channel_table_destroy);
    harness_destroy(&workers);
    take_events();
    assert_int_equal(atomic_load(&outlet.events), 0);
    assert_int_equal(atomic_load(&outlet.bytes), 0);
    assert_int_equal(budget_used(BUDGET_WEBHOOKS), 0);
    budget_set_limit(0);
    buffer_dispose(&posted);
    return 0;
}

/* --- which events, in which order --- */

static void the_first_subscriber_and_the_last_one_are_told(void **state) {
    (void)state;
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"channel_occupied\"]}]");
    join(0, "chat");
    assert_posted("channel_occupied chat\n");
    join(1, "chat");
    leave(0);
    assert_posted("");
    leave(1);
    assert_posted("channel_vacated chat\n"); /* made for its opposite, which it may end */
    join(0, "chat");
    assert_posted("channel_occupied chat\n");
}

static void a_presence_channel_tells_users_not_connections(void **state) {
    (void)state;
    join_as(0, "presence-a", "1");
    assert_posted("channel_occupied presence-a\nmember_added presence-a \"1\"\n");
    join_as(1, "presence-a", "1");
    assert_posted("");
    join_as(2, "presence-a", "a\"b");
    assert_posted("member_added presence-a \"a\\\"b\"\n");
    leave(0);
    assert_posted("");
    leave(1);
    assert_posted("member_removed presence-a \"1\"\n");
    leave(2);
    assert_posted("member_removed presence-a \"a\\\"b\"\nchannel_vacated presence-a\n");
}

static void a_refused_member_causes_nothing(void **state) {
    struct channel_join answers = {.user_id = SLICE("2"), .user_info = SLICE("{}"), .max_members = 1, .app = app};

    (void)state;
    join_as(0, "presence-a", "1");
    assert_posted("channel_occupied presence-a\nmember_added presence-a \"1\"\n");
    assert_int_equal(channel_subscribe(hub, slot, peers[1].stream, SLICE("presence-a"), &peers[1].own, &answers),
                     CHANNEL_FULL);
    assert_posted("");
}

static void counts_are_told_down_to_zero_but_not_of_presence_channels(void **state) {
    (void)state;
    set_webhooks(
        "[{\"url\":\"http://h\",\"event_types\":[\"subscription_count\"],"
        "\"filter\":{\"channel_suffix\":\"a\"}}]");
    join(0, "a");
    join(1, "a");
    leave(0);
    leave(1);
    assert_posted("subscription_count a 1\nsubscription_count a 2\nsubscription_count a 1\nsubscription_count a 0\n");
    join_as(0, "presence-a", "1");
    join(1, "b");
    assert_posted("");
}

static void the_count_of_a_large_channel_is_told_every_5_s(void **state) {
    enum { MANY = 120 };

    (void)state;
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"subscription_count\"]}]");
    for (unsigned i = 0; i < 100; i++)
        join(i, "a");
    take_events();
    posted.length = 0;
    for (unsigned i = 100; i < MANY; i++)
        join(i, "a");
    assert_posted("");
    pass(6000);
    assert_posted("subscription_count a 120\n");
    pass(20000);
    assert_posted("");
    for (unsigned i = MANY; i-- != 110;)
        leave(i);
    assert_posted("subscription_count a 119\n");
    pass(6000);
    assert_posted("subscription_count a 110\n");
    leave(109);
    for (unsigned i = 109; i-- != 99;)
        leave(i);
    assert_posted("subscription_count a 100\nsubscription_count a 99\n"); /* small again: at once */
    pass(6000);
    assert_posted(""); /* what was due was told meanwhile */
}

static void a_count_that_is_due_is_not_told_after_the_channel_is_empty(void **state) {
    (void)state;
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"subscription_count\",\"channel_vacated\"]}]");
    for (unsigned i = 0; i < 110; i++)
        join(i, "a");
    take_events();
    posted.length = 0;
    for (unsigned i = 1; i < 101; i++)
        leave(i);
    take_events();
    posted.length = 0;
    for (unsigned i = 101; i < 110; i++)
        leave(i);
    take_events();
    posted.length = 0;
    leave(0);
    assert_posted("subscription_count a 0\nchannel_vacated a\n");
    pass(10000);
    assert_posted("");
}

static void a_users_channel_causes_nothing(void **state) {
    (void)state;
    join(0, "#server-to-user-1");
    leave(0);
    assert_posted("");
}

static void a_client_event_is_posted_with_its_publication(void **state) {
    const struct webhook_details details = {.channel = SLICE("private-a"),
                                            .event = SLICE("\"client-x\""),
                                            .data = SLICE("{ \"a\":1.50}"),
                                            .socket_id = SLICE("1.2")};
    struct webhook_draft draft = {0};
    struct channel_event event = {.event = details.event, .data = details.data, .webhook = &draft};
    uint64_t before_ms = clock_wall_ms();

    (void)state;
    join(0, "private-a");
    assert_posted("channel_occupied private-a\nsubscription_count private-a 1\n");
    webhook_draft_begin(&draft, &outlet, app, WEBHOOK_CLIENT_EVENT, &details);
    channel_publish(hub, slot, workers.list[0], details.channel, &event, NULL);
    webhook_draft_end(&draft);
    assert_int_equal(waiting_count, 1);
    assert_ptr_equal(waiting[0]->app, app);
    assert_true(waiting[0]->time_ms >= before_ms && waiting[0]->time_ms <= clock_wall_ms());
    assert_posted("client_event private-a \"client-x\" { \"a\":1.50} 1.2\n");
    webhook_draft_begin(&draft, &outlet, app, WEBHOOK_CLIENT_EVENT, &details);
    channel_publish(hub, slot, workers.list[0], SLICE("private-empty"), &event, NULL);
    webhook_draft_end(&draft);
    assert_posted(""); /* it was not published */
}

/* --- who is told --- */

static void an_app_that_is_disabled_tells_and_one_that_is_deleted_does_not(void **state) {
    (void)state;
    join_as(0, "presence-a", "1");
    assert_posted("channel_occupied presence-a\nmember_added presence-a \"1\"\n");
    app->enabled = false;
    leave(0);
    assert_posted("member_removed presence-a \"1\"\nchannel_vacated presence-a\n");
    join_as(0, "presence-a", "1");
    take_events();
    posted.length = 0;
    set_webhooks(NULL);
    leave(0);
    assert_posted("");
}

static void a_changed_record_counts_at_once(void **state) {
    (void)state;
    set_webhooks("[]");
    join(0, "a");
    assert_posted("");
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"channel_vacated\"]}]");
    leave(0);
    assert_posted("channel_vacated a\n");
}

static void the_thread_is_woken_for_each_posted_event_only(void **state) {
    (void)state;
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"channel_vacated\"]}]");
    join(0, "a");
    join(1, "a");
    leave(0);
    assert_int_equal(wakes, 1); /* channel_occupied */
    leave(1);
    assert_int_equal(wakes, 2);
}

/* --- bounds --- */

static void events_over_a_bound_are_dropped_and_counted(void **state) {
    (void)state;
    outlet.max_events = 2;
    join(0, "a"); /* channel_occupied, subscription_count */
    join(1, "b");
    assert_posted("channel_occupied a\nsubscription_count a 1\n");
    assert_int_equal(atomic_load(&outlet.dropped), 2);
    leave(0);
    assert_posted("subscription_count a 0\nchannel_vacated a\n"); /* there is room again */
    outlet.max_bytes = alloc_footprint(sizeof(struct webhook_event) + 1);
    join(0, "a");
    assert_posted("channel_occupied a\n");
    assert_int_equal(atomic_load(&outlet.dropped), 3);
    outlet.max_bytes = sizeof(struct webhook_event);
    join(2, "c");
    assert_posted("");
    assert_int_equal(atomic_load(&outlet.dropped), 5);
}

static void an_app_over_its_share_leaves_room_for_others(void **state) {
    const struct webhook_details details = {.channel = SLICE("x")};
    struct app other = {.references = 1, .id = SLICE("43"), .webhook_kinds = WEBHOOK_CHANNEL_OCCUPIED};
    struct webhook_draft draft = {0};

    (void)state;
    outlet.max_app_events = 2;
    join(0, "a"); /* channel_occupied, subscription_count */
    join(1, "b");
    assert_int_equal(atomic_load(&outlet.dropped), 2);
    webhook_draft_make(&draft, &outlet, &other, WEBHOOK_CHANNEL_OCCUPIED, &details);
    webhook_draft_post(&draft, 0);
    webhook_draft_end(&draft);
    assert_posted("channel_occupied a\nsubscription_count a 1\nchannel_occupied x\n");
    leave(0);
    assert_posted("subscription_count a 0\nchannel_vacated a\n"); /* there is room again */
    outlet.max_app_bytes = alloc_footprint(sizeof(struct webhook_event) + 1);
    join(0, "a");
    assert_posted("channel_occupied a\n");
    assert_int_equal(atomic_load(&outlet.dropped), 3);
    assert_int_equal(atomic_load(&other.references), 1);
}

static void without_memory_events_are_dropped_and_counted(void **state) {
    (void)state;
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"channel_occupied\"]}]");
    budget_set_limit(1000000);
    join(0, "a");
    assert_true(budget_used(BUDGET_WEBHOOKS) > 0); /* it waits */
    assert_posted("channel_occupied a\n");
    budget_add(BUDGET_WEBHOOKS, NULL, 250000); /* the share of webhooks */
    join(1, "b");
    assert_posted("");
    assert_int_equal(atomic_load(&outlet.dropped), 1);
    budget_give(BUDGET_WEBHOOKS, NULL, 250000);
    join(2, "c");
    assert_posted("channel_occupied c\n");
}

/* --- what it costs those that do not use it --- */

/* Allocations of a subscription, a client event, a cache miss's lookup and a leave. */
static uint64_t allocations_of_a_visit(void) {
    struct webhook_draft draft = {0};
    struct channel_event event = {.event = SLICE("\"client-x\""), .data = SLICE("1"), .webhook = &draft};
    uint64_t before = harness_allocations();

    join_as(0, "presence-a", "1");
    webhook_draft_begin(&draft, &outlet, app, WEBHOOK_CLIENT_EVENT,
                        &(struct webhook_details){.channel = SLICE("presence-a")});
    channel_publish(hub, slot, workers.list[0], SLICE("presence-a"), &event, NULL);
    webhook_draft_end(&draft);
    leave(0);
    return harness_allocations() - before;
}

static void a_webhook_that_is_excluded_costs_nothing(void **state) {
    uint64_t without;

    (void)state;
    set_webhooks("[]");
    allocations_of_a_visit(); /* makes tables */
    pass(0);
    without = allocations_of_a_visit();
    pass(0);
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"cache_miss\"]}]");
    assert_int_equal(allocations_of_a_visit(), without);
    pass(0);
    set_webhooks(
        "[{\"url\":\"http://h\",\"event_types\":[\"channel_occupied\",\"member_removed\",\"client_event\"],"
        "\"filter\":{\"channel_prefix\":\"private-\"}}]");
    assert_int_equal(allocations_of_a_visit(), without);
    pass(0);
    assert_posted("");
    assert_int_equal(wakes, 0);
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"client_event\"]}]");
    assert_int_equal(allocations_of_a_visit(), without + 1);
    assert_int_equal(wakes, 1);
}

static void without_an_outlet_nothing_is_made(void **state) {
    uint64_t without;

    (void)state;
    set_webhooks("[]");
    allocations_of_a_visit();
    pass(0);
    without = allocations_of_a_visit();
    pass(0);
    set_webhooks("[{\"url\":\"http://h\",\"event_types\":[\"channel_occupied\",\"member_removed\"]}]");
    hub->settings.webhooks = NULL;
    assert_int_equal(allocations_of_a_visit(), without);
    assert_posted("");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_first_subscriber_and_the_last_one_are_told),
        TEST(a_presence_channel_tells_users_not_connections),
        TEST(a_refused_member_causes_nothing),
        TEST(counts_are_told_down_to_zero_but_not_of_presence_channels),
        TEST(the_count_of_a_large_channel_is_told_every_5_s),
        TEST(a_count_that_is_due_is_not_told_after_the_channel_is_empty),
        TEST(a_users_channel_causes_nothing),
        TEST(a_client_event_is_posted_with_its_publication),
        TEST(an_app_that_is_disabled_tells_and_one_that_is_deleted_does_not),
        TEST(a_changed_record_counts_at_once),
        TEST(the_thread_is_woken_for_each_posted_event_only),
        TEST(events_over_a_bound_are_dropped_and_counted),
        TEST(an_app_over_its_share_leaves_room_for_others),
        TEST(without_memory_events_are_dropped_and_counted),
        TEST(a_webhook_that_is_excluded_costs_nothing),
        TEST(without_an_outlet_nothing_is_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
