/* The account of memory in net/: what connections hold is counted, refused when there is no room, and given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/budget.h"
#include "harness.h"
#include "net/http.h"
#include "net/worker_loop.h"

#define MB ((size_t)1024 * 1024)
#define LIMIT (16 * MB) /* 4 MB for requests, of which the last one is for small ones */

static struct workers workers;
static struct worker *worker;
static unsigned requests;

static void on_request(struct http_connection *connection, struct http_request *request) {
    (void)request;
    requests++;
    http_respond(connection, &(struct http_response){.status = 200, .body = SLICE("{}")});
}

static void on_abort(struct http_connection *connection) {
    (void)connection;
    fail_msg("no request waits for its answer");
}

static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort, .max_body_bytes = 10 * MB};

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    requests = 0;
    budget_set_limit(LIMIT);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_destroy(&workers);
    budget_set_limit(0);
    return 0;
}

static void assert_answer(int client, const char *beginning, const char *part) {
    struct buffer in = {0};

    harness_settle(worker);
    harness_receive(client, &in);
    if (strncmp(buffer_string(&in), beginning, strlen(beginning)) != 0 || strstr(in.data, part) == NULL)
        fail_msg("\"%s\" is not \"%s ... %s\"", in.data, beginning, part);
    buffer_dispose(&in);
}

static void assert_refused(int client) {
    assert_answer(client, "HTTP/1.1 503 ", "\r\nConnection: close\r\nRetry-After: 1\r\n");
    close(client);
}

/* Sends a head that announces a body, and the beginning of the body. */
static int begin_body(size_t announced, size_t sent) {
    int client = harness_http(worker, &handler);
    struct buffer text = {0};

    buffer_appendf(&text, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n", announced);
    harness_send(worker, client, buffer_slice(&text));
    harness_settle(worker); /* the head is decided on before its body arrives */
    text.length = 0;
    buffer_reserve(&text, sent + 1);
    memset(text.data, 'b', sent);
    text.length = sent;
    harness_send(worker, client, buffer_slice(&text));
    buffer_dispose(&text);
    harness_settle(worker);
    return client;
}

static void a_body_is_counted_while_it_is_held(void **state) {
    int client = begin_body(MB, MB - 1);

    (void)state;
    assert_in_range(budget_used(BUDGET_BODIES), MB - 1, MB + 16 * 1024);
    harness_send(worker, client, SLICE("b"));
    assert_answer(client, "HTTP/1.1 200 ", "{}");
    assert_int_equal(budget_used(BUDGET_BODIES), 0);
    close(client);
}

static void a_body_without_room_is_refused_before_it_is_sent(void **state) {
    int first = begin_body(2 * MB, 3 * MB / 2), second = begin_body(2 * MB, 0);

    (void)state;
    assert_refused(second);
    harness_send(worker, first, SLICE("b"));
    assert_int_equal(requests, 0);
    close(first);
}

static void a_chunked_body_is_refused_when_it_grows_beyond_the_room(void **state) {
    static const char chunk[] = "8000\r\n";
    int client = harness_http(worker, &handler);
    char data[0x8000];

    (void)state;
    memset(data, 'c', sizeof data);
    harness_send(worker, client, SLICE("POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (int i = 0; i < 65; i++) { /* up to 2 MB, and then one too many: the next step would be 4 MB */
        assert_true(budget_used(BUDGET_BODIES) <= LIMIT / 4);
        harness_send(worker, client, (struct slice){chunk, sizeof chunk - 1});
        harness_send(worker, client, (struct slice){data, sizeof data});
        harness_send(worker, client, SLICE("\r\n"));
        harness_settle(worker);
    }
    assert_refused(client);
    harness_settle(worker);
    assert_int_equal(budget_used(BUDGET_BODIES), 0);
}

/* Large bodies leave a part of their share to small ones. */
static void small_requests_go_on_while_large_bodies_are_refused(void **state) {
    int large[4], client;
    size_t count = 0;

    (void)state;
    while (count < 4) {
        large[count] = begin_body(MB, MB - 1);
        if (budget_used(BUDGET_BODIES) < (count + 1) * (MB - 1))
            break;
        count++;
    }
    assert_int_equal(count, 2); /* a third one would leave less than the part for small ones */
    assert_refused(large[count]);
    client = begin_body(1000, 1000);
    assert_answer(client, "HTTP/1.1 200 ", "{}");
    close(client);
    for (size_t i = 0; i < count; i++)
        close(large[i]);
}

/* Also small requests have a bound. One that does not come to an end makes room for the next one. */
static void small_requests_replace_those_that_do_not_end(void **state) {
    uint64_t refusals = budget_refusals(BUDGET_BODIES);
    int clients[1000];
    size_t count = 0;

    (void)state;
    while (count < 1000 && budget_refusals(BUDGET_BODIES) == refusals) {
        clients[count++] = begin_body(16384, 16000);
        assert_true(budget_used(BUDGET_BODIES) <= LIMIT / 4);
    }
    assert_in_range(count, 150, 300);
    assert_refused(clients[--count]);
    harness_advance(worker, 6000);
    clients[count] = begin_body(16384, 16384); /* takes the place of the first, which has waited for 6 s */
    assert_answer(clients[count], "HTTP/1.1 200 ", "{}");
    assert_true(budget_used(BUDGET_BODIES) <= LIMIT / 4);
    for (size_t i = 0; i <= count; i++)
        close(clients[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_is_counted_while_it_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_body_without_room_is_refused_before_it_is_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_chunked_body_is_refused_when_it_grows_beyond_the_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_requests_go_on_while_large_bodies_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_requests_replace_those_that_do_not_end, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
