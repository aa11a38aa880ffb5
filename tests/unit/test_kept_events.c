/* The events that cache channels keep, in sum: their memory, fairness among apps, expiry. */
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
#include "channel/channel_internal.h"
#include "harness.h"

#define KB ((size_t)1024)
#define MB (KB * KB)
#define LIMIT (8 * MB)

enum { FLOODER, OTHER, APPS, CHANNELS_MAX = 100 };

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slots[APPS];
static char text[400 * 1024]; /* data of events: the first byte is a quote, and so is the last one of each event */

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .cache_ttl_s = 60, .cache_max_channels = CHANNELS_MAX, .group_max_messages = 64, .group_max_bytes = 65536};

    (void)state;
    memset(text, '"', sizeof text);
    harness_create(&workers, 2);
    hub = channel_hub_create(&workers, &settings);
    for (unsigned i = 0; i < APPS; i++)
        slots[i] = app_slot_create(i == FLOODER ? SLICE("flooder") : SLICE("other"), 2);
    budget_set_limit(LIMIT);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_settle_all(&workers);
    channel_hub_destroy(hub);
    for (unsigned i = 0; i < APPS; i++) {
        const struct channel_table *table = atomic_load(&slots[i]->channels);

        if (table != NULL)
            assert_int_equal(table->kept.bytes, 0);
        app_slot_destroy(slots[i], channel_table_destroy);
    }
    harness_destroy(&workers);
    assert_int_equal(budget_used(BUDGET_KEPT_EVENTS), 0);
    assert_int_equal(budget_used(BUDGET_CHANNELS), 0);
    budget_set_limit(0);
    return 0;
}

/* Publishes an event of `bytes` to `count` channels whose numbers begin with `first`. */
static void keep(unsigned app, unsigned first, unsigned count, size_t bytes) {
    struct cached_event *shared = NULL;
    const struct channel_event event = {
        .event = SLICE("\"e\""), .data = {text, bytes}, .keep = true, .shared = &shared};
    char name[30];

    for (unsigned i = first; i < first + count; i++) {
        snprintf(name, sizeof name, "cache-%u", i);
        channel_publish(hub, slots[app], workers.list[0], slice_of(name), &event, NULL);
    }
    channel_event_end(shared);
    harness_settle_all(&workers);
}

static size_t kept_length(unsigned app, unsigned number) {
    struct channel_info info;
    char name[30];
    size_t length;

    snprintf(name, sizeof name, "cache-%u", number);
    channel_inspect(slots[app], slice_of(name), true, &info);
    length = info.cached_data.length;
    buffer_dispose(&info.cached_data);
    return length;
}

static void the_channels_of_a_publish_share_its_data(void **state) {
    (void)state;
    keep(OTHER, 0, CHANNELS_MAX, 100 * KB);
    assert_in_range(budget_used(BUDGET_KEPT_EVENTS), 100 * KB, 101 * KB);
    assert_int_equal(kept_length(OTHER, 0), 100 * KB);
    assert_int_equal(kept_length(OTHER, CHANNELS_MAX - 1), 100 * KB);
    keep(OTHER, 0, CHANNELS_MAX - 1, 10);
    assert_in_range(budget_used(BUDGET_KEPT_EVENTS), 100 * KB, 101 * KB); /* the last channel still has it */
    keep(OTHER, CHANNELS_MAX - 1, 1, 20);
    assert_in_range(budget_used(BUDGET_KEPT_EVENTS), 1, KB);
}

static void an_app_with_too_many_channels_throws_out_its_own_oldest(void **state) {
    (void)state;
    keep(OTHER, 0, 10, 10);
    for (unsigned i = 0; i < 5 * CHANNELS_MAX; i++)
        keep(FLOODER, i, 1, 10);
    assert_int_equal(hub->kept.idle_count, CHANNELS_MAX);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(kept_length(OTHER, i), 10);
    assert_int_equal(kept_length(FLOODER, 5 * CHANNELS_MAX - (CHANNELS_MAX - 10)), 10);
    assert_int_equal(kept_length(FLOODER, 5 * CHANNELS_MAX - (CHANNELS_MAX - 10) - 1), 0);
}

static void an_app_with_too_many_bytes_throws_out_its_own_oldest(void **state) {
    (void)state;
    keep(OTHER, 0, 1, KB);
    for (unsigned i = 0; i < 50; i++)
        keep(FLOODER, i, 1, 100 * KB);
    assert_in_range(budget_used(BUDGET_KEPT_EVENTS), LIMIT / 8, budget_kind_limit(BUDGET_KEPT_EVENTS));
    assert_int_equal(kept_length(OTHER, 0), KB);
    assert_int_equal(kept_length(FLOODER, 49), 100 * KB);
    assert_int_equal(kept_length(FLOODER, 0), 0);
    assert_null(channel_find(slots[FLOODER], SLICE("cache-0"))); /* the channel went with it */
    keep(OTHER, 1, 1, 200 * KB);
    assert_int_equal(kept_length(OTHER, 1), 200 * KB);
    assert_int_equal(kept_length(OTHER, 0), KB);
}

/* Much of what is dropped frees nothing, since other channels have the same event; there is room in reserve. */
static void large_events_in_many_channels_leave_room_for_others(void **state) {
    (void)state;
    hub->settings.cache_max_channels = 0;
    for (unsigned i = 0; i < 20; i++) {
        keep(FLOODER, 1000 * i, 1000, 100 * KB);
        keep(OTHER, i, 1, 10 * KB);
        assert_int_equal(kept_length(OTHER, i), 10 * KB);
        assert_in_range(budget_used(BUDGET_KEPT_EVENTS), 1, budget_kind_limit(BUDGET_KEPT_EVENTS));
    }
    assert_int_equal(kept_length(OTHER, 0), 10 * KB);
}

/* --- channels with subscribers --- */

struct subscriber_peer {
    struct stream *stream;
    int client;
    struct subscription subscriptions[100];
};

static void open_subscriber(struct subscriber_peer *peer) {
    peer->stream = harness_open(workers.list[1], NULL, &peer->client);
}

static void join_kept(struct subscriber_peer *peer, unsigned app, unsigned number) {
    struct channel_join join = {0};
    char name[30];

    snprintf(name, sizeof name, "cache-%u", number);
    assert_int_equal(
        channel_subscribe(hub, slots[app], peer->stream, slice_of(name), &peer->subscriptions[number], &join),
        CHANNEL_JOINED);
    if (join.cached != NULL)
        frame_unref(join.cached);
}

/* What it has not read would count for the app. */
static void read_all(struct subscriber_peer *peer) {
    struct buffer in = {0};

    do {
        in.length = 0;
        harness_settle_all(&workers);
        harness_receive(peer->client, &in);
    } while (in.length != 0);
    buffer_dispose(&in);
}

static void close_subscriber(struct subscriber_peer *peer, unsigned subscriptions) {
    for (unsigned i = 0; i < subscriptions; i++)
        channel_leave(hub, &peer->subscriptions[i], NULL);
    harness_close(peer->stream, peer->client);
}

static void events_of_channels_with_subscribers_go_last_but_go(void **state) {
    struct subscriber_peer peer;

    (void)state;
    open_subscriber(&peer);
    for (unsigned i = 0; i < 5; i++)
        join_kept(&peer, FLOODER, i);
    keep(FLOODER, 0, 5, 100 * KB);
    read_all(&peer);
    for (unsigned i = 5; i < 50; i++)
        keep(FLOODER, i, 1, 100 * KB);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(kept_length(FLOODER, i), 100 * KB);
    for (unsigned i = 5; i < 50; i++)
        join_kept(&peer, FLOODER, i);
    for (unsigned i = 5; i < 50; i++) {
        keep(FLOODER, i, 1, 101 * KB);
        read_all(&peer);
    }
    assert_int_equal(kept_length(FLOODER, 5), 0);
    assert_int_equal(kept_length(FLOODER, 49), 101 * KB);
    assert_in_range(budget_used(BUDGET_KEPT_EVENTS), MB, budget_kind_limit(BUDGET_KEPT_EVENTS));
    assert_int_equal(hub->kept.idle_count, 0);
    close_subscriber(&peer, 50);
    assert_true(hub->kept.idle_count > 10);
}

/* --- nothing is kept --- */

static void while_memory_is_short_nothing_is_kept_and_the_event_before_is_forgotten(void **state) {
    uint64_t refusals;

    (void)state;
    keep(OTHER, 0, 1, KB);
    keep(OTHER, 1, 1, KB);
    budget_add(BUDGET_OUTPUT, NULL, LIMIT);
    refusals = budget_refusals(BUDGET_KEPT_EVENTS);
    keep(OTHER, 0, 1, 2 * KB);
    keep(OTHER, 2, 10, KB);
    assert_int_equal(budget_refusals(BUDGET_KEPT_EVENTS) - refusals, 2); /* one for each event */
    assert_int_equal(kept_length(OTHER, 0), 0);
    assert_int_equal(kept_length(OTHER, 1), KB); /* what is there goes on */
    assert_int_equal(kept_length(OTHER, 2), 0);
    assert_null(channel_find(slots[OTHER], SLICE("cache-0")));
    assert_null(channel_find(slots[OTHER], SLICE("cache-2")));
    budget_give(BUDGET_OUTPUT, NULL, LIMIT);
    keep(OTHER, 0, 1, KB);
    assert_int_equal(kept_length(OTHER, 0), KB);
}

static void an_event_that_is_too_large_is_not_kept_and_throws_nothing_out(void **state) {
    (void)state;
    keep(OTHER, 0, 1, KB);
    keep(FLOODER, 0, 1, 300 * KB); /* over an eighth of a quarter of the limit */
    assert_int_equal(kept_length(FLOODER, 0), 0);
    assert_int_equal(kept_length(OTHER, 0), KB);
}

/* --- expiry --- */

static void events_expire_with_subscribers_and_without(void **state) {
    struct subscriber_peer peer;

    (void)state;
    open_subscriber(&peer);
    join_kept(&peer, OTHER, 0);
    keep(OTHER, 0, 2, KB);
    channel_hub_expire(hub, workers.list[0]->now_ms + 59999);
    assert_true(budget_used(BUDGET_KEPT_EVENTS) > 0);
    channel_hub_expire(hub, workers.list[0]->now_ms + 60000);
    assert_int_equal(budget_used(BUDGET_KEPT_EVENTS), 0);
    assert_null(channel_find(slots[OTHER], SLICE("cache-1")));
    close_subscriber(&peer, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_channels_of_a_publish_share_its_data),
        TEST(an_app_with_too_many_channels_throws_out_its_own_oldest),
        TEST(an_app_with_too_many_bytes_throws_out_its_own_oldest),
        TEST(large_events_in_many_channels_leave_room_for_others),
        TEST(events_of_channels_with_subscribers_go_last_but_go),
        TEST(while_memory_is_short_nothing_is_kept_and_the_event_before_is_forgotten),
        TEST(an_event_that_is_too_large_is_not_kept_and_throws_nothing_out),
        TEST(events_expire_with_subscribers_and_without),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
