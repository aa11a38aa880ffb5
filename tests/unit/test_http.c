/* HTTP connections: requests in pieces of any size, their answers, refusals, timeouts and the end of the connection. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "harness.h"
#include "net/http.h"
#include "net/worker_loop.h"

#define MAX_BODY 1000

static struct workers workers;
static struct worker *worker;

/* Records and settings of the handler. */
static struct buffer seen;    /* one line for each request */
static struct buffer headers; /* all headers of the last request, one per line */
static unsigned requests, aborts;
static size_t received_bytes;
static bool defers;
static size_t answer_bytes; /* length of the answers; 0: the answer repeats the request */
static struct http_response answer;
static struct http_connection *deferred;

static void respond(struct http_connection *connection, struct slice text) {
    struct http_response response = answer;
    struct buffer large = {0};

    if (response.status == 0)
        response.status = 200;
    response.body = text;
    if (answer_bytes != 0) {
        buffer_reserve(&large, answer_bytes);
        memset(large.data, 'z', answer_bytes);
        response.body = (struct slice){large.data, answer_bytes};
    }
    http_respond(connection, &response);
    buffer_dispose(&large);
}

static void on_request(struct http_connection *connection, struct http_request *request) {
    size_t start = seen.length;

    requests++;
    received_bytes = request->received_bytes;
    buffer_appendf(&seen, "%.*s %.*s ? %.*s [%.*s]%s%s\n", SLICE_ARGS(request->method), SLICE_ARGS(request->path),
                   SLICE_ARGS(request->query), SLICE_ARGS(request->body), request->wants_websocket ? " websocket" : "",
                   request->body_too_large ? " too large" : "");
    headers.length = 0;
    for (unsigned i = 0; i < request->header_count; i++)
        buffer_appendf(&headers, "%.*s=%.*s\n", SLICE_ARGS(request->headers[i].name),
                       SLICE_ARGS(request->headers[i].value));
    if (defers) {
        assert_null(deferred);
        assert_null(http_pending(connection));
        http_set_pending(connection, &deferred);
        deferred = connection;
    } else {
        respond(connection, slice_skip(buffer_slice(&seen), start));
    }
}

static void on_abort(struct http_connection *connection) {
    aborts++;
    assert_ptr_equal(connection, deferred);
    assert_ptr_equal(http_pending(connection), &deferred);
    deferred = NULL;
}

static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort, .max_body_bytes = MAX_BODY};

static void answer_deferred(void) {
    struct http_connection *connection = deferred;

    assert_non_null(connection);
    assert_ptr_equal(http_pending(connection), &deferred);
    deferred = NULL;
    respond(connection, SLICE("later"));
    streams_flush(worker); /* end of the turn in which the request was answered */
}

/* Puts the decision about a head off. */
static void on_head(struct http_connection *connection, struct http_request *request) {
    (void)request;
    assert_null(deferred);
    http_set_pending(connection, &deferred);
    deferred = connection;
}

static const struct http_handler deciding_handler = {
    .on_request = on_request, .on_head = on_head, .on_abort = on_abort, .max_body_bytes = MAX_BODY};

static void accept_deferred_head(void) {
    struct http_connection *connection = deferred;

    assert_non_null(connection);
    deferred = NULL;
    http_set_pending(connection, NULL);
    http_accept_head(connection);
    harness_settle(worker);
}

static void forget(void) {
    buffer_dispose(&seen);
    buffer_dispose(&headers);
    seen = headers = (struct buffer){0};
    requests = aborts = 0;
}

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    defers = false;
    deferred = NULL;
    answer_bytes = 0;
    answer = (struct http_response){0};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_destroy(&workers);
    forget();
    return 0;
}

static int client_connect(void) {
    return harness_http(worker, &handler);
}

static void client_close(int client) {
    close(client);
    harness_settle(worker);
    assert_int_equal(worker->stream_count, 0);
}

static void client_sends(int client, struct slice text) {
    harness_send(worker, client, text);
    harness_settle(worker);
}

static void assert_text(const struct buffer *text, const char *expected) {
    if (!slice_equal(buffer_slice(text), slice_of(expected)))
        fail_msg("\n%.*s\nin place of\n%s", SLICE_ARGS(buffer_slice(text)), expected);
}

static bool contains(const struct buffer *text, const char *part) {
    return text->length != 0 && memmem(text->data, text->length, part, strlen(part)) != NULL;
}

/* Returns what was received on a connection that stays open. */
static struct buffer open_answer(int client) {
    struct buffer in = {0};

    harness_settle(worker);
    if (!harness_receive(client, &in))
        fail_msg("the server has closed the connection");
    return in;
}

static void assert_nothing_comes(int client) {
    struct buffer in = open_answer(client);

    assert_int_equal(in.length, 0);
    buffer_dispose(&in);
}

/* Expects one complete answer of this status with a JSON body, and then the end of the connection. */
static void assert_refused(int client, unsigned status, const char *part_of_body) {
    struct buffer in = {0};
    char line[32];
    json_t *body;
    char *end;

    harness_receive_to_end(worker, client, &in);
    buffer_append_byte(&in, '\0');
    snprintf(line, sizeof line, "HTTP/1.1 %u ", status);
    if (strncmp(in.data, line, strlen(line)) != 0)
        fail_msg("%s\nis no %u", in.data, status);
    assert_non_null(strstr(in.data, "\r\nConnection: close\r\n"));
    end = strstr(in.data, "\r\n\r\n");
    assert_non_null(end);
    snprintf(line, sizeof line, "\r\nContent-Length: %zu\r\n", strlen(end + 4));
    if (strstr(in.data, line) == NULL)
        fail_msg("%s\nhas not the length that it says", in.data);
    body = json_loads(end + 4, 0, NULL);
    if (body == NULL || strstr(end, part_of_body) == NULL)
        fail_msg("%s\nis no JSON that speaks of \"%s\"", end + 4, part_of_body);
    json_decref(body);
    buffer_dispose(&in);
    client_close(client);
}

static void assert_closed_without_a_word(int client) {
    struct buffer in = {0};

    harness_receive_to_end(worker, client, &in);
    assert_int_equal(in.length, 0);
    buffer_dispose(&in);
    client_close(client);
}

/* --- pieces --- */

static const char many[] =
    "GET /up?a=1&b=%20x HTTP/1.1\r\nHost: h\r\nEmpty:\r\nBlanks:  between words \t \r\n\r\n"
    "\r\n"
    "POST /events HTTP/1.1\r\nhost: h\r\nContent-Length: 11\r\n\r\nhello world"
    "POST /chunked HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    "4;name=value\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: x\r\nOther: y\r\n\r\n"
    "HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n"
    "DELETE /none? HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

static const char many_seen[] =
    "GET /up ? a=1&b=%20x []\n"
    "POST /events ?  [hello world]\n"
    "POST /chunked ?  [Wikipedia]\n"
    "HEAD /head ?  []\n"
    "DELETE /none ?  []\n"
    "GET /last ?  []\n";

/* Sends `many` in pieces that begin at these offsets, and returns all bytes received. */
static struct buffer exchange(const size_t *offsets, size_t count) {
    struct slice rest = slice_of(many);
    struct buffer in = {0};
    int client = client_connect();
    size_t at = 0;

    forget();
    for (size_t i = 0; i < count; i++) {
        client_sends(client, (struct slice){rest.data, offsets[i] - at});
        rest = slice_skip(rest, offsets[i] - at);
        at = offsets[i];
    }
    client_sends(client, rest);
    harness_receive_to_end(worker, client, &in);
    client_close(client);
    assert_text(&seen, many_seen);
    return in;
}

static void requests_read_the_same_wherever_they_are_split(void **state) {
    struct buffer whole = exchange(NULL, 0), pieces;
    size_t all[sizeof many];

    (void)state;
    for (size_t i = 0; i < sizeof many - 1; i++) {
        pieces = exchange(&i, 1);
        assert_true(slice_equal(buffer_slice(&pieces), buffer_slice(&whole)));
        buffer_dispose(&pieces);
        all[i] = i;
    }
    pieces = exchange(all, sizeof many - 1);
    assert_true(slice_equal(buffer_slice(&pieces), buffer_slice(&whole)));
    buffer_dispose(&pieces);
    buffer_dispose(&whole);
}

static void pipelined_requests_are_answered_in_order_in_one_turn(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    harness_send(
        worker, client,
        SLICE(
            "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_turn(worker);
    in = open_answer(client);
    assert_text(&in,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n"
                "Keep-Alive: timeout=60\r\nConnection: keep-alive\r\n\r\nGET /1 ?  []\n"
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n"
                "Keep-Alive: timeout=60\r\nConnection: keep-alive\r\n\r\nGET /2 ?  []\n"
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n"
                "Keep-Alive: timeout=60\r\nConnection: keep-alive\r\n\r\nGET /3 ?  []\n");
    buffer_dispose(&in);
    client_close(client);
}

static void headers_keep_their_order_and_lose_the_blanks_around_their_values(void **state) {
    int client = client_connect();

    (void)state;
    client_sends(
        client, SLICE("GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB: \r\nC:\t one\t\r\nA: two, three \r\nlong-name:x\r\n\r\n"));
    assert_text(&headers, "Host=h\nA=\nB=\nC=one\nA=two, three\nlong-name=x\n");
    client_close(client);
}

static void every_byte_of_a_request_is_counted(void **state) {
    static const char first[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    static const char second[] = "GET /longer/path HTTP/1.1\r\nHost: h\r\n\r\n";
    int client = client_connect();

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent"));
    client_sends(client, SLICE("-Length: 5\r\n\r\nhel"));
    client_sends(client, SLICE("lo"));
    assert_int_equal(received_bytes, sizeof first - 1);
    client_sends(client, slice_of(second));
    assert_int_equal(received_bytes, sizeof second - 1);
    client_close(client);
}

static void header_look_ups_ignore_case_and_take_words_of_lists(void **state) {
    struct http_request request = {.header_count = 3,
                                   .headers = {{SLICE("Connection"), SLICE("keep-alive, \tUPGRADE ,x")},
                                               {SLICE("Accept"), SLICE("first")},
                                               {SLICE("accept"), SLICE("second")}}};
    struct slice value;

    (void)state;
    assert_true(http_header(&request, SLICE("ACCEPT"), &value));
    assert_true(slice_equal(value, SLICE("first")));
    assert_false(http_header(&request, SLICE("accep"), &value));
    assert_true(http_header_has(&request, SLICE("connection"), SLICE("upgrade")));
    assert_true(http_header_has(&request, SLICE("connection"), SLICE("Keep-Alive")));
    assert_true(http_header_has(&request, SLICE("connection"), SLICE("x")));
    assert_true(http_header_has(&request, SLICE("accept"), SLICE("second")));
    assert_false(http_header_has(&request, SLICE("connection"), SLICE("keep")));
    assert_false(http_header_has(&request, SLICE("connection"), SLICE("")));
    assert_false(http_header_has(&request, SLICE("upgrade"), SLICE("x")));
}

/* --- keeping alive --- */

static void the_connection_ends_when_the_client_wants_it_to(void **state) {
    static const char *const requests_that_end[] = {
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        int client = client_connect();
        struct buffer in = {0};
        client_sends(client, slice_of(requests_that_end[i]));
        harness_receive_to_end(worker, client, &in);
        assert_true(contains(&in, "\r\nConnection: close\r\n"));
        client_sends(client, SLICE("GET /ignored HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_int_equal(requests, i + 1);
        buffer_dispose(&in);
        client_close(client);
    }
}

static void a_1_0_client_may_ask_to_keep_the_connection(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    client_sends(client, SLICE("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    in = open_answer(client);
    assert_true(contains(&in, "\r\nConnection: keep-alive\r\n"));
    buffer_dispose(&in);
    client_sends(client, SLICE("GET / HTTP/1.0\r\n\r\n"));
    assert_int_equal(requests, 2);
    client_close(client);
}

static void the_handler_may_end_the_connection_with_its_answer(void **state) {
    int client = client_connect();
    struct buffer in = {0};

    (void)state;
    answer.close = true;
    client_sends(client, SLICE("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_receive_to_end(worker, client, &in);
    assert_true(contains(&in, "\r\nConnection: close\r\n"));
    assert_int_equal(requests, 1);
    buffer_dispose(&in);
    client_close(client);
}

static void between_requests_a_connection_owns_nothing(void **state) {
    int first = client_connect(), second = client_connect();
    struct http_request *spare;

    (void)state;
    client_sends(first, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"));
    spare = worker->spare_request;
    assert_non_null(spare);
    client_sends(second, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-"));
    assert_null(worker->spare_request); /* in use by the connection */
    client_sends(first, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    client_sends(second, SLICE("Length: 1\r\n\r\nx"));
    assert_non_null(worker->spare_request);
    assert_int_equal(requests, 3);
    close(second);
    client_close(first);
}

/* --- answers --- */

static void a_head_request_gets_the_head_only_and_later_ones_their_bodies(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    client_sends(client, SLICE("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(client);
    assert_true(contains(&in, "\r\nContent-Length: 13\r\n"));
    assert_true(slice_ends_with(buffer_slice(&in), SLICE("\r\n\r\n")));
    buffer_dispose(&in);
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(client);
    assert_true(slice_ends_with(buffer_slice(&in), SLICE("\r\n\r\nGET / ?  []\n")));
    buffer_dispose(&in);
    client_sends(client, SLICE("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(client);
    buffer_dispose(&in);
    client_sends(client, SLICE("no HTTP at all\r\n\r\n"));
    assert_refused(client, 400, "malformed");
}

static void an_answer_has_the_type_and_headers_it_is_given(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    answer = (struct http_response){
        .status = 404, .content_type = SLICE("text/plain"), .headers = SLICE("X-One: 1\r\nX-Two: 2\r\n")};
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(client);
    assert_text(&in,
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
                "Keep-Alive: timeout=60\r\nConnection: keep-alive\r\nX-One: 1\r\nX-Two: 2\r\n\r\nGET / ?  []\n");
    buffer_dispose(&in);
    answer = (struct http_response){.status = 204};
    client_sends(client, SLICE("OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(client);
    assert_text(&in, "HTTP/1.1 204 No Content\r\nKeep-Alive: timeout=60\r\nConnection: keep-alive\r\n\r\n");
    buffer_dispose(&in);
    client_close(client);
}

/* --- bodies --- */

static void a_client_that_waits_to_be_asked_for_the_body_is_asked_once(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    in = open_answer(client);
    assert_text(&in, "HTTP/1.1 100 Continue\r\n\r\n");
    buffer_dispose(&in);
    client_sends(client, SLICE("hello"));
    assert_text(&seen, "POST / ?  [hello]\n");
    in = open_answer(client);
    assert_true(slice_starts_with(buffer_slice(&in), SLICE("HTTP/1.1 200 ")));
    buffer_dispose(&in);
    client_close(client);
}

static void nobody_is_asked_for_a_body_that_will_not_be_read(void **state) {
    static const char *const heads[] = {
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n", /* too large */
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",    /* no body */
        "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", /* HTTP/1.0 has no 100 Continue */
    };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        int client = client_connect();
        struct buffer in = {0};
        client_sends(client, slice_of(heads[i]));
        harness_receive(client, &in);
        assert_true(slice_starts_with(buffer_slice(&in), SLICE("HTTP/1.1 200 ")));
        assert_int_equal(requests, i + 1);
        buffer_dispose(&in);
        client_close(client);
    }
}

static void append_body(struct buffer *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        buffer_append_byte(text, 'b');
}

static void a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(void **state) {
    (void)state;
    for (unsigned chunked = 0; chunked < 2; chunked++) {
        for (unsigned extra = 0; extra < 2; extra++) {
            struct buffer text = {0}, in = {0};
            int client = client_connect();
            forget();
            buffer_append(&text, SLICE("POST / HTTP/1.1\r\nHost: h\r\n"));
            if (chunked)
                buffer_appendf(&text, "Transfer-Encoding: chunked\r\n\r\n%x\r\n", MAX_BODY + extra);
            else
                buffer_appendf(&text, "Content-Length: %u\r\n\r\n", MAX_BODY + extra);
            append_body(&text, MAX_BODY + extra);
            if (chunked)
                buffer_append(&text, SLICE("\r\n0\r\n\r\n"));
            client_sends(client, buffer_slice(&text));
            assert_int_equal(requests, 1);
            if (extra) {
                assert_text(&seen, "POST / ?  [] too large\n");
                harness_receive_to_end(worker, client, &in);
                assert_true(contains(&in, "\r\nConnection: close\r\n"));
            } else {
                assert_int_equal(seen.length, strlen("POST / ?  []\n") + MAX_BODY);
                in = open_answer(client);
            }
            buffer_dispose(&in);
            buffer_dispose(&text);
            client_close(client);
        }
    }
}

static void a_body_that_never_ends_is_refused_when_it_passes_the_limit(void **state) {
    struct buffer text = {0}, in = {0};
    int client = client_connect();

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"));
    for (unsigned i = 0; i < 3; i++) {
        buffer_append(&text, SLICE("190\r\n"));
        append_body(&text, 400);
        buffer_append(&text, SLICE("\r\n"));
        client_sends(client, buffer_slice(&text));
        text.length = 0;
        assert_int_equal(requests, i == 2);
    }
    assert_text(&seen, "POST / ?  [] too large\n");
    harness_receive_to_end(worker, client, &in);
    client_sends(client, SLICE("190\r\n")); /* ignored */
    assert_int_equal(requests, 1);
    buffer_dispose(&in);
    buffer_dispose(&text);
    client_close(client);
}

/* --- refusals --- */

static void broken_requests_are_refused_with_400(void **state) {
    static const char *const broken[] = {
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nBad Name: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nA: \x01\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: five\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h/path\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: \xc3\xa9\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /app/k HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
        "GET /app/k HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 99999999999\r\n\r\n",
        "GET /app/k HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /app/k HTTP/1.0\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "GET /app/k HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nsec-websocket-key: a\r\n\r\n",
        "GET /app/k HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n",
        "\x16\x03\x01\x02", /* a TLS handshake */
        "GET / HTTP/1.1\r\n folded: x\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        int client = client_connect();
        client_sends(client, slice_of(broken[i]));
        assert_refused(client, 400, "malformed HTTP request");
    }
    assert_int_equal(requests, 0);
}

static void a_host_may_be_empty_or_an_address_and_only_http_1_1_needs_one(void **state) {
    static const char *const good[] = {
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:6001\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a_b-c.example:443\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a%20b!$&'()*+,;=~\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int client = client_connect();
        client_sends(client, slice_of(good[i]));
        assert_int_equal(requests, i + 1);
        client_close(client);
    }
}

static void a_broken_request_behind_good_ones_leaves_their_answers_alone(void **state) {
    int client = client_connect();
    struct buffer in = {0};

    (void)state;
    client_sends(client,
                 SLICE("GET /good HTTP/1.1\r\nHost: h\r\n\r\nbroken\r\n\r\nGET /never HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_receive_to_end(worker, client, &in);
    assert_true(slice_starts_with(buffer_slice(&in), SLICE("HTTP/1.1 200 ")));
    assert_true(contains(&in, "GET /good ?  []\nHTTP/1.1 400 Bad Request\r\n"));
    assert_int_equal(requests, 1);
    buffer_dispose(&in);
    client_close(client);
}

static void append_head(struct buffer *text, unsigned count, size_t value_length) {
    buffer_append(text, SLICE("GET / HTTP/1.1\r\nHost: h\r\n"));
    for (unsigned i = 0; i < count; i++) {
        buffer_appendf(text, "h%u: ", i);
        append_body(text, value_length);
        buffer_append(text, SLICE("\r\n"));
    }
    buffer_append(text, SLICE("\r\n"));
}

static void a_head_with_too_much_in_it_is_refused_with_431(void **state) {
    /* The limit is 16384 bytes: a value of 16376 and the 8 bytes of "/", "Host", "h" and "h0" just fit. Host is one of
     * the 100 headers. */
    static const struct {
        unsigned count;
        size_t value_length;
        bool fits;
    } heads[] = {{99, 10, true},   {100, 10, false},  {200, 10, false},   {99, 150, true},  {99, 200, false},
                 {1, 16000, true}, {1, 17000, false}, {1, 100000, false}, {1, 16376, true}, {1, 16377, false}};

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        struct buffer text = {0}, in = {0};
        int client = client_connect();
        forget();
        append_head(&text, heads[i].count, heads[i].value_length);
        client_sends(client, buffer_slice(&text));
        if (heads[i].fits) {
            assert_int_equal(requests, 1);
            in = open_answer(client);
            client_close(client);
        } else {
            assert_int_equal(requests, 0);
            assert_refused(client, 431, "16384 bytes or 100 headers");
        }
        buffer_dispose(&in);
        buffer_dispose(&text);
    }
}

static void a_head_of_nothing_but_blanks_does_not_go_on_for_ever(void **state) {
    int client = client_connect();
    struct buffer blanks = {0};

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        buffer_append_byte(&blanks, ' ');
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\nA:"));
    for (unsigned i = 0; i < 40 && blanks.length != 0; i++) {
        client_sends(client, buffer_slice(&blanks));
        if (worker->spare_request != NULL)
            blanks.length = 0; /* the request was answered */
    }
    assert_int_equal(blanks.length, 0);
    buffer_dispose(&blanks);
    assert_refused(client, 431, "16384 bytes");
}

static void a_long_target_is_a_long_head(void **state) {
    int client = client_connect();
    struct buffer text = {0};

    (void)state;
    buffer_append(&text, SLICE("GET /"));
    append_body(&text, 17000);
    client_sends(client, buffer_slice(&text));
    buffer_dispose(&text);
    assert_refused(client, 431, "16384 bytes");
}

static void offers_to_speak_something_else_are_ignored_except_websocket(void **state) {
    int client = client_connect();

    (void)state;
    client_sends(client,
                 SLICE("GET /h2 HTTP/1.1\r\nHost: h\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"
                       "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
                       "POST /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
                       "CONNECT example.org:443 HTTP/1.1\r\nHost: h\r\n\r\n"
                       "GET /after HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_text(&seen,
                "GET /h2 ?  []\nGET /ws ?  [] websocket\nPOST /ws ?  []\nCONNECT example.org:443 ?  []\n"
                "GET /after ?  []\n");
    client_close(client);
}

/* --- heads that are decided later --- */

static void a_body_waits_for_the_decision_about_its_head(void **state) {
    int client = harness_http(worker, &deciding_handler);
    struct buffer in;

    (void)state;
    for (unsigned i = 0; i < 2; i++) { /* the connection is kept */
        client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
        client_sends(client, SLICE("hello"));
        assert_nothing_comes(client);
        harness_advance(worker, 300000);
        assert_nothing_comes(client);
        assert_int_equal(requests, i);
        accept_deferred_head();
        in = open_answer(client);
        assert_true(slice_starts_with(buffer_slice(&in), SLICE("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")));
        assert_int_equal(requests, i + 1);
        buffer_dispose(&in);
    }
    client_close(client);
    assert_int_equal(aborts, 0);
}

static void a_head_that_is_refused_later_closes_the_connection_without_its_body(void **state) {
    int client = harness_http(worker, &deciding_handler);
    struct buffer in = {0};

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    answer.status = 404;
    answer_deferred();
    harness_receive_to_end(worker, client, &in);
    assert_true(slice_starts_with(buffer_slice(&in), SLICE("HTTP/1.1 404 ")));
    assert_true(contains(&in, "\r\nConnection: close\r\n"));
    assert_int_equal(requests, 0);
    buffer_dispose(&in);
    client_close(client);
}

static void a_client_that_goes_away_before_the_decision_aborts_it(void **state) {
    int client = harness_http(worker, &deciding_handler);
    struct linger reset = {.l_onoff = 1};

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel"));
    assert_non_null(deferred);
    setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(client);
    assert_null(deferred);
    assert_int_equal(aborts, 1);
    assert_int_equal(requests, 0);
}

static void after_the_decision_the_rest_of_the_body_has_its_time(void **state) {
    int client = harness_http(worker, &deciding_handler);
    struct buffer in = {0};

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel"));
    accept_deferred_head();
    harness_advance(worker, 32000);
    harness_receive_to_end(worker, client, &in);
    assert_true(contains(&in, "HTTP/1.1 408 "));
    client_close(client);
    client = harness_http(worker, &deciding_handler);
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel"));
    http_drain(worker);
    accept_deferred_head();
    harness_advance(worker, 20000);
    assert_nothing_comes(client);
    client_sends(client, SLICE("lo"));
    in.length = 0;
    harness_receive_to_end(worker, client, &in);
    assert_text(&seen, "POST / ?  [hello]\n");
    assert_true(contains(&in, "\r\nConnection: close\r\n"));
    buffer_dispose(&in);
    client_close(client);
}

/* --- answers that come later --- */

static void a_deferred_answer_holds_up_those_behind_it(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    defers = true;
    client_sends(client, SLICE("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_text(&seen, "GET /1 ?  []\n");
    assert_nothing_comes(client);
    client_sends(client, SLICE("GET /3 HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_int_equal(requests, 1);
    answer_deferred();
    harness_settle(worker);
    assert_text(&seen, "GET /1 ?  []\nGET /2 ?  []\n");
    defers = false;
    answer_deferred();
    in = open_answer(client);
    assert_text(&seen, "GET /1 ?  []\nGET /2 ?  []\nGET /3 ?  []\n");
    assert_true(slice_ends_with(buffer_slice(&in), SLICE("\r\n\r\nGET /3 ?  []\n")));
    buffer_dispose(&in);
    client_close(client);
    assert_int_equal(aborts, 0);
}

static void a_deferred_answer_has_all_the_time_it_needs(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    defers = true;
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_advance(worker, 300000);
    answer_deferred();
    in = open_answer(client);
    assert_true(slice_ends_with(buffer_slice(&in), SLICE("later")));
    buffer_dispose(&in);
    client_close(client);
}

static void a_client_that_goes_away_before_its_answer_aborts_it(void **state) {
    int client = client_connect();

    (void)state;
    defers = true;
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_non_null(deferred);
    client_close(client);
    assert_null(deferred);
    assert_int_equal(aborts, 1);
    assert_int_equal(requests, 1);
}

static void a_client_that_has_closed_its_half_gets_its_answers(void **state) {
    for (unsigned late = 0; late < 2; late++) {
        int client = client_connect();
        struct buffer in = {0};

        (void)state;
        defers = late;
        harness_send(worker, client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        shutdown(client, SHUT_WR);
        harness_settle(worker);
        for (unsigned i = 0; late && i < 2; i++) {
            answer_deferred();
            harness_settle(worker);
        }
        harness_receive_to_end(worker, client, &in);
        assert_int_equal(requests, 2 + late * 2);
        assert_true(slice_ends_with(buffer_slice(&in), late ? SLICE("\r\n\r\nlater") : SLICE("\r\n\r\nGET / ?  []\n")));
        assert_int_equal(aborts, 0);
        harness_settle(worker);
        assert_int_equal(worker->stream_count, 0); /* both directions are closed */
        buffer_dispose(&in);
        close(client);
    }
}

static void a_client_that_closes_its_half_inside_a_request_is_closed(void **state) {
    static const char *const parts[] = {"GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhel", ""};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        int client = client_connect();
        client_sends(client, slice_of(parts[i]));
        shutdown(client, SHUT_WR);
        assert_closed_without_a_word(client);
    }
    assert_int_equal(requests, 0);
}

/* --- time --- */

static void a_connection_that_says_nothing_is_closed_after_10_s(void **state) {
    int client = client_connect();

    (void)state;
    harness_advance(worker, 9900);
    assert_nothing_comes(client);
    harness_advance(worker, 1200);
    assert_closed_without_a_word(client);
}

static void a_head_must_arrive_within_10_s_however_it_trickles(void **state) {
    static const char head[] = "GET / HTTP/1.1\r\nHost";
    int client = client_connect();

    (void)state;
    harness_advance(worker, 9000); /* the timeout starts at the first byte */
    for (size_t i = 0; i < 9; i++) {
        client_sends(client, (struct slice){head + i, 1});
        harness_advance(worker, 1000);
    }
    assert_nothing_comes(client);
    harness_advance(worker, 2200);
    assert_refused(client, 408, "10 s");
}

static void a_body_must_arrive_within_30_s(void **state) {
    int client = client_connect();

    (void)state;
    client_sends(client, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n"));
    for (unsigned i = 0; i < 29; i++) {
        harness_advance(worker, 1000);
        client_sends(client, SLICE("x"));
    }
    assert_nothing_comes(client);
    harness_advance(worker, 2200);
    assert_refused(client, 408, "30 s");
}

static void an_idle_connection_is_closed_after_60_s(void **state) {
    int client = client_connect();
    struct buffer in;

    (void)state;
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(client);
    buffer_dispose(&in);
    harness_advance(worker, 50000);
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); /* the timeout starts here */
    in = open_answer(client);
    buffer_dispose(&in);
    harness_advance(worker, 59900);
    assert_nothing_comes(client);
    harness_advance(worker, 1200);
    assert_closed_without_a_word(client);
}

/* --- a client that only sends --- */

static int client_that_does_not_read(unsigned *sent) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    int client = client_connect();

    answer_bytes = 20000;
    for (*sent = 0; *sent < 200; (*sent)++) {
        if (send(client, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof request - 1))
            break;
        harness_settle(worker);
    }
    return client;
}

static void a_client_that_does_not_read_is_not_served_without_end(void **state) {
    struct buffer in = {0};
    unsigned sent;
    int client = client_that_does_not_read(&sent);
    unsigned served = requests;

    (void)state;
    assert_true(served < sent); /* reading stops when the socket, 256 KiB and one answer are full */
    while (requests < sent) {
        size_t before = in.length;
        assert_true(harness_receive(client, &in));
        assert_true(in.length > before);
        harness_settle(worker);
    }
    harness_receive(client, &in);
    assert_true(in.length > (size_t)sent * 20000);
    buffer_dispose(&in);
    client_close(client);
}

static void a_client_that_does_not_read_for_60_s_is_closed(void **state) {
    unsigned sent;
    int client = client_that_does_not_read(&sent);

    (void)state;
    harness_advance(worker, 59000);
    assert_int_equal(worker->stream_count, 1);
    harness_advance(worker, 3000);
    assert_int_equal(worker->stream_count, 0);
    client_close(client);
}

static void a_client_that_reads_slowly_gets_all_of_a_large_answer(void **state) {
    struct buffer in = {0};
    int client = client_connect();

    (void)state;
    answer_bytes = 4 * 1024 * 1024;
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    for (unsigned i = 0; i < 4; i++) {
        harness_advance(worker, 45000);
        assert_int_equal(worker->stream_count, 1);
        assert_true(harness_receive(client, &in));
        harness_settle(worker);
    }
    while (in.length < answer_bytes) {
        assert_true(harness_receive(client, &in));
        harness_settle(worker);
    }
    harness_advance(worker, 40000); /* less than the idle timeout, which starts when the client has read all */
    assert_int_equal(worker->stream_count, 1);
    harness_advance(worker, 90000);
    assert_int_equal(worker->stream_count, 0);
    buffer_dispose(&in);
    client_close(client);
}

/* --- shutting down --- */

static void a_client_that_does_not_read_does_not_hold_up_the_workers_end(void **state) {
    unsigned sent;
    int client = client_that_does_not_read(&sent), late = client_that_does_not_read(&sent);

    (void)state;
    http_drain(worker);
    http_end(worker);
    harness_settle(worker);
    assert_int_equal(worker->stream_count, 2);
    worker_stop(worker);
    harness_advance(worker, 3100);
    assert_int_equal(worker->stream_count, 0);
    client_close(client);
    client_close(late);
}

static void a_drain_closes_connections_after_their_next_answer(void **state) {
    int used = client_connect(), receiving = client_connect(), waiting = client_connect(), stalled = client_connect();
    int idle = client_connect();
    struct buffer in = {0};

    (void)state;
    client_sends(used, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    in = open_answer(used);
    in.length = 0;
    client_sends(idle, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    buffer_dispose(&in);
    in = open_answer(idle);
    in.length = 0;
    client_sends(receiving, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel"));
    client_sends(stalled, SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhel"));
    defers = true;
    client_sends(waiting, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    defers = false;
    http_drain(worker);
    harness_advance(worker, 20000); /* within the timeout of a body */
    assert_nothing_comes(stalled);
    assert_nothing_comes(receiving);
    assert_nothing_comes(waiting);
    assert_nothing_comes(idle);
    client_sends(used, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_receive_to_end(worker, used, &in);
    assert_true(contains(&in, "HTTP/1.1 200 "));
    assert_true(contains(&in, "\r\nConnection: close\r\n"));
    in.length = 0;
    client_sends(receiving, SLICE("lo"));
    harness_receive_to_end(worker, receiving, &in);
    assert_true(contains(&in, "\r\nConnection: close\r\n"));
    assert_true(slice_ends_with(buffer_slice(&in), SLICE("POST / ?  [hello]\n")));
    in.length = 0;
    http_end(worker);
    harness_receive_to_end(worker, idle, &in);
    assert_int_equal(in.length, 0);
    answer_deferred();
    harness_receive_to_end(worker, waiting, &in);
    assert_true(contains(&in, "\r\nConnection: close\r\n"));
    assert_true(slice_ends_with(buffer_slice(&in), SLICE("later")));
    in.length = 0;
    harness_advance(worker, 4000);
    harness_receive_to_end(worker, stalled, &in);
    assert_true(contains(&in, "HTTP/1.1 503 "));
    assert_true(contains(&in, "\r\nRetry-After: 1\r\n"));
    buffer_dispose(&in);
    close(stalled);
    close(idle);
    close(used);
    close(receiving);
    client_close(waiting);
}

static void a_client_that_has_sent_nothing_gets_two_seconds_and_then_an_answer(void **state) {
    int before = client_connect(), asks = client_connect(), after;
    struct buffer in = {0};

    (void)state;
    harness_settle(worker);
    http_drain(worker);
    http_end(worker);
    after = client_connect();
    assert_nothing_comes(before);
    assert_nothing_comes(after);
    client_sends(asks, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_receive_to_end(worker, asks, &in);
    assert_true(contains(&in, "HTTP/1.1 200 "));
    harness_advance(worker, 1000);
    assert_nothing_comes(before);
    harness_advance(worker, 2000);
    for (unsigned i = 0; i < 2; i++) {
        in.length = 0;
        harness_receive_to_end(worker, i == 0 ? before : after, &in);
        assert_true(contains(&in, "HTTP/1.1 503 "));
        assert_true(contains(&in, "\r\nRetry-After: 1\r\n"));
        assert_true(contains(&in, "\r\nConnection: close\r\n"));
    }
    buffer_dispose(&in);
    close(before);
    close(asks);
    client_close(after);
}

/* --- short of descriptors --- */

static bool is_closed(int client) {
    struct buffer in = {0};
    bool closed;

    harness_settle(worker);
    closed = !harness_receive(client, &in);
    buffer_dispose(&in);
    return closed;
}

/* Every connection from now on finds descriptors short, and with `last` the last ones in use. */
static void set_short(bool last) {
    atomic_store(&workers.descriptors.websockets, 0);
    atomic_store(&workers.descriptors.requests, last ? 0 : DESCRIPTORS_NO_BOUND);
    log_configure(&(struct log_settings){.level = LOG_ERROR});
}

static void short_of_descriptors_a_connection_closes_after_its_answer(void **state) {
    int before = client_connect(), client;
    struct buffer in = {0};

    (void)state;
    set_short(false);
    client = client_connect();
    client_sends(client, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_receive_to_end(worker, client, &in);
    assert_true(contains(&in, "HTTP/1.1 200 OK\r\n") && contains(&in, "Connection: close\r\n"));
    client_sends(before, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_false(is_closed(before)); /* it was accepted before */
    close(client);
    client_close(before);
    buffer_dispose(&in);
}

static void short_of_descriptors_the_connection_that_waits_longest_makes_room(void **state) {
    int clients[4], late, later;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        clients[i] = client_connect();
    client_sends(clients[0], SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_advance(worker, 1000);
    client_sends(clients[0], SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); /* waits from now on */
    client_sends(clients[2], SLICE("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe"));
    set_short(false);
    late = client_connect();
    assert_true(is_closed(clients[1]));
    assert_false(is_closed(clients[2])); /* it sends a body */
    later = client_connect();            /* nobody else has waited for half a second */
    assert_false(is_closed(clients[0]) || is_closed(clients[2]) || is_closed(late));
    harness_advance(worker, 1000);
    clients[3] = client_connect();
    assert_true(is_closed(clients[0]));
    assert_false(is_closed(late) || is_closed(later));
    assert_int_equal(counter_read(&worker->counters.descriptor_closes), 2);
    for (unsigned i = 0; i < 4; i++)
        close(clients[i]);
    close(late);
    client_close(later);
}

static void with_the_last_descriptors_in_use_all_that_wait_make_room(void **state) {
    int clients[10], deferring, late;

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        clients[i] = client_connect();
    defers = true;
    deferring = client_connect();
    client_sends(deferring, SLICE("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_advance(worker, 1000);
    set_short(true);
    late = client_connect();
    for (unsigned i = 0; i < 10; i++) {
        assert_true(is_closed(clients[i]));
        close(clients[i]);
    }
    assert_false(is_closed(deferring)); /* it waits for the server */
    assert_false(is_closed(late));
    answer_deferred();
    close(late);
    client_close(deferring);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(requests_read_the_same_wherever_they_are_split),
        TEST(pipelined_requests_are_answered_in_order_in_one_turn),
        TEST(headers_keep_their_order_and_lose_the_blanks_around_their_values),
        TEST(every_byte_of_a_request_is_counted),
        TEST(header_look_ups_ignore_case_and_take_words_of_lists),
        TEST(the_connection_ends_when_the_client_wants_it_to),
        TEST(a_1_0_client_may_ask_to_keep_the_connection),
        TEST(the_handler_may_end_the_connection_with_its_answer),
        TEST(between_requests_a_connection_owns_nothing),
        TEST(a_head_request_gets_the_head_only_and_later_ones_their_bodies),
        TEST(an_answer_has_the_type_and_headers_it_is_given),
        TEST(a_client_that_waits_to_be_asked_for_the_body_is_asked_once),
        TEST(nobody_is_asked_for_a_body_that_will_not_be_read),
        TEST(a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not),
        TEST(a_body_that_never_ends_is_refused_when_it_passes_the_limit),
        TEST(broken_requests_are_refused_with_400),
        TEST(a_host_may_be_empty_or_an_address_and_only_http_1_1_needs_one),
        TEST(a_broken_request_behind_good_ones_leaves_their_answers_alone),
        TEST(a_head_with_too_much_in_it_is_refused_with_431),
        TEST(a_head_of_nothing_but_blanks_does_not_go_on_for_ever),
        TEST(a_long_target_is_a_long_head),
        TEST(offers_to_speak_something_else_are_ignored_except_websocket),
        TEST(a_body_waits_for_the_decision_about_its_head),
        TEST(a_head_that_is_refused_later_closes_the_connection_without_its_body),
        TEST(a_client_that_goes_away_before_the_decision_aborts_it),
        TEST(after_the_decision_the_rest_of_the_body_has_its_time),
        TEST(a_deferred_answer_holds_up_those_behind_it),
        TEST(a_deferred_answer_has_all_the_time_it_needs),
        TEST(a_client_that_goes_away_before_its_answer_aborts_it),
        TEST(a_client_that_has_closed_its_half_gets_its_answers),
        TEST(a_client_that_closes_its_half_inside_a_request_is_closed),
        TEST(a_connection_that_says_nothing_is_closed_after_10_s),
        TEST(a_head_must_arrive_within_10_s_however_it_trickles),
        TEST(a_body_must_arrive_within_30_s),
        TEST(an_idle_connection_is_closed_after_60_s),
        TEST(a_client_that_does_not_read_is_not_served_without_end),
        TEST(a_client_that_reads_slowly_gets_all_of_a_large_answer),
        TEST(a_client_that_does_not_read_for_60_s_is_closed),
        TEST(a_client_that_does_not_read_does_not_hold_up_the_workers_end),
        TEST(short_of_descriptors_a_connection_closes_after_its_answer),
        TEST(short_of_descriptors_the_connection_that_waits_longest_makes_room),
        TEST(with_the_last_descriptors_in_use_all_that_wait_make_room),
        TEST(a_drain_closes_connections_after_their_next_answer),
        TEST(a_client_that_has_sent_nothing_gets_two_seconds_and_then_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
