/* A page about all apps is built on a thread of its own: what a scrape costs its worker, and when a page is built. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "api/metrics.h"
#include "api/page_thread.h"
#include "channel/channel.h"
#include "harness.h"

#define KEPT_MS 600000 /* longer than any test takes */
#define MANY_APPS 2000

static struct workers workers;
static struct worker *worker;
static struct config config;
static struct api api;
static struct http_handler handler;

static void on_change(struct worker *changed, void *context) {
    (void)changed;
    (void)context;
}

static const struct app_manager_hooks hooks = {
    .changed = on_change, .free_channels = channel_table_destroy, .channels_empty = channel_table_empty};

static void start(unsigned app_count, uint32_t keep_ms) {
    json_t *apps = json_array();
    struct error error;

    for (unsigned i = 0; i < app_count; i++)
        json_array_append_new(apps, json_pack("{s:o,s:o,s:s}", "id", json_sprintf("app-%u", i), "key",
                                              json_sprintf("key-%u", i), "secret", "s"));
    harness_create(&workers, 1);
    worker = workers.list[0];
    config = (struct config){.app_manager.array_apps = apps, .metrics.prometheus.prefix = (char *)"p_"};
    api = (struct api){.config = &config, .workers = &workers};
    api.apps = app_manager_create(&config, &workers, &hooks, &error);
    assert_non_null(api.apps);
    api.metrics = page_thread_start(&api, &(struct page_settings){"metrics", metrics_append_page, keep_ms}, &error);
    assert_non_null(api.metrics);
    handler = api_metrics_handler(&api);
}

static void close_stream(struct stream *stream, void *context) {
    (void)context;
    stream_close(stream);
}

/* In the order of the server: connections, the thread, its messages. */
static void stop(void) {
    streams_each(worker, close_stream, NULL);
    harness_settle(worker);
    page_thread_stop(api.metrics);
    harness_destroy(&workers);
    app_manager_stop(api.apps);
    app_manager_destroy(api.apps);
    json_decref(config.app_manager.array_apps);
}

static void send_scrape(int client, const char *headers) {
    struct buffer request = {0};

    buffer_appendf(&request, "GET /metrics HTTP/1.1\r\nHost: h\r\n%s\r\n", headers);
    harness_send(worker, client, buffer_slice(&request));
    harness_settle(worker);
    buffer_dispose(&request);
}

/* Turns the worker, which sleeps meanwhile, until the whole answer is there. */
static void receive_page(int client, struct buffer *in) {
    for (;;) {
        struct pollfd ready[] = {{.fd = worker->epoll_fd, .events = POLLIN}, {.fd = client, .events = POLLIN}};
        const char *body, *length;

        harness_settle(worker);
        harness_receive(client, in);
        body = in->length != 0 ? strstr(buffer_string(in), "\r\n\r\n") : NULL;
        length = in->length != 0 ? strstr(in->data, "Content-Length: ") : NULL;
        if (body != NULL && length != NULL &&
            in->length - (size_t)(body + 4 - in->data) >= strtoul(length + 16, NULL, 10))
            return;
        if (mailbox_sleep(&worker->mailbox))
            poll(ready, 2, 60000);
        mailbox_awake(&worker->mailbox);
    }
}

static void scrape(const char *headers, struct buffer *in) {
    int client = harness_http(worker, &handler);

    in->length = 0;
    send_scrape(client, headers);
    receive_page(client, in);
    close(client);
    harness_settle(worker);
}

/* How much memory the worker allocates for a scrape: it does no more for more apps. */
static uint64_t allocations_of_scrape(unsigned app_count) {
    struct buffer in = {0};
    uint64_t before;
    int client;

    start(app_count, KEPT_MS);
    for (unsigned i = 0; i < app_count; i++) { /* only apps in use are on the page */
        char id[32];
        struct app_lookup lookup = {0};
        snprintf(id, sizeof id, "app-%u", i);
        assert_int_equal(app_manager_find_by_id(api.apps, worker, slice_of(id), &lookup), APP_FOUND);
        slot_refused(lookup.slot, worker, REFUSED_REQUEST);
    }
    scrape("", &in); /* whatever is allocated once */
    client = harness_http(worker, &handler);
    buffer_reserve(&in, 1 << 20);
    in.length = 0;
    before = harness_allocations();
    send_scrape(client, "Cache-Control: no-cache\r\n");
    before = harness_allocations() - before;
    receive_page(client, &in);
    assert_non_null(strstr(buffer_string(&in), "app_id=\"app-0\""));
    close(client);
    buffer_dispose(&in);
    stop();
    return before;
}

static void a_scrape_costs_its_worker_the_same_whatever_number_of_apps(void **state) {
    (void)state;
    assert_int_equal(allocations_of_scrape(1), allocations_of_scrape(MANY_APPS));
}

static void scrapes_get_the_kept_page_unless_they_ask_for_a_new_one(void **state) {
    struct buffer first = {0}, second = {0};

    (void)state;
    start(1, KEPT_MS);
    scrape("", &first);
    assert_int_equal(page_thread_built(api.metrics), 1);
    counter_add(&worker->counters.slow_readers, 1);
    scrape("", &second);
    assert_int_equal(page_thread_built(api.metrics), 1);
    assert_true(slice_equal(buffer_slice(&first), buffer_slice(&second)));
    scrape("Cache-Control: no-cache\r\n", &second);
    assert_int_equal(page_thread_built(api.metrics), 2);
    assert_non_null(strstr(buffer_string(&second), "p_slow_readers_total{worker=\"0\",port=\"0\"} 1\n"));
    buffer_dispose(&first);
    buffer_dispose(&second);
    stop();
}

static void a_page_is_kept_no_longer_than_its_time(void **state) {
    struct buffer in = {0};

    (void)state;
    start(1, 0);
    scrape("", &in);
    while (page_thread_built(api.metrics) < 2)
        scrape("", &in);
    buffer_dispose(&in);
    stop();
}

/* Before, while and after a page is built: each round meets another moment. */
static void a_scrape_that_comes_while_a_page_is_built_takes_it(void **state) {
    struct buffer in = {0};

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        int first, second;
        start(MANY_APPS, KEPT_MS);
        first = harness_http(worker, &handler);
        second = harness_http(worker, &handler);
        send_scrape(first, "");
        for (unsigned i = 0; i < round * 100; i++)
            harness_settle(worker);
        send_scrape(second, "");
        in.length = 0;
        receive_page(second, &in);
        assert_int_equal(page_thread_built(api.metrics), 1);
        close(first);
        close(second);
        stop();
    }
    buffer_dispose(&in);
}

static void during_a_shutdown_a_scrape_does_not_wait_for_its_turn(void **state) {
    struct buffer in = {0};
    int client;

    (void)state;
    start(MANY_APPS, KEPT_MS);
    scrape("", &in);
    client = harness_http(worker, &handler);
    send_scrape(client, "Cache-Control: no-cache\r\n");
    page_thread_drain(api.metrics);
    in.length = 0;
    receive_page(client, &in);
    assert_int_equal(page_thread_built(api.metrics), 2);
    close(client);
    buffer_dispose(&in);
    stop();
}

static void scrapes_that_wait_together_share_one_page(void **state) {
    struct buffer in = {0};
    int clients[8];
    uint64_t built;

    (void)state;
    start(1, KEPT_MS);
    scrape("", &in);
    for (unsigned i = 0; i < 8; i++) {
        clients[i] = harness_http(worker, &handler);
        send_scrape(clients[i], i == 0 ? "Cache-Control: no-cache\r\n" : "");
    }
    for (unsigned i = 0; i < 8; i++) {
        in.length = 0;
        receive_page(clients[i], &in);
        close(clients[i]);
    }
    built = page_thread_built(api.metrics);
    assert_int_equal(built, 2);
    buffer_dispose(&in);
    stop();
}

static void a_client_that_goes_before_its_page_leaves_nothing(void **state) {
    struct buffer in = {0};

    (void)state;
    start(MANY_APPS, 0);
    for (unsigned i = 0; i < 8; i++) {
        int client = harness_http(worker, &handler);
        send_scrape(client, "");
        close(client);
        harness_settle(worker);
    }
    scrape("", &in);
    buffer_dispose(&in);
    stop();
}

static void the_server_may_stop_while_a_scrape_waits(void **state) {
    int client;

    (void)state;
    start(MANY_APPS, 0);
    client = harness_http(worker, &handler);
    send_scrape(client, "");
    stop();
    close(client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scrape_costs_its_worker_the_same_whatever_number_of_apps),
        cmocka_unit_test(scrapes_get_the_kept_page_unless_they_ask_for_a_new_one),
        cmocka_unit_test(a_page_is_kept_no_longer_than_its_time),
        cmocka_unit_test(a_scrape_that_comes_while_a_page_is_built_takes_it),
        cmocka_unit_test(during_a_shutdown_a_scrape_does_not_wait_for_its_turn),
        cmocka_unit_test(scrapes_that_wait_together_share_one_page),
        cmocka_unit_test(a_client_that_goes_before_its_page_leaves_nothing),
        cmocka_unit_test(the_server_may_stop_while_a_scrape_waits),
    };

    return cmocka_run_group_tests_name("page_thread", tests, NULL, NULL);
}
