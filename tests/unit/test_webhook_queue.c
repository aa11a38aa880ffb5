/* The queue of one webhook: batches, lanes, order, retries. The clock is the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <string.h>

#include "webhook/webhook_queue.h"

static const struct webhook_queue_settings usual = {
    .batch_wait_ms = 50,
    .batch_size = 4,
    .retry = true,
    .max_elapsed_ms = 300000,
    .first_pause_ms = 1000,
    .last_pause_ms = 60000,
};

static struct webhook_queue queue;

/* The name of a channel of the lane. */
static struct slice channel_of_lane(unsigned lane) {
    static char names[WEBHOOK_LANES][16];

    for (unsigned i = 0; names[lane][0] == '\0'; i++) {
        char name[16];

        snprintf(name, sizeof name, "channel-%u", i);
        if (webhook_lane_of(slice_of(name)) == lane)
            strcpy(names[lane], name);
    }
    return slice_of(names[lane]);
}

static void add(unsigned lane, const char *json, uint64_t now_ms) {
    webhook_queue_add(&queue, channel_of_lane(lane), slice_of(json), now_ms + 1000000, now_ms);
}

static struct webhook_batch *take(uint64_t now_ms, const char *events) {
    struct webhook_batch *batch = webhook_queue_take(&queue, now_ms);
    char body[512];

    assert_non_null(batch);
    snprintf(body, sizeof body, "{\"time_ms\":%llu,\"events\":[%s]}", (unsigned long long)batch->oldest_wall_ms,
             events);
    assert_int_equal(batch->length, strlen(body));
    assert_memory_equal(batch->body, body, batch->length);
    return batch;
}

static int start(void **state) {
    (void)state;
    webhook_queue_init(&queue, &usual);
    return 0;
}

static int end(void **state) {
    (void)state;
    webhook_queue_dispose(&queue);
    assert_int_equal(queue.events, 0);
    assert_int_equal(queue.bytes, 0);
    return 0;
}

static void events_within_the_duration_are_one_batch_in_their_order(void **state) {
    (void)state;
    add(3, "1", 100);
    add(0, "2", 110);
    add(3, "3", 149);
    assert_null(webhook_queue_take(&queue, 149));
    assert_int_equal(webhook_queue_due_ms(&queue), 150);
    assert_int_equal(take(150, "1,2,3")->oldest_wall_ms, 1000100);
    assert_int_equal(webhook_queue_due_ms(&queue), UINT64_MAX);
}

static void a_full_batch_does_not_wait(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        add(i, "1", 100);
    assert_int_equal(webhook_queue_due_ms(&queue), 0);
    take(100, "1,1,1,1");
}

static void a_channel_waits_for_its_own_batch_only(void **state) {
    struct webhook_batch *first;

    (void)state;
    add(1, "1", 100);
    first = take(150, "1");
    add(1, "2", 160);
    add(2, "3", 160);
    take(210, "3");
    assert_null(webhook_queue_take(&queue, 1000000));
    webhook_batch_end(first);
    take(1000000, "2");
}

static void at_most_eight_batches_are_under_way(void **state) {
    (void)state;
    for (unsigned i = 0; i < 80; i++)
        add(i % WEBHOOK_LANES, "1", 100);
    for (unsigned i = 0; i < WEBHOOK_LANES; i++)
        assert_non_null(webhook_queue_take(&queue, 150));
    assert_null(webhook_queue_take(&queue, 150));
    assert_int_equal(webhook_queue_due_ms(&queue), UINT64_MAX);
    assert_int_equal(queue.events, 80);
}

static void a_body_is_not_joined_beyond_its_bound(void **state) {
    static char json[60001];

    (void)state;
    memset(json, '1', sizeof json - 1);
    add(1, json, 100);
    add(1, json, 100);
    add(2, json, 100);
    for (unsigned i = 0; i < 2; i++)
        assert_true(webhook_queue_take(&queue, 150)->length < WEBHOOK_BODY_MAX_BYTES);
    assert_null(webhook_queue_take(&queue, 150));
}

static void a_retry_has_the_same_bytes_and_holds_its_channels_back(void **state) {
    struct webhook_batch *batch;

    (void)state;
    add(1, "1", 100);
    batch = take(150, "1");
    add(1, "2", 160);
    assert_true(webhook_batch_retry(batch, 200));
    assert_in_range(batch->next_attempt_ms, 200 + 800, 200 + 1200);
    assert_null(webhook_queue_take(&queue, 999));
    assert_int_equal(webhook_queue_due_ms(&queue), batch->next_attempt_ms);
    assert_ptr_equal(take(1400, "1"), batch);
    webhook_batch_end(batch);
    take(1400, "2");
}

static void pauses_double_up_to_the_last_one_for_five_minutes(void **state) {
    static const uint64_t pauses_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60};
    struct webhook_batch *batch;
    uint64_t now_ms = 150;
    size_t attempts = 0;

    (void)state;
    add(1, "1", 100);
    batch = take(now_ms, "1");
    while (webhook_batch_retry(batch, now_ms)) {
        assert_true(attempts < sizeof pauses_s / sizeof pauses_s[0]);
        assert_in_range(batch->next_attempt_ms - now_ms, pauses_s[attempts] * 800, pauses_s[attempts] * 1200);
        now_ms = batch->next_attempt_ms;
        assert_ptr_equal(webhook_queue_take(&queue, now_ms), batch);
        attempts++;
    }
    assert_in_range(attempts, 9, 11); /* with jitter always upwards, always downwards */
    assert_in_range(now_ms, 150 + 300000 - 60000 * 12 / 10, 150 + 300000);
}

static void attempts_can_be_bounded_or_be_only_one(void **state) {
    struct webhook_queue_settings settings = usual;

    (void)state;
    queue.settings = &settings;
    settings.max_attempts = 2;
    add(1, "1", 100);
    assert_true(webhook_batch_retry(take(150, "1"), 200));
    assert_false(webhook_batch_retry(take(2000, "1"), 2000));
    settings.max_attempts = 0;
    settings.retry = false;
    add(2, "2", 2000);
    assert_false(webhook_batch_retry(take(2050, "2"), 2050));
    queue.settings = &usual;
}

static void the_oldest_event_that_is_in_no_batch_is_dropped(void **state) {
    (void)state;
    add(1, "1", 100);
    take(150, "1");
    add(1, "2", 160);
    add(2, "3", 170);
    assert_int_equal(webhook_queue_oldest_wall_ms(&queue), 1000100);
    assert_true(webhook_queue_drop_oldest(&queue));
    take(300, "3");
    assert_false(webhook_queue_drop_oldest(&queue));
}

static void at_the_end_nothing_waits(void **state) {
    struct webhook_batch *batch;

    (void)state;
    add(1, "1", 100);
    batch = take(150, "1");
    assert_true(webhook_batch_retry(batch, 200));
    add(2, "2", 210);
    webhook_queue_drain(&queue, 220);
    assert_ptr_equal(take(220, "1"), batch);
    take(220, "2");
    assert_true(webhook_batch_retry(batch, 220)); /* the attempt was under way when the end came */
    assert_ptr_equal(take(820, "1"), batch);
    add(3, "3", 230);
    take(230, "3");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, end)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(events_within_the_duration_are_one_batch_in_their_order),
        CASE(a_full_batch_does_not_wait),
        CASE(a_channel_waits_for_its_own_batch_only),
        CASE(at_most_eight_batches_are_under_way),
        CASE(a_body_is_not_joined_beyond_its_bound),
        CASE(a_retry_has_the_same_bytes_and_holds_its_channels_back),
        CASE(pauses_double_up_to_the_last_one_for_five_minutes),
        CASE(attempts_can_be_bounded_or_be_only_one),
        CASE(the_oldest_event_that_is_in_no_batch_is_dropped),
        CASE(at_the_end_nothing_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
