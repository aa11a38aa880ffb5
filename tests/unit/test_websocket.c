/* WebSockets on a connection: the handshake, messages in pieces of any size, control frames, and all ways to close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "net/websocket.h"

static struct workers workers;
static struct worker *worker;
static int client;
static struct buffer in; /* bytes that the client has received and the test has not checked */

/* State and records of the server's side. */
static struct websocket websocket;
static struct buffer messages; /* one message per line */
static unsigned timers, slows, closings, closes;
static size_t activity;
static bool echoes, closes_on_message, accepted;
static struct websocket_limits limits;

static void on_activity(struct websocket *socket, size_t length) {
    assert_ptr_equal(socket, &websocket);
    activity += length;
}

static void on_message(struct websocket *socket, struct slice text) {
    buffer_append(&messages, text);
    buffer_append_byte(&messages, '\n');
    if (echoes)
        websocket_send_text(socket, (struct slice[]){SLICE("<"), text, SLICE(">")}, 3);
    if (closes_on_message)
        websocket_close(socket, 4000, SLICE("enough"));
}

static void on_timer(struct websocket *socket) {
    (void)socket;
    timers++;
}

static void on_no_room(struct websocket *socket) {
    websocket_close(socket, 4100, SLICE("no room"));
}

static void on_slow(struct websocket *socket) {
    slows++;
    websocket_close_slow(socket, SLICE("too slow"), 4100, SLICE("slow"));
}

static void on_closing(struct websocket *socket) {
    assert_ptr_equal(socket, &websocket);
    assert_int_equal(closes, 0);
    closings++;
}

static void on_closed(struct websocket *socket) {
    (void)socket;
    assert_int_equal(closings, 1);
    closes++;
}

static const struct websocket_handler handler = {.on_activity = on_activity,
                                                 .on_message = on_message,
                                                 .on_timer = on_timer,
                                                 .on_slow = on_slow,
                                                 .on_no_room = on_no_room,
                                                 .on_closing = on_closing,
                                                 .on_closed = on_closed};

static void on_request(struct http_connection *connection, struct http_request *request) {
    websocket = (struct websocket){0};
    accepted = websocket_accept(connection, request, &websocket, &handler, &limits);
}

static void on_abort(struct http_connection *connection) {
    (void)connection;
}

static const struct http_handler http_handler = {.on_request = on_request, .on_abort = on_abort};

static const char handshake[] =
    "GET /app/key HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
    "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static const char welcome[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void receive(void) {
    harness_settle(worker);
    assert_true(harness_receive(client, &in));
}

static void take_off(size_t length) {
    assert_true(in.length >= length);
    in.length -= length;
    memmove(in.data, in.data + length, in.length);
}

static void connect_client(void) {
    client = harness_http(worker, &http_handler);
    harness_send(worker, client, slice_of(handshake));
    receive();
    assert_true(accepted);
    assert_true(slice_starts_with(buffer_slice(&in), slice_of(welcome)));
    take_off(sizeof welcome - 1);
    activity = 0;
}

/* Connects with an offer to compress, which the server accepts with `answer`. */
static void connect_compressing(uint8_t window_bits, const char *answer) {
    static const char offer[] = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    size_t head = sizeof welcome - sizeof "\r\n";

    limits.compress = true;
    limits.window_bits = window_bits;
    client = harness_http(worker, &http_handler);
    harness_send(worker, client, (struct slice){handshake, sizeof handshake - sizeof "\r\n"});
    harness_send(worker, client, slice_of(offer));
    receive();
    assert_true(accepted);
    assert_true(slice_starts_with(buffer_slice(&in), (struct slice){welcome, head}));
    take_off(head);
    assert_true(slice_equal(buffer_slice(&in), slice_of(answer)));
    take_off(in.length);
}

static int set_up_unconnected(void **state) {
    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    limits = (struct websocket_limits){.max_message_bytes = 100000, .max_frame_bytes = 70000};
    in.length = messages.length = activity = 0;
    timers = slows = closings = closes = 0;
    echoes = closes_on_message = accepted = false;
    client = -1;
    return 0;
}

static int set_up(void **state) {
    set_up_unconnected(state);
    connect_client();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_destroy(&workers);
    assert_int_equal(closes, accepted ? 1 : 0);
    if (client >= 0)
        close(client);
    buffer_dispose(&in);
    buffer_dispose(&messages);
    return 0;
}

/* --- the client --- */

/* Appends a masked frame; `first` holds FIN, reserved bits and opcode. */
static void append_frame(struct buffer *out, uint8_t first, const void *payload, size_t length) {
    static const uint8_t mask[4] = {0x1f, 0x80, 0x07, 0xc3};
    const uint8_t *bytes = payload;

    buffer_append_byte(out, (char)first);
    if (length < 126) {
        buffer_append_byte(out, (char)(0x80 | length));
    } else if (length < 65536) {
        buffer_append_byte(out, (char)(0x80 | 126));
        buffer_append_byte(out, (char)(length >> 8));
        buffer_append_byte(out, (char)length);
    } else {
        buffer_append_byte(out, (char)(0x80 | 127));
        for (unsigned i = 8; i-- != 0;)
            buffer_append_byte(out, (char)(length >> 8 * i));
    }
    buffer_append_bytes(out, mask, 4);
    for (size_t i = 0; i < length; i++)
        buffer_append_byte(out, (char)(bytes[i] ^ mask[i % 4]));
}

static void send_frame(uint8_t first, const char *payload) {
    struct buffer out = {0};

    append_frame(&out, first, payload, strlen(payload));
    harness_send(worker, client, buffer_slice(&out));
    harness_settle(worker);
    buffer_dispose(&out);
}

static void send_large(uint8_t first, size_t length) {
    struct buffer payload = {0}, out = {0};

    buffer_reserve(&payload, length);
    memset(payload.data, 'x', length);
    append_frame(&out, first, payload.data, length);
    harness_send(worker, client, buffer_slice(&out));
    harness_settle(worker);
    buffer_dispose(&payload);
    buffer_dispose(&out);
}

static void send_close(unsigned code, const char *reason) {
    char payload[130];
    struct buffer out = {0};
    size_t length = strlen(reason);

    payload[0] = (char)(code >> 8);
    payload[1] = (char)code;
    memcpy(payload + 2, reason, length);
    append_frame(&out, 0x88, payload, length + 2);
    harness_send(worker, client, buffer_slice(&out));
    harness_settle(worker);
    buffer_dispose(&out);
}

/* Checks the next frame from the server. */
static void assert_frame(uint8_t first, const char *payload, size_t length) {
    harness_settle(worker);
    harness_receive(client, &in);
    if (in.length < length + 2)
        fail_msg("%zu bytes came in place of a frame of %zu", in.length, length + 2);
    assert_int_equal((uint8_t)in.data[0], first);
    assert_int_equal((uint8_t)in.data[1], length);
    assert_memory_equal(in.data + 2, payload, length);
    take_off(length + 2);
}

static void assert_text(const char *text) {
    assert_frame(0x81, text, strlen(text));
}

static void assert_nothing(void) {
    receive();
    assert_int_equal(in.length, 0);
}

static void assert_close_frame(unsigned code, const char *reason) {
    char payload[130] = {(char)(code >> 8), (char)code};

    memcpy(payload + 2, reason, strlen(reason));
    assert_frame(0x88, payload, strlen(reason) + 2);
}

static void assert_messages(const char *expected) {
    if (!slice_equal(buffer_slice(&messages), slice_of(expected)))
        fail_msg("%.*s\nin place of\n%s", SLICE_ARGS(buffer_slice(&messages)), expected);
    messages.length = 0;
}

/* Checks that the connection ends without further data. */
static void assert_ended(void) {
    harness_receive_to_end(worker, client, &in);
    assert_int_equal(in.length, 0);
}

/* --- the handshake --- */

static void a_request_that_is_no_handshake_is_told_why(void **state) {
    static const struct {
        const char *headers, *status;
    } requests[] = {
        {"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "HTTP/1.1 426 "},
        {"Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
         "HTTP/1.1 426 "},
        {"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "HTTP/1.1 400 "},
        {"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", "HTTP/1.1 400 "},
        {"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n", "HTTP/1.1 400 "},
    };

    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        char text[400];
        int other = harness_http(worker, &http_handler);
        struct buffer answer = {0};
        accepted = true;
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n%s\r\n", requests[i].headers);
        harness_send(worker, other, slice_of(text));
        harness_receive_to_end(worker, other, &answer);
        assert_false(accepted);
        assert_true(slice_starts_with(buffer_slice(&answer), slice_of(requests[i].status)));
        if (i < 2)
            assert_non_null(memmem(answer.data, answer.length, "\r\nSec-WebSocket-Version: 13\r\n", 29));
        buffer_dispose(&answer);
        close(other);
    }
}

static void frames_that_come_with_the_handshake_are_not_lost(void **state) {
    struct buffer both = {0};

    (void)state;
    send_close(1000, "");
    assert_close_frame(1000, "");
    close(client);
    harness_settle(worker);
    assert_int_equal(closes, 1);
    closings = closes = 0;
    buffer_append(&both, slice_of(handshake));
    append_frame(&both, 0x81, "early", 5);
    client = harness_http(worker, &http_handler);
    harness_send(worker, client, buffer_slice(&both));
    harness_settle(worker);
    assert_messages("early\n");
    buffer_dispose(&both);
}

/* --- messages --- */

static void a_message_arrives_whole_however_the_bytes_come(void **state) {
    static const char text[] = "gr\xC3\xBC\xC3\x9F dich \xF0\x9F\x98\x80";
    struct buffer frame = {0};

    (void)state;
    echoes = true;
    append_frame(&frame, 0x81, text, sizeof text - 1);
    for (size_t split = 0; split <= frame.length; split++) {
        harness_send(worker, client, (struct slice){frame.data, split});
        harness_settle(worker);
        harness_send(worker, client, slice_skip(buffer_slice(&frame), split));
        harness_settle(worker);
        assert_messages("gr\xC3\xBC\xC3\x9F dich \xF0\x9F\x98\x80\n");
        assert_text("<gr\xC3\xBC\xC3\x9F dich \xF0\x9F\x98\x80>");
    }
    assert_int_equal(activity, (frame.length + 1) * frame.length); /* each byte is reported once */
    activity = 0;
    for (size_t i = 0; i < frame.length; i++) {
        harness_send(worker, client, (struct slice){frame.data + i, 1});
        harness_settle(worker);
        assert_int_equal(activity, i + 1); /* reported at once, even before the frame is complete */
    }
    assert_messages("gr\xC3\xBC\xC3\x9F dich \xF0\x9F\x98\x80\n");
    buffer_dispose(&frame);
}

static void messages_in_one_piece_are_all_handled(void **state) {
    struct buffer out = {0};

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        append_frame(&out, 0x81, "m", 1);
    append_frame(&out, 0x81, "", 0);
    harness_send(worker, client, buffer_slice(&out));
    harness_settle(worker);
    assert_int_equal(messages.length, 201);
    assert_int_equal(activity, out.length);
    buffer_dispose(&out);
}

static void fragments_make_one_message_with_control_frames_between(void **state) {
    (void)state;
    send_frame(0x01, "");
    send_frame(0x00, "one \xC3");
    send_frame(0x89, "ping");
    send_frame(0x00, "\xA9");
    send_frame(0x8a, "pong");
    assert_messages("");
    send_frame(0x80, " two");
    assert_messages("one \xC3\xA9 two\n");
    assert_frame(0x8a, "ping", 4);
    send_frame(0x01, "");
    send_frame(0x80, "");
    assert_messages("\n");
    assert_nothing();
}

static void pings_are_answered_with_what_they_brought(void **state) {
    char payload[126];

    (void)state;
    memset(payload, 'p', 125);
    payload[125] = '\0';
    send_frame(0x89, "");
    send_frame(0x89, payload);
    send_frame(0x8a, "unasked");
    assert_frame(0x8a, "", 0);
    assert_frame(0x8a, payload, 125);
    assert_nothing();
}

static void messages_of_exactly_the_limits_are_taken(void **state) {
    (void)state;
    send_large(0x81, 70000);
    assert_int_equal(messages.length, 70001);
    messages.length = 0;
    send_large(0x01, 70000);
    send_large(0x00, 30000);
    send_frame(0x89, "a control frame takes no room in it");
    send_frame(0x80, "");
    assert_int_equal(messages.length, 100001);
    assert_frame(0x8a, "a control frame takes no room in it", 35);
    assert_int_equal(closings, 0);
}

static void what_breaks_the_protocol_closes_with_the_right_code(void **state) {
    static const struct {
        uint8_t frames[3]; /* first bytes of the frames; 0xff: no frame */
        const char *payload;
        unsigned code;
        const char *reason;
    } breaks[] = {
        {{0x80, 0xff}, "x", 1002, "a continuation without a first frame"},
        {{0x01, 0x81, 0xff}, "x", 1002, "a new message inside another"},
        {{0x01, 0x01, 0xff}, "", 1002, "a new message inside another"},
        {{0x82, 0xff}, "x", 1003, "only text messages are understood"},
        {{0x02, 0xff}, "x", 1003, "only text messages are understood"},
        {{0xc1, 0xff}, "x", 1002, "a reserved bit is set"},
        {{0x83, 0xff}, "x", 1002, "unknown opcode"},
        {{0x09, 0xff}, "x", 1002, "a fragmented control frame"},
        {{0x81, 0xff}, "\xC3", 1007, "the message ends inside a UTF-8 character"},
        {{0x01, 0x80, 0xff}, "\xC3", 1007, "the message is not valid UTF-8"},
        {{0x01, 0xff}, "\xC3\x28", 1007, "the message is not valid UTF-8"}, /* its last frame is not awaited */
    };

    (void)state;
    for (size_t i = 0; i < sizeof breaks / sizeof breaks[0]; i++) {
        for (size_t at = 0; at < 3 && breaks[i].frames[at] != 0xff; at++)
            send_frame(breaks[i].frames[at], breaks[i].payload);
        assert_close_frame(breaks[i].code, breaks[i].reason);
        assert_int_equal(closings, 1);
        assert_messages("");
        send_frame(0x81, "ignored");
        assert_messages("");
        send_close(1000, "");
        assert_ended();
        close(client);
        harness_settle(worker);
        assert_int_equal(closes, 1);
        closings = closes = 0;
        connect_client();
    }
}

static void messages_over_the_limits_close_with_1009_before_they_are_read(void **state) {
    (void)state;
    harness_send(worker, client,
                 (struct slice){"\x81\xff\0\0\0\0\0\1\x11\x71mask", 14}); /* the header says 70,001 bytes */
    assert_close_frame(1009, "the message is too large");
    close(client);
    harness_settle(worker);
    closings = closes = 0;
    connect_client();
    send_large(0x01, 70000);
    send_large(0x80, 30001);
    assert_close_frame(1009, "the message is too large");
    assert_messages("");
}

/* --- closing --- */

static void the_clients_close_is_answered_with_its_code_and_the_connection_ends(void **state) {
    static const struct {
        const char *payload;
        size_t length;
        unsigned answer;
    } closes_of_clients[] = {
        {"", 0, 1000},         {"\x03\xe8", 2, 1000},         {"\x03\xe9going", 7, 1001}, {"\x0f\xa0mine", 6, 4000},
        {"\x03", 1, 1002},     {"\x03\xed", 2, 1002}, /* 1005 must not be sent */
        {"\x00\x00", 2, 1002}, {"\x03\xe8\xff\xfe", 4, 1007},
    };

    (void)state;
    for (size_t i = 0; i < sizeof closes_of_clients / sizeof closes_of_clients[0]; i++) {
        struct buffer out = {0};
        append_frame(&out, 0x88, closes_of_clients[i].payload, closes_of_clients[i].length);
        append_frame(&out, 0x81, "behind it", 9);
        harness_send(worker, client, buffer_slice(&out));
        buffer_dispose(&out);
        assert_close_frame(closes_of_clients[i].answer, "");
        assert_int_equal(closings, 1);
        assert_ended();
        assert_messages("");
        assert_int_equal(closes, 1); /* before the client closes its side: nothing follows its close frame */
        close(client);
        closings = closes = 0;
        connect_client();
    }
}

static void our_close_waits_for_the_clients(void **state) {
    (void)state;
    websocket_send_text(&websocket, &SLICE("last"), 1);
    websocket_close(&websocket, 4200, SLICE("shutting down"));
    assert_int_equal(closings, 1);
    websocket_send_text(&websocket, &SLICE("too late"), 1);
    websocket_close(&websocket, 4000, SLICE("too late"));
    assert_text("last");
    assert_close_frame(4200, "shutting down");
    send_frame(0x89, "no pong for that");
    assert_nothing();
    harness_advance(worker, 4000);
    assert_int_equal(closes, 0);
    send_close(4200, "");
    assert_ended();
    assert_int_equal(closings, 1);
}

static void a_client_that_does_not_answer_our_close_is_closed_after_5_s(void **state) {
    (void)state;
    websocket_close(&websocket, 4000, SLICE(""));
    harness_advance(worker, 4900);
    assert_int_equal(closes, 0);
    harness_advance(worker, 1200);
    assert_int_equal(closes, 1);
    assert_int_equal(timers, 0);
    assert_close_frame(4000, "");
    assert_ended();
}

static void a_connection_that_breaks_tells_closing_and_closed(void **state) {
    (void)state;
    send_frame(0x01, "half a message");
    close(client);
    harness_settle(worker);
    assert_int_equal(closings, 1);
    assert_int_equal(closes, 1);
    client = -1;
}

static void closing_inside_a_message_stops_reading(void **state) {
    struct buffer out = {0};

    (void)state;
    closes_on_message = true;
    append_frame(&out, 0x81, "one", 3);
    append_frame(&out, 0x81, "two", 3);
    append_frame(&out, 0x88, "\x0f\xa0", 2);
    harness_send(worker, client, buffer_slice(&out));
    assert_close_frame(4000, "enough");
    assert_messages("one\n");
    assert_ended();
    buffer_dispose(&out);
}

static void a_long_reason_is_cut_between_characters(void **state) {
    char reason[201], expected[124] = {0};

    (void)state;
    for (size_t i = 0; i < 200; i += 2)
        memcpy(reason + i, "\xC3\xA9", 2);
    memcpy(expected, reason, 122); /* 123 bytes would cut the last character */
    websocket_close(&websocket, 4000, (struct slice){reason, 200});
    assert_close_frame(4000, expected);
}

static void the_timer_is_the_handlers_until_the_end(void **state) {
    (void)state;
    stream_set_timeout(websocket.stream, 2000);
    harness_advance(worker, 4000);
    assert_int_equal(timers, 1);
    assert_ptr_equal(websocket_of_stream(websocket.stream), &websocket);
}

static void a_slow_reader_gets_what_was_begun_the_reason_and_a_reset_after_5_s(void **state) {
    static const char text[] = "0123456789";
    struct frame *frame = websocket_text_frame(&(struct slice){text, 10}, 1);
    struct chunk *chunk = chunk_of_frame(frame);
    size_t length;

    (void)state;
    harness_shrink(websocket.stream->fd);
    harness_shrink(client);
    limits.output.max_messages = 20;
    while (slows == 0) {
        stream_send(websocket.stream, chunk);
        if (websocket.stream->slow || websocket.stream->out_count > 15)
            harness_settle(worker);
    }
    chunk_unref(chunk);
    frame_unref(frame);
    assert_int_equal(slows, 1);
    assert_int_equal(closings, 1);
    while (in.length < 17 || memcmp(in.data + in.length - 8, "\x88\x06\x10\x04slow", 8) != 0)
        receive();
    length = in.length - 8 - 10;
    assert_memory_equal(in.data + length, "\x81\x08too slow", 10);
    assert_int_equal(length % 12, 0); /* only whole messages before the close frame */
    in.length = 0;
    harness_advance(worker, 4000);
    assert_int_equal(closes, 0);
    send_close(4100, ""); /* the client's close frame changes nothing: RST after 5 s */
    assert_int_equal(closes, 0);
    harness_advance(worker, 2100);
    assert_int_equal(closes, 1);
    assert_int_equal(slows, 1);
}

/* Sets small socket buffers and a limit of 20 queued messages. */
static void leave_little_room(void) {
    harness_shrink(websocket.stream->fd);
    harness_shrink(client);
    limits.output.max_messages = 20;
}

static void receive_until_bye(void) {
    while (in.length < 7 || memcmp(in.data + in.length - 7,
                                   "\x88\x05\x10\x68"
                                   "bye",
                                   7) != 0)
        receive();
}

static void a_close_finds_room_whatever_the_client_has_not_read(void **state) {
    struct slice text = SLICE("0123456789");

    (void)state;
    leave_little_room();
    while (websocket.stream->out_messages < 20) {
        websocket_send_text(&websocket, &text, 1);
        if (websocket.stream->out_messages == 20)
            harness_settle(worker);
    }
    websocket_close(&websocket, 4200, SLICE("bye"));
    receive_until_bye();
    assert_int_equal((in.length - 7) % 12, 0);
    in.length = 0;
    assert_int_equal(slows, 0);
    assert_int_equal(closings, 1);
}

static void a_close_in_the_turn_in_which_a_reader_gets_slow_is_told(void **state) {
    struct slice text = SLICE("0123456789");

    (void)state;
    leave_little_room();
    while (!websocket.stream->slow) {
        websocket_send_text(&websocket, &text, 1);
        if (websocket.stream->out_messages > 15 && !websocket.stream->slow && websocket.stream->out_messages < 20)
            harness_settle(worker);
    }
    websocket_close(&websocket, 4200, SLICE("bye"));
    receive_until_bye();
    in.length = 0;
    assert_int_equal(slows, 0);
    assert_int_equal(closings, 1);
}

/* --- compression --- */

#define ALONE                                                                                                          \
    "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n\r\n"
#define WITH_WINDOW "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n\r\n"
#define HELLO "\xf2\x48\xcd\xc9\xc9\x07"

static void send_bytes(uint8_t first, const char *payload, size_t length) {
    struct buffer out = {0};

    append_frame(&out, first, payload, length);
    harness_send(worker, client, buffer_slice(&out));
    harness_settle(worker);
    buffer_dispose(&out);
}

static void compressed_messages_come_whole_and_in_fragments_beside_others(void **state) {
    (void)state;
    connect_compressing(0, ALONE);
    send_bytes(0xC1, HELLO "\0", 7);
    send_bytes(0x81, "plain", 5);
    send_bytes(0x41, HELLO, 3);
    send_bytes(0x89, "ping", 4);
    send_bytes(0x00, HELLO "\0" + 3, 2);
    send_bytes(0x80, HELLO "\0" + 5, 2);
    send_bytes(0x01, "pl", 2);
    send_bytes(0x80, "ain", 3);
    assert_messages("Hello\nplain\nHello\nplain\n");
    assert_frame(0x8A, "ping", 4);
    assert_nothing();
}

static void what_breaks_the_compression_closes_with_the_right_code(void **state) {
    static const struct {
        uint8_t first;
        const char *payload;
        size_t length;
        unsigned code;
        const char *reason;
    } cases[] = {
        {0xC1, "\xff\xff\xff\xff", 4, 1007, "the message is not compressed as was agreed"},
        {0xC1, HELLO, 3, 1007, "the message is not compressed as was agreed"},
        {0xC1, "\0\2\0\xfd\xff\xc3\x28\0", 8, 1007, "the message is not valid UTF-8"},
        {0xC9, "", 0, 1002, "a reserved bit is set"},
        {0xC0, "", 0, 1002, "a reserved bit is set"},
        {0xA1, "", 0, 1002, "a reserved bit is set"},
        {0xC2, HELLO "\0", 7, 1003, "only text messages are understood"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        connect_compressing(0, ALONE);
        send_bytes(cases[i].first, cases[i].payload, cases[i].length);
        assert_close_frame(cases[i].code, cases[i].reason);
        assert_messages("");
        if (i + 1 < sizeof cases / sizeof cases[0]) {
            tear_down(NULL);
            set_up_unconnected(NULL);
        }
    }
}

static void a_message_that_is_too_large_when_it_is_restored_closes_with_1009(void **state) {
    struct deflate_tools *tools = deflate_tools_create();
    char *zeros = calloc(1, 100001);
    struct slice compressed;

    (void)state;
    connect_compressing(15, WITH_WINDOW);
    memset(zeros, 'x', 100001);
    assert_true(deflate_message(tools, NULL, (struct slice){zeros, 100000}, &compressed));
    send_bytes(0xC1, compressed.data, compressed.length);
    assert_int_equal(messages.length, 100001); /* exactly the limit, and the line feed */
    messages.length = 0;
    assert_true(deflate_message(tools, NULL, (struct slice){zeros, 100001}, &compressed));
    send_bytes(0xC1, compressed.data, compressed.length);
    assert_close_frame(1009, "the message is too large");
    assert_int_equal(messages.length, 0);
    free(zeros);
    deflate_tools_destroy(tools);
}

/* Reads a compressed frame from the server and checks its decompressed text. */
static void assert_compressed(struct deflate_tools *tools, const char *text) {
    struct slice back;
    size_t length;

    harness_settle(worker);
    harness_receive(client, &in);
    assert_true(in.length > 2);
    assert_int_equal((uint8_t)in.data[0], 0xC1);
    length = (uint8_t)in.data[1];
    assert_true(length < strlen(text) && length < 126);
    assert_int_equal(inflate_message(tools, (struct slice){in.data + 2, length}, 1000, &back), INFLATE_OK);
    assert_true(slice_equal(back, slice_of(text)));
    take_off(2 + length);
}

#define LONG_TEXT "{\"event\":\"my-event\",\"data\":\"to and fro, to and fro, to and fro\"}"

static void an_event_is_compressed_once_and_small_ones_are_not(void **state) {
    struct deflate_tools *tools = deflate_tools_create();
    struct slice text = SLICE(LONG_TEXT);
    struct frame *frame = websocket_text_frame(&text, 1);
    struct chunk *chunk = chunk_of_frame(frame), *encoded;

    (void)state;
    connect_compressing(0, ALONE);
    stream_send(websocket.stream, chunk);
    encoded = chunk->encoded;
    assert_non_null(encoded);
    stream_send(websocket.stream, chunk);
    assert_ptr_equal(chunk->encoded, encoded);
    assert_int_equal(encoded->references, 3);
    websocket_send_text(&websocket, &SLICE("small"), 1);
    assert_compressed(tools, LONG_TEXT);
    assert_compressed(tools, LONG_TEXT);
    assert_text("small");
    chunk_unref(chunk);
    frame_unref(frame);
    deflate_tools_destroy(tools);
}

static void several_frames_of_one_chunk_are_compressed_one_by_one(void **state) {
    struct deflate_tools *tools = deflate_tools_create();
    struct slice text = SLICE(LONG_TEXT), little = SLICE("little");
    struct frame *frames[] = {websocket_text_frame(&text, 1), websocket_text_frame(&little, 1)};
    struct chunk *chunk;
    char *at;

    (void)state;
    connect_compressing(0, ALONE);
    chunk = chunk_create(2 * frames[0]->length + frames[1]->length, &at);
    memcpy(at, frames[0]->bytes, frames[0]->length);
    memcpy(at + frames[0]->length, frames[1]->bytes, frames[1]->length);
    memcpy(at + frames[0]->length + frames[1]->length, frames[0]->bytes, frames[0]->length);
    chunk->messages = 3;
    chunk->droppable = true;
    assert_true(stream_send(websocket.stream, chunk) < (ssize_t)chunk->length);
    assert_int_equal(chunk->encoded->messages, 3);
    assert_true(chunk->encoded->droppable);
    chunk_unref(chunk);
    assert_compressed(tools, LONG_TEXT);
    assert_text("little");
    assert_compressed(tools, LONG_TEXT);
    frame_unref(frames[0]);
    frame_unref(frames[1]);
    deflate_tools_destroy(tools);
}

/* The server's window contains the dropped messages; the client's does not. */
static void a_slow_reader_with_a_window_gets_its_last_words_uncompressed(void **state) {
    struct slice text = SLICE(LONG_TEXT);
    struct frame *frame = websocket_text_frame(&text, 1);
    struct chunk *chunk = chunk_of_frame(frame);

    (void)state;
    connect_compressing(9, WITH_WINDOW);
    harness_shrink(websocket.stream->fd);
    harness_shrink(client);
    limits.output.max_messages = 20;
    while (slows == 0) {
        stream_send(websocket.stream, chunk);
        assert_null(chunk->encoded);
        if (websocket.stream->slow || websocket.stream->out_count > 15)
            harness_settle(worker);
    }
    while (in.length < 17 || memcmp(in.data + in.length - 8, "\x88\x06\x10\x04slow", 8) != 0)
        receive();
    assert_memory_equal(in.data + in.length - 18, "\x81\x08too slow", 10);
    chunk_unref(chunk);
    frame_unref(frame);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_UNCONNECTED(name) cmocka_unit_test_setup_teardown(name, set_up_unconnected, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST_UNCONNECTED(a_request_that_is_no_handshake_is_told_why),
        TEST(frames_that_come_with_the_handshake_are_not_lost),
        TEST(a_message_arrives_whole_however_the_bytes_come),
        TEST(messages_in_one_piece_are_all_handled),
        TEST(fragments_make_one_message_with_control_frames_between),
        TEST(pings_are_answered_with_what_they_brought),
        TEST(messages_of_exactly_the_limits_are_taken),
        TEST(what_breaks_the_protocol_closes_with_the_right_code),
        TEST(messages_over_the_limits_close_with_1009_before_they_are_read),
        TEST(the_clients_close_is_answered_with_its_code_and_the_connection_ends),
        TEST(our_close_waits_for_the_clients),
        TEST(a_client_that_does_not_answer_our_close_is_closed_after_5_s),
        TEST(a_connection_that_breaks_tells_closing_and_closed),
        TEST(closing_inside_a_message_stops_reading),
        TEST(a_long_reason_is_cut_between_characters),
        TEST(the_timer_is_the_handlers_until_the_end),
        TEST(a_slow_reader_gets_what_was_begun_the_reason_and_a_reset_after_5_s),
        TEST(a_close_finds_room_whatever_the_client_has_not_read),
        TEST(a_close_in_the_turn_in_which_a_reader_gets_slow_is_told),
        TEST_UNCONNECTED(compressed_messages_come_whole_and_in_fragments_beside_others),
        TEST_UNCONNECTED(what_breaks_the_compression_closes_with_the_right_code),
        TEST_UNCONNECTED(a_message_that_is_too_large_when_it_is_restored_closes_with_1009),
        TEST_UNCONNECTED(an_event_is_compressed_once_and_small_ones_are_not),
        TEST_UNCONNECTED(several_frames_of_one_chunk_are_compressed_one_by_one),
        TEST_UNCONNECTED(a_slow_reader_with_a_window_gets_its_last_words_uncompressed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
