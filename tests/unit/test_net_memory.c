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
#include "net/websocket.h"
#include "net/worker_loop.h"

#define MB ((size_t)1024 * 1024)
#define LIMIT (16 * MB) /* 4 MB for requests, of which the last one is for small ones */

static struct workers workers;
static struct worker *worker;
static unsigned requests;
static size_t answer_bytes; /* of the body; 0: a short one */

static void on_request(struct http_connection *connection, struct http_request *request) {
    (void)request;
    struct buffer body = {0};

    requests++;
    buffer_append(&body, SLICE("{}"));
    while (body.length < answer_bytes)
        buffer_append_byte(&body, ' ');
    http_respond(connection, &(struct http_response){.status = 200, .body = buffer_slice(&body)});
    buffer_dispose(&body);
}

static void on_abort(struct http_connection *connection) {
    (void)connection;
    fail_msg("no request waits for its answer");
}

static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort, .max_body_bytes = 10 * MB};

/* --- the WebSocket --- */

static struct websocket websocket;
static struct websocket_limits limits = {
    .output = {.max_messages = 100000}, .max_message_bytes = 2 * MB, .max_frame_bytes = 2 * MB};
static unsigned messages, closings, slows;

static void on_activity(struct websocket *socket, size_t length) {
    (void)socket;
    (void)length;
}

static void on_message(struct websocket *socket, struct slice text) {
    (void)socket;
    (void)text;
    messages++;
}

static void ignore_call(struct websocket *socket) {
    (void)socket;
}

static void on_closing(struct websocket *socket) {
    (void)socket;
    closings++;
}

static void on_slow(struct websocket *socket) {
    slows++;
    websocket_close_slow(socket, SLICE("slow"), 4100, SLICE("slow"));
}

static void on_no_room(struct websocket *socket) {
    websocket_close(socket, 4100, SLICE("no room"));
}

static const struct websocket_handler websocket_handler = {.on_activity = on_activity,
                                                           .on_message = on_message,
                                                           .on_timer = ignore_call,
                                                           .on_slow = on_slow,
                                                           .on_no_room = on_no_room,
                                                           .on_closing = on_closing,
                                                           .on_closed = ignore_call};

static void on_handshake(struct http_connection *connection, struct http_request *request) {
    websocket = (struct websocket){0};
    assert_true(websocket_accept(connection, request, &websocket, &websocket_handler, &limits));
}

static const struct http_handler handshake_handler = {.on_request = on_handshake, .on_abort = on_abort};

/* Connects with an offer to compress. */
static int connect_with(const struct http_handler *http_handler) {
    struct buffer in = {0};
    int client = harness_http(worker, http_handler);

    harness_send(worker, client,
                 SLICE("GET /app/key HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                       "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"));
    harness_settle(worker);
    assert_true(harness_receive(client, &in));
    buffer_dispose(&in);
    messages = closings = slows = 0;
    return client;
}

static int connect_websocket(void) {
    return connect_with(&handshake_handler);
}

static void send_payload(int client, size_t length) {
    struct buffer text = {0};

    buffer_reserve(&text, length);
    memset(text.data, 'f', length);
    text.length = length;
    harness_send(worker, client, buffer_slice(&text));
    harness_settle(worker);
    buffer_dispose(&text);
}

/* Sends the head of a frame of `length` bytes and the first `sent` of them; `first` holds FIN and opcode. The mask is
 * 0. */
static void send_part(int client, uint8_t first, size_t length, size_t sent) {
    uint8_t head[WEBSOCKET_HEADER_MAX + 4] = {0};
    size_t head_length = websocket_header_write(head, WEBSOCKET_TEXT, length);

    head[0] = first;
    head[1] |= 0x80;
    harness_send(worker, client, (struct slice){(char *)head, head_length + 4});
    send_payload(client, sent);
}

/* Expects the close frame of on_no_room, and then ignores everything. */
static void assert_closed_for_room(int client) {
    struct buffer in = {0};

    harness_settle(worker);
    assert_int_equal(closings, 1);
    assert_true(harness_receive(client, &in));
    assert_int_equal(in.length, 2 + 2 + 7);
    assert_memory_equal(in.data, "\x88\x09\x10\x04no room", in.length);
    buffer_dispose(&in);
    send_part(client, 0x81, 100000, 100000);
    send_part(client, 0x81, 10, 10);
    assert_int_equal(messages, 0);
    assert_int_equal(budget_used(BUDGET_INPUT), 0);
    close(client);
}

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    requests = 0;
    answer_bytes = 0;
    limits.compress = false;
    budget_set_limit(LIMIT);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_destroy(&workers);
    assert_int_equal(budget_total(), 0);
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

/* --- who is closed for a small request without room --- */

static const struct slice whole_request = SLICE_INIT("GET /x HTTP/1.1\r\nHost: h\r\n\r\n");

/* The steps of one request find room one by one, and what is closed gives its memory back at the end of the turn. */
#define HALF_HEADS 4

static void begin_heads(int clients[HALF_HEADS]) {
    for (int i = 0; i < HALF_HEADS; i++) {
        clients[i] = harness_http(worker, &handler);
        harness_send(worker, clients[i], SLICE("GET /x HTTP/1.1\r\nHo"));
    }
    harness_settle(worker);
}

/* Fills the share of requests; returns how many bytes that took. */
static size_t fill_bodies(void) {
    size_t bytes = (size_t)(budget_kind_limit(BUDGET_BODIES) - budget_used(BUDGET_BODIES));

    budget_add(BUDGET_BODIES, NULL, bytes);
    return bytes;
}

static bool is_open(int client) {
    struct buffer in = {0};
    bool open = harness_receive(client, &in);

    buffer_dispose(&in);
    return open;
}

static void close_heads(int clients[HALF_HEADS]) {
    assert_false(is_open(clients[0]));
    for (int i = 0; i < HALF_HEADS; i++)
        close(clients[i]);
}

/* Opens a connection that asks once, and is idle then. */
static int open_idle(void) {
    int client = harness_http(worker, &handler);

    harness_send(worker, client, whole_request);
    assert_answer(client, "HTTP/1.1 200 ", "{}");
    return client;
}

static void a_half_head_makes_room_behind_many_idle_connections(void **state) {
    int idle[300], halves[HALF_HEADS], client;
    size_t bytes;

    (void)state;
    for (int i = 0; i < 300; i++)
        idle[i] = open_idle();
    begin_heads(halves);
    harness_advance(worker, 1000);
    http_request_free(worker->spare_request);
    worker->spare_request = NULL;
    bytes = fill_bodies();
    client = open_idle();
    budget_give(BUDGET_BODIES, NULL, bytes);
    close_heads(halves);
    for (int i = 0; i < 300; i++) {
        assert_true(is_open(idle[i]));
        close(idle[i]);
    }
    close(client);
}

static void a_request_that_has_just_begun_is_not_closed_because_it_was_idle_before(void **state) {
    int backend = open_idle(), halves[HALF_HEADS], client;
    size_t bytes;

    (void)state;
    harness_advance(worker, 6000);
    begin_heads(halves);
    harness_advance(worker, 1000);
    harness_send(worker, backend, (struct slice){whole_request.data, whole_request.length - 1});
    harness_settle(worker);
    bytes = fill_bodies();
    client = open_idle();
    close_heads(halves);
    harness_send(worker, backend, SLICE("\n"));
    assert_answer(backend, "HTTP/1.1 200 ", "{}");
    budget_give(BUDGET_BODIES, NULL, bytes);
    close(backend);
    close(client);
}

/* The time for a body counts from its beginning, not from the end of the request before. */
static void a_body_that_has_just_begun_is_not_closed_because_it_was_idle_before(void **state) {
    int backend = open_idle(), client;
    size_t bytes;

    (void)state;
    harness_advance(worker, 6000);
    harness_send(worker, backend, SLICE("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1"));
    harness_settle(worker);
    bytes = fill_bodies();
    client = harness_http(worker, &handler);
    harness_send(worker, client, whole_request);
    assert_refused(client);
    harness_send(worker, backend, SLICE("2"));
    assert_answer(backend, "HTTP/1.1 200 ", "{}");
    budget_give(BUDGET_BODIES, NULL, bytes);
    close(backend);
}

static void who_does_not_read_is_closed_behind_many_idle_connections(void **state) {
    int idle[300], unread, client;

    (void)state;
    for (int i = 0; i < 300; i++)
        idle[i] = open_idle();
    answer_bytes = MB;
    unread = harness_http(worker, &handler);
    harness_send(worker, unread, whole_request);
    harness_settle(worker);
    harness_advance(worker, 6000);
    budget_add(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    client = harness_http(worker, &handler);
    harness_send(worker, client, whole_request);
    assert_refused(client);
    harness_settle(worker);
    assert_int_equal(worker->stream_count, 300);
    budget_give(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    for (int i = 0; i < 300; i++)
        close(idle[i]);
    close(unread);
}

/* --- half frames and fragments --- */

static void half_a_frame_is_counted_while_it_is_held(void **state) {
    int client = connect_websocket();

    (void)state;
    send_part(client, 0x81, 100000, 50000);
    assert_in_range(budget_used(BUDGET_INPUT), 50000, 300000);
    send_payload(client, 50000);
    assert_int_equal(messages, 1);
    assert_int_equal(budget_used(BUDGET_INPUT), 0);
    send_part(client, 0x81, 100000, 50000);
    close(client);
}

static void half_a_frame_without_room_closes_its_connection(void **state) {
    int client = connect_websocket();

    (void)state;
    budget_add(BUDGET_INPUT, NULL, LIMIT / 4 - 20000);
    send_part(client, 0x81, 100000, 10000);
    assert_int_equal(closings, 0);
    send_payload(client, 30000); /* not all of it fits */
    budget_give(BUDGET_INPUT, NULL, LIMIT / 4 - 20000);
    assert_closed_for_room(client);
}

static void the_beginning_of_a_frame_is_kept_without_room(void **state) {
    int client = connect_websocket();

    (void)state;
    budget_add(BUDGET_INPUT, NULL, LIMIT / 4);
    send_part(client, 0x81, 4000, 3000);
    send_payload(client, 1000);
    assert_int_equal(closings, 0);
    assert_int_equal(messages, 1);
    budget_give(BUDGET_INPUT, NULL, LIMIT / 4);
    assert_int_equal(budget_used(BUDGET_INPUT), 0);
    close(client);
}

static void fragments_are_counted_while_they_are_held(void **state) {
    int client = connect_websocket();

    (void)state;
    send_part(client, 0x01, 100000, 100000);
    assert_in_range(budget_used(BUDGET_INPUT), 100000, 300000);
    send_part(client, 0x80, 100000, 100000);
    assert_int_equal(messages, 1);
    assert_int_equal(budget_used(BUDGET_INPUT), 0);
    send_part(client, 0x01, 100000, 100000);
    close(client);
}

static void fragments_without_room_close_their_connection(void **state) {
    int client = connect_websocket();

    (void)state;
    budget_add(BUDGET_INPUT, NULL, LIMIT / 4);
    send_part(client, 0x01, 1000, 1000);
    send_part(client, 0x00, 3000, 3000);
    assert_int_equal(closings, 0);
    send_part(client, 0x00, 1000, 1000);
    budget_give(BUDGET_INPUT, NULL, LIMIT / 4);
    assert_closed_for_room(client);
}

/* --- output --- */

static void send_bytes_to(struct websocket *socket, size_t length) {
    static char text[MB];

    memset(text, 't', length);
    websocket_send_text(socket, &(struct slice){text, length}, 1);
}

static void send_bytes(size_t length) {
    send_bytes_to(&websocket, length);
}

static void a_frame_counts_once_for_all_readers(void **state) {
    struct frame *frame = frame_create(MB);
    struct chunk *chunk = chunk_of_frame(frame);
    struct websocket readers[3];
    int clients[3];

    (void)state;
    memset(frame->bytes, 0, MB);
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_websocket();
        readers[i] = websocket;
        stream_send(readers[i].stream, chunk);
    }
    chunk_unref(chunk);
    frame_unref(frame);
    assert_in_range(budget_used(BUDGET_OUTPUT), MB, MB + 1000);
    for (int i = 0; i < 3; i++)
        stream_close(readers[i].stream);
    harness_settle(worker);
    assert_int_equal(budget_used(BUDGET_OUTPUT), 0);
    for (int i = 0; i < 3; i++)
        close(clients[i]);
}

static void a_queue_counts_its_messages_and_itself(void **state) {
    int client = connect_websocket();
    uint64_t before;

    (void)state;
    while (stream_unsent_bytes(websocket.stream) == 0) {
        send_bytes(4000);
        harness_turn(worker);
    }
    before = budget_used(BUDGET_OUTPUT);
    for (int i = 0; i < 100; i++)
        send_bytes(4000);
    assert_in_range(budget_used(BUDGET_OUTPUT) - before, 100 * 4000, 100 * 4200);
    stream_drop_output(websocket.stream);
    assert_true(budget_used(BUDGET_OUTPUT) <= before + 128 * sizeof(void *) + 100);
    close(client);
}

static void a_reader_may_have_less_unsent_while_memory_is_short(void **state) {
    int client = connect_websocket();
    uint64_t refusals = budget_refusals(BUDGET_OUTPUT);

    (void)state;
    while (stream_unsent_bytes(websocket.stream) < 50000) { /* the socket is full */
        send_bytes(4000);
        harness_turn(worker);
    }
    assert_int_equal(slows, 0);
    budget_add(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    send_bytes(4000);
    harness_turn(worker);
    assert_int_equal(slows, 1);
    assert_int_equal(budget_refusals(BUDGET_OUTPUT) - refusals, 1);
    assert_true(stream_unsent_bytes(websocket.stream) < 5000); /* what was begun, and the close */
    budget_give(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    close(client);
}

static void a_large_message_to_a_full_socket_is_not_kept_while_memory_is_short(void **state) {
    int client = connect_websocket();

    (void)state;
    budget_add(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    send_bytes(MB); /* more than the socket takes */
    harness_turn(worker);
    assert_int_equal(slows, 1);
    budget_give(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    close(client);
}

static void who_reads_loses_nothing_while_memory_is_short(void **state) {
    int client = connect_websocket();
    struct buffer in = {0};

    (void)state;
    budget_add(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    for (int i = 0; i < 100; i++) {
        send_bytes(30000);
        send_bytes(5000);
        harness_settle(worker);
        assert_true(harness_receive(client, &in));
    }
    assert_int_equal(slows, 0);
    assert_int_equal(in.length, 100 * (35000 + 8));
    buffer_dispose(&in);
    budget_give(BUDGET_OUTPUT, NULL, LIMIT / 100 * 40);
    close(client);
}

static int request_answer(size_t bytes) {
    int client = harness_http(worker, &handler);

    answer_bytes = bytes;
    harness_send(worker, client, SLICE("GET /x HTTP/1.1\r\nHost: h\r\n\r\n"));
    harness_settle(worker);
    return client;
}

static void answers_that_are_not_read_have_a_bound_in_sum(void **state) {
    uint64_t refusals = budget_refusals(BUDGET_OUTPUT);
    int clients[20], small;
    size_t count = 0;

    (void)state;
    while (count < 20 && budget_refusals(BUDGET_OUTPUT) == refusals)
        clients[count++] = request_answer(MB);
    assert_in_range(count, 6, 8); /* 40 % of 16 MB, less what the sockets took */
    assert_true(budget_used(BUDGET_OUTPUT) <= LIMIT / 100 * 40);
    assert_refused(clients[--count]);
    small = request_answer(1000);
    assert_answer(small, "HTTP/1.1 200 ", "{}");
    close(small);
    harness_advance(worker, 6000); /* they have had their time */
    assert_refused(request_answer(MB));
    small = request_answer(MB);
    assert_answer(small, "HTTP/1.1 200 ", "{}");
    close(small);
    for (size_t i = 0; i < count; i++)
        close(clients[i]);
}

/* --- windows of compression --- */

#define WINDOW_BYTES (((size_t)1 << 17) + ((size_t)1 << 17)) /* zlib's formula, without its state */

static void a_window_is_counted_from_the_first_message_on(void **state) {
    int client;

    (void)state;
    limits.compress = true;
    limits.window_bits = 15;
    client = connect_websocket();
    assert_int_equal(budget_used(BUDGET_COMPRESSION), 0);
    send_bytes(100);
    harness_settle(worker);
    assert_in_range(budget_used(BUDGET_COMPRESSION), WINDOW_BYTES, WINDOW_BYTES + 8192);
    close(client);
}

static void a_connection_that_is_refused_has_no_window(void **state) {
    int client;

    (void)state;
    limits.compress = true;
    limits.window_bits = 15;
    client = connect_websocket();
    websocket_will_close(&websocket);
    send_bytes(100);
    websocket_close(&websocket, 4001, SLICE("refused"));
    harness_settle(worker);
    assert_int_equal(budget_used(BUDGET_COMPRESSION), 0);
    close(client);
}

/* Returns the first byte of the next frame: its reserved bit tells whether the message is compressed. */
static unsigned next_frame_begins(int client) {
    struct buffer in = {0};
    unsigned first;

    send_bytes(1000);
    harness_settle(worker);
    assert_true(harness_receive(client, &in));
    assert_true(in.length > 2);
    first = (uint8_t)in.data[0];
    buffer_dispose(&in);
    return first;
}

static void without_room_for_a_window_messages_are_compressed_alone(void **state) {
    int client;

    (void)state;
    limits.compress = true;
    limits.window_bits = 15;
    client = connect_websocket();
    budget_add(BUDGET_COMPRESSION, NULL, LIMIT / 100 * 40);
    assert_int_equal(next_frame_begins(client), 0xC1);
    assert_null(websocket.window);
    budget_give(BUDGET_COMPRESSION, NULL, LIMIT / 100 * 40);
    assert_int_equal(next_frame_begins(client), 0xC1);
    assert_non_null(websocket.window);
    close(client);
}

/* --- apps --- */

#define TENANTS_MAX 64

/* A connection that is counted for an app. */
struct tenant {
    struct websocket websocket;
    struct budget_app *app; /* NULL: it is closing */
    bool slow;
};

static struct tenant tenants[TENANTS_MAX];
static unsigned tenant_count;
static struct budget_app *connecting; /* the app of the next tenant */

static struct tenant *tenant_of(const struct websocket *socket) {
    return container_of(socket, struct tenant, websocket);
}

static struct budget_app *app_of_tenant(const struct websocket *socket) {
    return tenant_of(socket)->app;
}

static void on_tenant_closing(struct websocket *socket) {
    budget_unassign(tenant_of(socket)->app, stream_held_bytes(socket->stream));
    tenant_of(socket)->app = NULL;
    closings++;
}

static void on_tenant_slow(struct websocket *socket) {
    tenant_of(socket)->slow = true;
    on_slow(socket);
}

static const struct websocket_handler tenant_handler = {.on_activity = on_activity,
                                                        .on_message = on_message,
                                                        .on_timer = ignore_call,
                                                        .on_slow = on_tenant_slow,
                                                        .on_no_room = on_no_room,
                                                        .on_closing = on_tenant_closing,
                                                        .on_closed = ignore_call,
                                                        .app = app_of_tenant};

static void on_tenant_handshake(struct http_connection *connection, struct http_request *request) {
    struct tenant *tenant = &tenants[tenant_count++];

    *tenant = (struct tenant){0};
    assert_true(websocket_accept(connection, request, &tenant->websocket, &tenant_handler, &limits));
    tenant->app = connecting;
    budget_assign(tenant->app, stream_held_bytes(tenant->websocket.stream));
}

static const struct http_handler tenant_http_handler = {.on_request = on_tenant_handshake, .on_abort = on_abort};

static int connect_tenant(struct budget_app *app) {
    connecting = app;
    return connect_with(&tenant_http_handler);
}

static struct tenant *last_tenant(void) {
    return &tenants[tenant_count - 1];
}

/* Connects for an app until a connection has no window after its first message. Returns the number of windows. */
static unsigned take_windows(struct budget_app *app, int *clients, unsigned most) {
    for (unsigned i = 0; i < most; i++) {
        clients[i] = connect_tenant(app);
        send_bytes_to(&last_tenant()->websocket, 100);
        if (last_tenant()->websocket.window == NULL)
            return i;
    }
    return most;
}

static void close_tenants(const int *clients, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        close(clients[i]);
    harness_settle(worker);
    tenant_count = 0;
}

static void an_app_leaves_windows_for_the_next(void **state) {
    struct budget_app *first = budget_app_create(), *second = budget_app_create();
    size_t all = LIMIT / 100 * 40 / (WINDOW_BYTES + 6 * 1024);
    int clients[TENANTS_MAX];
    unsigned taken, more;

    (void)state;
    limits.compress = true;
    limits.window_bits = 15;
    taken = take_windows(first, clients, TENANTS_MAX);
    assert_in_range(taken, all * 2 / 3 - 2, all * 2 / 3);
    more = take_windows(second, clients + taken + 1, TENANTS_MAX - taken - 1);
    assert_in_range(more, 3, all - taken);
    assert_true(budget_app_held(second) > more * WINDOW_BYTES);
    close_tenants(clients, taken + more + 2);
    assert_int_equal(budget_app_held(first), 0);
    assert_int_equal(budget_used(BUDGET_COMPRESSION), 0);
    budget_app_release(first);
    budget_app_release(second);
}

/* The closing connection of a slow reader stays until its client answers. */
static void a_window_goes_when_its_connection_begins_to_close(void **state) {
    struct budget_app *app = budget_app_create();
    int client;

    (void)state;
    limits.compress = true;
    limits.window_bits = 15;
    client = connect_tenant(app);
    send_bytes_to(&last_tenant()->websocket, 100);
    assert_true(budget_used(BUDGET_COMPRESSION) > WINDOW_BYTES);
    websocket_close(&last_tenant()->websocket, 4009, SLICE("closed"));
    assert_int_equal(budget_used(BUDGET_COMPRESSION), 0);
    budget_app_release(app); /* its last messages still wait */
    harness_settle(worker);
    close_tenants(&client, 1);
}

/* Fills the socket of a tenant, and queues messages until it has so many bytes unsent, or was too slow. */
static void fill_output(struct tenant *tenant, uint64_t unsent) {
    while (stream_unsent_bytes(tenant->websocket.stream) < unsent && !tenant->slow) {
        send_bytes_to(&tenant->websocket, 4000);
        harness_turn(worker);
    }
}

static void an_app_of_slow_readers_leaves_room_for_those_of_the_next(void **state) {
    struct budget_app *first = budget_app_create(), *second = budget_app_create();
    int clients[TENANTS_MAX];
    unsigned count = 0, full;

    (void)state;
    do {
        clients[count++] = connect_tenant(first);
        fill_output(last_tenant(), MB / 2);
    } while (!last_tenant()->slow && count < TENANTS_MAX / 2);
    assert_in_range(budget_used(BUDGET_OUTPUT), 4 * MB, LIMIT / 100 * 40 * 7 / 10);
    assert_in_range(budget_app_held(first), 4 * MB, LIMIT / 100 * 40 * 7 / 10);
    full = count;
    for (; count < full + 2; count++) {
        clients[count] = connect_tenant(second);
        fill_output(last_tenant(), MB / 2);
        assert_false(last_tenant()->slow);
    }
    assert_in_range(budget_app_held(second), MB, MB + MB / 8);
    close_tenants(clients, count);
    assert_int_equal(budget_app_held(first), 0);
    assert_int_equal(budget_used(BUDGET_OUTPUT), 0);
    budget_app_release(first);
    budget_app_release(second);
}

static void an_app_of_half_messages_leaves_room_for_those_of_the_next(void **state) {
    struct budget_app *first = budget_app_create(), *second = budget_app_create();
    int clients[TENANTS_MAX];
    unsigned count = 0;

    (void)state;
    do {
        clients[count] = connect_tenant(first);
        if (count % 2 == 0)
            send_part(clients[count++], 0x01, 200000, 200000); /* a fragment */
        else
            send_part(clients[count++], 0x81, 200000, 199999); /* half a frame */
    } while (closings == 0 && count < TENANTS_MAX / 2);
    assert_in_range(budget_used(BUDGET_INPUT), 2 * MB, LIMIT / 4 * 7 / 10);
    clients[count++] = connect_tenant(second);
    send_part(clients[count - 1], 0x01, 200000, 200000);
    assert_true(budget_app_held(second) > 200000);
    send_part(clients[count - 1], 0x80, 10, 10);
    assert_int_equal(messages, 1);
    assert_true(budget_app_held(second) < 4000);
    close_tenants(clients, count);
    assert_int_equal(budget_app_held(first), 0);
    assert_int_equal(budget_used(BUDGET_INPUT), 0);
    budget_app_release(first);
    budget_app_release(second);
}

/* --- connections --- */

static void a_connection_is_counted_while_it_is_there(void **state) {
    int http = harness_http(worker, &handler), client;
    uint64_t one = budget_used(BUDGET_CONNECTIONS);

    (void)state;
    assert_in_range(one, sizeof(struct stream), 2000);
    client = connect_websocket();
    assert_in_range(budget_used(BUDGET_CONNECTIONS) - one, sizeof(struct stream), sizeof(struct stream) + 100);
    close(http);
    close(client);
    harness_settle(worker);
    harness_advance(worker, 6000);
    assert_int_equal(budget_used(BUDGET_CONNECTIONS), 0);
}

static void without_room_http_connections_close_after_an_answer_and_idle_ones_at_once(void **state) {
    int idle = harness_http(worker, &handler), client;
    struct buffer in = {0};

    (void)state;
    harness_advance(worker, 1000);
    budget_add(BUDGET_CONNECTIONS, NULL, LIMIT / 100 * 60);
    client = request_answer(0);
    harness_receive_to_end(worker, idle, &in);
    assert_int_equal(in.length, 0);
    assert_answer(client, "HTTP/1.1 200 ", "\r\nConnection: close\r\n");
    buffer_dispose(&in);
    close(idle);
    close(client);
    budget_give(BUDGET_CONNECTIONS, NULL, LIMIT / 100 * 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_is_counted_while_it_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_body_without_room_is_refused_before_it_is_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_chunked_body_is_refused_when_it_grows_beyond_the_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_requests_go_on_while_large_bodies_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(small_requests_replace_those_that_do_not_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_half_head_makes_room_behind_many_idle_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_request_that_has_just_begun_is_not_closed_because_it_was_idle_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_body_that_has_just_begun_is_not_closed_because_it_was_idle_before, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_does_not_read_is_closed_behind_many_idle_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_frame_is_counted_while_it_is_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_frame_without_room_closes_its_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_beginning_of_a_frame_is_kept_without_room, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fragments_are_counted_while_they_are_held, set_up, tear_down),
        cmocka_unit_test_setup_teardown(fragments_without_room_close_their_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_frame_counts_once_for_all_readers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_queue_counts_its_messages_and_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reader_may_have_less_unsent_while_memory_is_short, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_large_message_to_a_full_socket_is_not_kept_while_memory_is_short, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_reads_loses_nothing_while_memory_is_short, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_that_are_not_read_have_a_bound_in_sum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_window_is_counted_from_the_first_message_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_connection_that_is_refused_has_no_window, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_room_for_a_window_messages_are_compressed_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_app_leaves_windows_for_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_window_goes_when_its_connection_begins_to_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_app_of_slow_readers_leaves_room_for_those_of_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_app_of_half_messages_leaves_room_for_those_of_the_next, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_connection_is_counted_while_it_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_room_http_connections_close_after_an_answer_and_idle_ones_at_once,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
