/* Long lists are made on a thread of their own, and ask the account of memory first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "api/dispatch.h"
#include "api/list_thread.h"
#include "base/budget.h"
#include "channel/channel.h"
#include "harness.h"

#define MB ((size_t)1024 * 1024)
#define LIMIT (16 * MB) /* 6.4 MB for output */

static struct workers workers;
static struct worker *worker;
static struct config config;
static struct api api;
static unsigned made;       /* lists */
static uint64_t held_after; /* of output, when the answer is at its worker */
static struct list_request request;
static size_t list_bytes;

static void append_list(struct buffer *answer, struct app_slot *slot, const struct list_request *asked) {
    (void)asked;
    assert_non_null(slot);
    made++;
    buffer_reserve(answer, list_bytes);
    memset(answer->data, 'l', list_bytes);
    answer->length = list_bytes;
}

static void on_list(struct api_call *call) {
    if (call->listed == NULL) {
        list_answer_later(api.lists, call, &request);
        return;
    }
    held_after = budget_used(BUDGET_OUTPUT);
    api_answer_frame(call, SLICE(""), call->listed);
}

static const struct api_route routes[] = {{"GET", "/list/{}", on_list, ROUTE_APP, ROUTE_COSTS_NOTHING}};
static const struct route_table table = {.routes = routes, .count = 1};

static void on_request(struct http_connection *connection, struct http_request *received) {
    api_dispatch(connection, received, &table);
}

static void on_abort(struct http_connection *connection) {
    api_call_abort(http_pending(connection));
}

static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort, .context = &api};

static void on_change(struct worker *changed, void *context) {
    (void)changed;
    (void)context;
}

static const struct app_manager_hooks hooks = {
    .changed = on_change, .free_channels = channel_table_destroy, .channels_empty = channel_table_empty};

static int start(void **state) {
    struct error error;

    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    config =
        (struct config){.app_manager.array_apps = json_pack("[{s:s,s:s,s:s}]", "id", "a", "key", "k", "secret", "s")};
    api = (struct api){.config = &config, .workers = &workers};
    api.apps = app_manager_create(&config, &workers, &hooks, &error);
    assert_non_null(api.apps);
    api.lists = list_thread_start(api.apps, &error);
    assert_non_null(api.lists);
    request = (struct list_request){.text = SLICE_INIT("x"), .append = append_list, .count = 1000};
    made = 0;
    list_bytes = 2;
    budget_set_limit(LIMIT);
    return 0;
}

static void close_stream(struct stream *stream, void *context) {
    (void)context;
    stream_close(stream);
}

/* In the order of the server: connections, the thread, its messages. */
static int stop(void **state) {
    (void)state;
    streams_each(worker, close_stream, NULL);
    harness_settle(worker);
    list_thread_stop(api.lists);
    harness_destroy(&workers);
    app_manager_stop(api.apps);
    app_manager_destroy(api.apps);
    json_decref(config.app_manager.array_apps);
    budget_set_limit(0);
    return 0;
}

/* Asks for the list, and turns the worker, which sleeps meanwhile, until the connection is closed. */
static void ask(struct buffer *in) {
    int client = harness_http(worker, &handler);

    in->length = 0;
    harness_send(worker, client, SLICE("GET /list/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    for (;;) {
        struct pollfd ready[] = {{.fd = worker->epoll_fd, .events = POLLIN}, {.fd = client, .events = POLLIN}};

        harness_settle(worker);
        if (!harness_receive(client, in))
            break;
        if (mailbox_sleep(&worker->mailbox))
            poll(ready, 2, 60000);
        mailbox_awake(&worker->mailbox);
    }
    close(client);
    harness_settle(worker);
    buffer_string(in);
}

static void assert_refused(struct buffer *in) {
    if (strncmp(in->data, "HTTP/1.1 503 ", 13) != 0 || strstr(in->data, "\r\nRetry-After: 1\r\n") == NULL ||
        strstr(in->data, "no memory for a list of this length") == NULL)
        fail_msg("\"%s\" is no refusal", in->data);
}

static void a_list_that_would_have_no_room_is_not_made(void **state) {
    struct buffer in = {0};

    (void)state;
    request.count = 200000;
    ask(&in);
    assert_refused(&in);
    assert_int_equal(made, 0);
    request.count = 1000;
    ask(&in);
    assert_memory_equal(in.data, "HTTP/1.1 200 ", 13);
    assert_int_equal(made, 1);
    buffer_dispose(&in);
}

static void a_list_that_is_longer_than_its_estimate_may_have_no_room(void **state) {
    struct buffer in = {0};

    (void)state;
    list_bytes = 7 * MB;
    ask(&in);
    assert_refused(&in);
    assert_int_equal(made, 1);
    assert_int_equal(budget_used(BUDGET_OUTPUT), 0);
    buffer_dispose(&in);
}

/* A thread keeps up to 16 KB of changes to itself, but not after a list. */
static void a_list_is_counted_when_it_arrives_and_until_it_is_sent(void **state) {
    struct buffer in = {0};

    (void)state;
    list_bytes = 5000;
    for (int i = 0; i < 10; i++) {
        ask(&in);
        assert_in_range(held_after, 5000, 6000);
        assert_int_equal(budget_used(BUDGET_OUTPUT), 0);
    }
    buffer_dispose(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_list_that_would_have_no_room_is_not_made, start, stop),
        cmocka_unit_test_setup_teardown(a_list_that_is_longer_than_its_estimate_may_have_no_room, start, stop),
        cmocka_unit_test_setup_teardown(a_list_is_counted_when_it_arrives_and_until_it_is_sent, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
