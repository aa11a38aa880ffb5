/* Rate limits by client address: which addresses count as one client, when tokens are granted, floods of addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "harness.h"
#include "net/client_address.h"
#include "net/rate_limiter.h"

#define SECOND_NS UINT64_C(1000000000)
#define START_NS (12345 * SECOND_NS + 678)

static struct rate_limiter *limiter_of(uint32_t max_requests, uint32_t window_s, uint32_t places) {
    return rate_limiter_create(
        &(struct rate_limiter_settings){.path = "x", .max_requests = max_requests, .window_s = window_s}, places);
}

/* Takes tokens until there are none, and returns their number. */
static unsigned take_all(struct rate_limiter *limiter, uint64_t address, uint64_t now_ns) {
    unsigned count = 0;

    while (rate_limiter_take(limiter, address, now_ns) == 0)
        count++;
    return count;
}

/* --- buckets --- */

static void a_full_bucket_holds_max_requests_and_is_refilled_continuously(void **state) {
    struct rate_limiter *limiter = limiter_of(20, 60, RATE_LIMITER_ENTRIES);
    uint64_t checks, refusals;

    (void)state;
    assert_int_equal(take_all(limiter, 7, START_NS), 20);
    assert_int_equal(rate_limiter_take(limiter, 7, START_NS + 3 * SECOND_NS - 1), 1);
    assert_int_equal(take_all(limiter, 7, START_NS + 3 * SECOND_NS), 1);
    assert_int_equal(take_all(limiter, 7, START_NS + 33 * SECOND_NS), 10);
    assert_int_equal(take_all(limiter, 7, START_NS + 1000 * SECOND_NS), 20);
    assert_int_equal(take_all(limiter, 8, START_NS), 20);
    rate_limiter_count(limiter, &checks, &refusals);
    assert_int_equal(checks, 20 + 1 + 10 + 20 + 20 + 6);
    assert_int_equal(refusals, 6);
    rate_limiter_destroy(limiter);
}

static void a_refusal_tells_the_seconds_until_there_is_a_token(void **state) {
    struct rate_limiter *limiter = limiter_of(2, 60, RATE_LIMITER_ENTRIES);

    (void)state;
    assert_int_equal(take_all(limiter, 7, START_NS), 2);
    assert_int_equal(rate_limiter_take(limiter, 7, START_NS), 30);
    assert_int_equal(rate_limiter_take(limiter, 7, START_NS + SECOND_NS / 2), 30);
    assert_int_equal(rate_limiter_take(limiter, 7, START_NS + 29 * SECOND_NS + 1), 1);
    assert_int_equal(rate_limiter_take(limiter, 7, START_NS + 30 * SECOND_NS), 0);
    rate_limiter_destroy(limiter);
}

static void no_window_has_room_for_one_request_more_however_large_the_numbers(void **state) {
    static const uint32_t maxima[] = {1, 3, 7, 999, 1001, 65537};

    (void)state;
    for (size_t i = 0; i < sizeof maxima / sizeof maxima[0]; i++) {
        struct rate_limiter *limiter = limiter_of(maxima[i], 1, 16);
        assert_int_equal(take_all(limiter, 7, START_NS), maxima[i]);
        rate_limiter_destroy(limiter);
    }
    struct rate_limiter *widest = limiter_of(1, UINT32_MAX, 16);
    assert_int_equal(rate_limiter_take(widest, 7, START_NS), 0);
    assert_int_equal(rate_limiter_take(widest, 7, START_NS), UINT32_MAX);
    rate_limiter_destroy(widest);
    widest = limiter_of(UINT32_MAX, 1, 16);
    for (unsigned at = 0; at < 100; at++)
        assert_int_equal(rate_limiter_take(widest, 7, START_NS), 0);
    rate_limiter_destroy(widest);
}

/* --- more addresses than entries --- */

static void a_flood_of_addresses_forgets_none_that_is_being_limited(void **state) {
    struct rate_limiter *limiter = limiter_of(5, 60, 1024);

    (void)state;
    assert_int_equal(take_all(limiter, 1, START_NS), 5);
    for (uint64_t address = 1000; address < 101000; address++)
        rate_limiter_take(limiter, address, START_NS + address);
    assert_int_not_equal(rate_limiter_take(limiter, 1, START_NS + SECOND_NS), 0);
    rate_limiter_destroy(limiter);
}

/* The memory of this process in pages. */
static long resident_pages(void) {
    long pages = 0, ignored;
    FILE *file = fopen("/proc/self/statm", "re");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &ignored, &pages), 2);
    fclose(file);
    return pages;
}

/* Sends requests of `count` addresses, each until it has no token left. */
static void flood(struct rate_limiter *limiter, uint64_t first, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        take_all(limiter, first + i, START_NS + i);
}

static void two_hundred_thousand_addresses_cost_no_more_memory_than_few(void **state) {
    const unsigned most = 200000, page_bytes = 4096;
    struct rate_limiter *limiter = limiter_of(5, 60, RATE_LIMITER_ENTRIES);
    uint64_t allocations;
    long before, after;

    (void)state;
    flood(limiter, 1, most); /* now all of the table is in memory: two megabytes */
    allocations = harness_allocations();
    before = resident_pages();
    for (unsigned round = 1; round <= 3; round++) {
        flood(limiter, (uint64_t)round << 32, most);
        assert_int_not_equal(rate_limiter_take(limiter, (uint64_t)round << 32 | (most - 1), START_NS + most), 0);
    }
    after = resident_pages();
    assert_int_equal(harness_allocations(), allocations);
    printf("memory: %ld KB after %u addresses, %ld KB after %u\n", before * page_bytes / 1024, most,
           after * page_bytes / 1024, 4 * most);
    assert_true((after - before) * page_bytes < 256 * 1024);
    rate_limiter_destroy(limiter);
}

static void a_place_whose_bucket_is_full_again_goes_first(void **state) {
    struct rate_limiter *limiter = limiter_of(5, 60, 16);

    (void)state;
    for (uint64_t address = 0; address < 16; address++)
        take_all(limiter, address, address == 9 ? START_NS : START_NS + 61 * SECOND_NS);
    assert_int_equal(rate_limiter_take(limiter, 100, START_NS + 62 * SECOND_NS), 0);
    for (uint64_t address = 0; address < 16; address++)
        if (address != 9)
            assert_int_not_equal(rate_limiter_take(limiter, address, START_NS + 62 * SECOND_NS), 0);
    rate_limiter_destroy(limiter);
}

/* --- workers --- */

struct thread {
    pthread_t thread;
    struct rate_limiter *limiter;
    unsigned given;
};

static void *take_many(void *argument) {
    struct thread *thread = argument;

    for (unsigned i = 0; i < 20000; i++)
        thread->given += rate_limiter_take(thread->limiter, i % 10, START_NS) == 0;
    return NULL;
}

static void workers_that_ask_at_the_same_time_share_one_bucket(void **state) {
    struct rate_limiter *limiter = limiter_of(700, 60, RATE_LIMITER_ENTRIES);
    struct thread threads[4] = {0};
    uint64_t checks, refusals;
    unsigned given = 0;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        threads[i].limiter = limiter;
        assert_int_equal(pthread_create(&threads[i].thread, NULL, take_many, &threads[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i].thread, NULL);
        given += threads[i].given;
    }
    assert_int_equal(given, 10 * 700);
    rate_limiter_count(limiter, &checks, &refusals);
    assert_int_equal(checks, 4 * 20000);
    assert_int_equal(refusals, 4 * 20000 - 10 * 700);
    rate_limiter_destroy(limiter);
}

/* --- addresses --- */

static uint64_t parsed(const char *text) {
    uint64_t address = 0;

    if (!client_address_parse(slice_of(text), &address))
        fail_msg("%s is an address", text);
    return address;
}

static void an_address_is_read_in_every_form_that_proxies_write(void **state) {
    (void)state;
    assert_int_equal(parsed("192.0.2.1"), parsed("192.0.2.1:8080"));
    assert_int_equal(parsed("192.0.2.1"), parsed("::ffff:192.0.2.1"));
    assert_int_equal(parsed("192.0.2.1"), parsed("[::ffff:c000:201]:80"));
    assert_true(parsed("192.0.2.1") != parsed("192.0.2.2"));
    assert_true(parsed("192.0.2.1") != parsed("::1"));
    assert_int_equal(parsed("2001:db8:1:2::1"), parsed("[2001:DB8:1:2:ffff::9]:443"));
    assert_int_equal(parsed("2001:db8:1:2::1"), parsed("[2001:db8:1:2::]"));
    assert_true(parsed("2001:db8:1:2::1") != parsed("2001:db8:1:3::1"));
}

static void what_is_no_address_is_not_taken_for_one(void **state) {
    static const char *const texts[] = {"",
                                        "unknown",
                                        "192.0.2",
                                        "192.0.2.256",
                                        "192.0.2.1:x",
                                        "192.0.2.1:65536",
                                        "192.0.2.1.5",
                                        "[",
                                        "[::1",
                                        "[]",
                                        "[::1]x",
                                        "[::1]:65536",
                                        "2001:db8::1::",
                                        "_hidden",
                                        " 192.0.2.1",
                                        ":",
                                        "fe80::1%1",
                                        "::ffff:192.0.2.1.192.0.2.1.192.0.2.1.192.0.2.1.192.0.2.1"};
    uint64_t address;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (client_address_parse(slice_of(texts[i]), &address))
            fail_msg("'%s' is no address", texts[i]);
}

static uint32_t trusted_hops;
static uint64_t seen;
static bool has_address;

static void on_request(struct http_connection *connection, struct http_request *request) {
    seen = 0;
    has_address = client_address(connection, request, trusted_hops, &seen);
    http_respond(connection, &(struct http_response){.status = 200});
}

static const struct http_handler handler = {.on_request = on_request, .max_body_bytes = 1};

/* Checks the client address of a request on a unix socket with these headers; NULL: none. */
static void expect(struct worker *worker, int client, uint32_t hops, const char *headers, const char *expected) {
    char text[512];

    trusted_hops = hops;
    has_address = false;
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", headers);
    harness_send(worker, client, slice_of(text));
    harness_settle(worker);
    if (has_address != (expected != NULL) || (expected != NULL && seen != parsed(expected)))
        fail_msg("%u hops, %s: expected %s", hops, headers, expected != NULL ? expected : "none");
}

static void each_trusted_proxy_is_one_step_from_the_right(void **state) {
    struct workers workers;
    int client;

    (void)state;
    harness_create(&workers, 1);
    client = harness_http(workers.list[0], &handler);
    expect(workers.list[0], client, 0, "X-Forwarded-For: 10.0.0.1\r\n", NULL);
    expect(workers.list[0], client, 1, "", NULL);
    expect(workers.list[0], client, 1, "X-Forwarded-For: 10.0.0.1\r\n", "10.0.0.1");
    expect(workers.list[0], client, 1, "x-forwarded-for: 1.1.1.1, 10.0.0.1 ,\t10.0.0.2\r\n", "10.0.0.2");
    expect(workers.list[0], client, 2, "X-Forwarded-For: 1.1.1.1, 10.0.0.1 ,\t10.0.0.2\r\n", "10.0.0.1");
    expect(workers.list[0], client, 3, "X-Forwarded-For: 1.1.1.1,10.0.0.1,10.0.0.2\r\n", "1.1.1.1");
    expect(workers.list[0], client, 9, "X-Forwarded-For: 1.1.1.1,10.0.0.1,10.0.0.2\r\n", "1.1.1.1");
    expect(workers.list[0], client, 2, "X-Forwarded-For: , 1.1.1.1,, 10.0.0.1, ,\r\n", "1.1.1.1");
    expect(workers.list[0], client, 2, "X-Forwarded-For: 1.1.1.1\r\nVia: x\r\nX-Forwarded-For: 10.0.0.1\r\n",
           "1.1.1.1");
    expect(workers.list[0], client, 1, "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.0.0.1\r\n", "10.0.0.1");
    expect(workers.list[0], client, 1, "X-Forwarded-For: 1.1.1.1, unknown\r\n", NULL);
    expect(workers.list[0], client, 1, "X-Forwarded-For: \r\n", NULL);
    close(client);
    harness_destroy(&workers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_bucket_holds_max_requests_and_is_refilled_continuously),
        cmocka_unit_test(a_refusal_tells_the_seconds_until_there_is_a_token),
        cmocka_unit_test(no_window_has_room_for_one_request_more_however_large_the_numbers),
        cmocka_unit_test(a_flood_of_addresses_forgets_none_that_is_being_limited),
        cmocka_unit_test(two_hundred_thousand_addresses_cost_no_more_memory_than_few),
        cmocka_unit_test(a_place_whose_bucket_is_full_again_goes_first),
        cmocka_unit_test(workers_that_ask_at_the_same_time_share_one_bucket),
        cmocka_unit_test(an_address_is_read_in_every_form_that_proxies_write),
        cmocka_unit_test(what_is_no_address_is_not_taken_for_one),
        cmocka_unit_test(each_trusted_proxy_is_one_step_from_the_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
