/* The memory that channels hold in the account of base/budget.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/budget.h"
#include "channel/channel_internal.h"
#include "harness.h"
#include "session/subscription_set.h"

#define MB ((size_t)1024 * 1024)

static struct workers workers;
static struct channel_hub *hub;
static struct app_slot *slot;
static struct stream *stream;
static int client;

static int set_up(void **state) {
    const struct channel_hub_settings settings = {
        .cache_ttl_s = 60, .cache_max_channels = 100, .group_max_messages = 64, .group_max_bytes = 65536};
    (void)state;
    budget_set_limit(0);
    harness_create(&workers, 2);
    hub = channel_hub_create(&workers, &settings);
    slot = app_slot_create(SLICE("42"), 2);
    stream = harness_open(workers.list[0], NULL, &client);
    return 0;
}

static uint64_t app_bytes(void) {
    return budget_app_held(slot->budget);
}

static int tear_down(void **state) {
    (void)state;
    harness_close(stream, client);
    harness_settle_all(&workers);
    channel_hub_destroy(hub);
    app_slot_destroy(slot, channel_table_destroy);
    harness_destroy(&workers);
    assert_int_equal(budget_used(BUDGET_CHANNELS), 0);
    assert_int_equal(budget_used(BUDGET_PRESENCE), 0);
    budget_set_limit(0);
    return 0;
}

/* Subscribes as a session does; to a presence channel as `user`. */
static enum channel_joined subscribe_as(struct subscription_set *set, const char *name, const char *user,
                                        const char *info, struct subscription **made) {
    struct subscription *subscription = malloc(sizeof *subscription);
    size_t bytes = subscriptions_bytes_of_next(set);
    struct channel_join join = {.user_id = slice_of(user), .user_info = slice_of(info)};
    enum channel_joined joined = channel_subscribe(hub, slot, stream, slice_of(name), subscription, &join);

    member_list_unref(join.members);
    if (joined == CHANNEL_JOINED) {
        budget_add(BUDGET_CHANNELS, slot->budget, bytes);
        subscriptions_add(set, subscription);
    } else {
        free(subscription);
    }
    *made = joined == CHANNEL_JOINED ? subscription : NULL;
    return joined;
}

static enum channel_joined subscribe(struct subscription_set *set, const char *name, struct subscription **made) {
    return subscribe_as(set, name, "", "", made);
}

static void unsubscribe(struct subscription_set *set, struct subscription *subscription) {
    size_t bytes = subscriptions_bytes(set);

    subscriptions_remove(set, subscription);
    budget_give(BUDGET_CHANNELS, slot->budget, bytes - subscriptions_bytes(set));
    channel_leave(hub, subscription, NULL);
    free(subscription);
}

/* --- the figures --- */

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* What is allocated: with a sanitizer without malloc's own headers and padding. */
static size_t allocated_bytes(void) {
    if (__sanitizer_get_current_allocated_bytes != NULL)
        return __sanitizer_get_current_allocated_bytes();
    return mallinfo2().uordblks + mallinfo2().hblkhd;
}

static void assert_accounted(uint64_t accounted, size_t really) {
    if (accounted < really * 0.9 || accounted > really * 1.2)
        fail_msg("%llu bytes are accounted for %zu", (unsigned long long)accounted, really);
}

static void a_hundred_thousand_channels_are_counted_as_they_are(void **state) {
    enum { CONNECTIONS = 10, EACH = 10000 };
    struct subscription **made = malloc(CONNECTIONS * EACH * sizeof *made);
    struct subscription_set sets[CONNECTIONS] = {0};
    size_t before = allocated_bytes();
    char name[40];

    (void)state;
    for (unsigned i = 0; i < CONNECTIONS * EACH; i++) {
        snprintf(name, sizeof name, "channel-of-a-flood-%u", i);
        assert_int_equal(subscribe(&sets[i / EACH], name, &made[i]), CHANNEL_JOINED);
    }
    assert_accounted(app_bytes(), allocated_bytes() - before);
    assert_int_equal(budget_used(BUDGET_CHANNELS), app_bytes());
    for (unsigned i = 0; i < CONNECTIONS * EACH; i++)
        unsubscribe(&sets[i / EACH], made[i]);
    assert_int_equal(app_bytes(), 0);
    /* The app's table in its first size, and what malloc keeps at hand. */
    assert_in_range(allocated_bytes() - before, 0, 50000);
    free(made);
}

static void many_subscriptions_to_one_channel_are_counted_as_they_are(void **state) {
    enum { CONNECTIONS = 20000 };
    struct subscription_set *sets = calloc(CONNECTIONS, sizeof *sets);
    struct subscription **made = malloc(CONNECTIONS * sizeof *made);
    size_t before = allocated_bytes(), full;

    (void)state;
    for (unsigned i = 0; i < CONNECTIONS; i++)
        assert_int_equal(subscribe(&sets[i], "news", &made[i]), CHANNEL_JOINED);
    full = app_bytes();
    assert_in_range(full, (allocated_bytes() - before) * 0.9, (allocated_bytes() - before) * 1.4);
    for (unsigned i = 1; i < CONNECTIONS; i++)
        unsubscribe(&sets[i], made[i]);
    assert_in_range(app_bytes(), 1, full / 100); /* the list has shrunk */
    unsubscribe(&sets[0], made[0]);
    assert_int_equal(app_bytes(), 0);
    free(sets);
    free(made);
}

/* Events to the members wait in the workers' mailboxes and in the stream, which are not part of these figures. */
static void deliver(void) {
    struct buffer in = {0};

    harness_settle_all(&workers);
    harness_receive(client, &in);
    buffer_dispose(&in);
}

static void assert_members_accounted(unsigned channels, unsigned count) {
    struct subscription **made = malloc(count * sizeof *made);
    struct subscription_set set[10] = {0}; /* no two subscriptions of a set are to one channel */
    size_t before;
    char name[40], user[20];

    deliver();
    before = allocated_bytes();
    for (unsigned i = 0; i < count; i++) {
        snprintf(name, sizeof name, "presence-%u", i % channels);
        snprintf(user, sizeof user, "user-%u", i);
        assert_int_equal(
            subscribe_as(&set[i / channels], name, user, "{\"name\":\"A name as people have it\"}", &made[i]),
            CHANNEL_JOINED);
        if (i % 100 == 99)
            deliver();
    }
    deliver();
    assert_accounted(app_bytes(), allocated_bytes() - before);
    assert_in_range(budget_used(BUDGET_PRESENCE), count * 150, app_bytes());
    for (unsigned i = 0; i < count; i++)
        unsubscribe(&set[i / channels], made[i]);
    deliver();
    assert_int_equal(app_bytes(), 0);
    free(made);
}

static void members_of_a_few_channels_and_of_many_are_counted_as_they_are(void **state) {
    (void)state;
    assert_members_accounted(1000, 5000);
    assert_members_accounted(2000, 2000);
}

/* --- without room --- */

static void without_room_no_channel_is_made_and_those_that_are_there_go_on(void **state) {
    struct subscription_set set = {0}, others = {0};
    struct subscription *first, *second, *none;

    (void)state;
    assert_int_equal(subscribe(&set, "a", &first), CHANNEL_JOINED);
    budget_set_limit(MB);
    budget_add(BUDGET_BODIES, NULL, MB);
    assert_int_equal(subscribe(&set, "b", &none), CHANNEL_NO_MEMORY);
    assert_null(channel_find(slot, SLICE("b")));
    assert_int_equal(subscribe(&others, "a", &second), CHANNEL_JOINED);
    budget_give(BUDGET_BODIES, NULL, MB);
    unsubscribe(&others, second);
    assert_int_equal(subscribe(&set, "b", &second), CHANNEL_JOINED);
    unsubscribe(&set, first);
    unsubscribe(&set, second);
}

static void without_room_a_user_who_is_a_member_joins_again_and_a_new_one_does_not(void **state) {
    struct subscription_set set = {0}, others = {0};
    struct subscription *first, *second, *none;

    (void)state;
    assert_int_equal(subscribe_as(&set, "presence-a", "1", "{}", &first), CHANNEL_JOINED);
    budget_set_limit(MB);
    budget_add(BUDGET_BODIES, NULL, MB);
    assert_int_equal(subscribe_as(&others, "presence-a", "1", "{}", &second), CHANNEL_JOINED);
    assert_int_equal(subscribe_as(&others, "presence-a", "2", "{}", &none), CHANNEL_NO_MEMORY);
    budget_give(BUDGET_BODIES, NULL, MB);
    unsubscribe(&set, first);
    unsubscribe(&others, second);
    assert_null(channel_find(slot, SLICE("presence-a")));
}

static void without_room_for_members_a_channel_that_was_made_for_one_goes_again(void **state) {
    struct subscription_set set = {0};
    struct subscription *none;

    (void)state;
    budget_set_limit(MB);
    budget_add(BUDGET_PRESENCE, NULL, MB / 2); /* more than the share of this kind */
    assert_int_equal(subscribe_as(&set, "presence-a", "1", "{}", &none), CHANNEL_NO_MEMORY);
    assert_null(channel_find(slot, SLICE("presence-a")));
    budget_give(BUDGET_PRESENCE, NULL, MB / 2);
}

static void without_room_no_user_is_watched(void **state) {
    struct subscription watched;
    bool online;

    (void)state;
    budget_set_limit(MB);
    budget_add(BUDGET_BODIES, NULL, MB);
    assert_false(channel_watch_user(hub, slot, stream, SLICE("1"), &watched, &online));
    budget_give(BUDGET_BODIES, NULL, MB);
    assert_true(channel_watch_user(hub, slot, stream, SLICE("1"), &watched, &online));
    channel_leave(hub, &watched, NULL);
}

static void an_app_that_has_taken_its_share_leaves_room_for_others(void **state) {
    struct app_slot *other = app_slot_create(SLICE("43"), 2), *flooder = slot;
    struct subscription_set flood = {0}, own = {0};
    struct subscription *made[10000], *mine;
    unsigned count = 0;
    char name[20];

    (void)state;
    budget_set_limit(3 * MB); /* 60 % of it are for channels */
    do
        snprintf(name, sizeof name, "c%u", count);
    while (subscribe(&flood, name, &made[count]) == CHANNEL_JOINED && ++count < 10000);
    assert_in_range(app_bytes(), 1.1 * MB, 1.25 * MB); /* two thirds of the share of channels */
    slot = other;
    assert_int_equal(subscribe(&own, "c", &mine), CHANNEL_JOINED);
    unsubscribe(&own, mine);
    assert_int_equal(app_bytes(), 0);
    slot = flooder;
    while (count > 0)
        unsubscribe(&flood, made[--count]);
    app_slot_destroy(other, channel_table_destroy);
}

static void a_deleted_app_gives_its_channels_back(void **state) {
    struct channel_event event = {.event = SLICE("\"e\""), .data = SLICE("\"d\""), .keep = true};

    (void)state;
    channel_publish(hub, slot, workers.list[0], SLICE("cache-a"), &event, NULL);
    assert_true(app_bytes() > 0);
    assert_true(budget_used(BUDGET_CHANNELS) > 0);
} /* tear_down checks that nothing is left */

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_hundred_thousand_channels_are_counted_as_they_are),
        TEST(many_subscriptions_to_one_channel_are_counted_as_they_are),
        TEST(members_of_a_few_channels_and_of_many_are_counted_as_they_are),
        TEST(without_room_a_user_who_is_a_member_joins_again_and_a_new_one_does_not),
        TEST(without_room_for_members_a_channel_that_was_made_for_one_goes_again),
        TEST(without_room_no_user_is_watched),
        TEST(without_room_no_channel_is_made_and_those_that_are_there_go_on),
        TEST(an_app_that_has_taken_its_share_leaves_room_for_others),
        TEST(a_deleted_app_gives_its_channels_back),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
