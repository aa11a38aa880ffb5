/* Streams over real sockets: input, output, limits, closing and fan-out, with peers that act at any time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "net/stream.h"

/* The action of a handler when it is called. */
enum act { ACT_NOTHING, ACT_CLOSE, ACT_RESET, ACT_FINISH, ACT_PAUSE, ACT_SEND, ACT_SWITCH, ACT_DROP_OUTPUT };

struct peer {
    struct stream *stream;
    int client;
    size_t takes; /* bytes that on_data consumes per call; 0: whole lines */
    enum act on_data_does, on_end_does, on_timer_does, on_slow_does;

    struct buffer seen; /* bytes consumed by on_data */
    size_t offered;     /* length of the last offer to on_data */
    unsigned offers, ends, timers, slows, closes, switched;
};

static struct workers workers;
static struct worker *worker;

static const struct stream_handler handler, second_handler;

static void send_text(struct stream *stream, const char *text) {
    char *bytes;
    struct chunk *chunk = chunk_create(strlen(text), &bytes);

    memcpy(bytes, text, strlen(text));
    stream_send(stream, chunk);
    chunk_unref(chunk);
}

static void act(struct stream *stream, enum act what) {
    switch (what) {
    case ACT_NOTHING:
        break;
    case ACT_CLOSE:
        stream_close(stream);
        break;
    case ACT_RESET:
        stream_reset(stream);
        break;
    case ACT_FINISH:
        send_text(stream, "last words");
        stream_finish(stream);
        break;
    case ACT_PAUSE:
        stream_pause(stream);
        break;
    case ACT_SEND:
        send_text(stream, "answer\n");
        break;
    case ACT_SWITCH:
        stream_set_handler(stream, &second_handler, stream->context);
        break;
    case ACT_DROP_OUTPUT:
        stream_drop_output(stream);
        break;
    }
}

static size_t on_data(struct stream *stream, uint8_t *data, size_t length) {
    struct peer *peer = stream->context;
    size_t taken = peer->takes < length ? peer->takes : length;

    peer->offers++;
    peer->offered = length;
    if (peer->takes == 0) {
        const uint8_t *line_end = memchr(data, '\n', length);
        taken = line_end != NULL ? (size_t)(line_end - data) + 1 : 0;
    }
    buffer_append_bytes(&peer->seen, data, taken);
    memset(data, '#', taken); /* a handler may change its input */
    if (taken != 0)
        act(stream, peer->on_data_does);
    return taken;
}

static size_t second_on_data(struct stream *stream, uint8_t *data, size_t length) {
    struct peer *peer = stream->context;

    (void)data;
    peer->switched += (unsigned)length;
    return length;
}

static void on_end(struct stream *stream) {
    struct peer *peer = stream->context;

    peer->ends++;
    act(stream, peer->on_end_does);
}

static void on_timer(struct stream *stream) {
    struct peer *peer = stream->context;

    peer->timers++;
    act(stream, peer->on_timer_does);
}

static void on_slow(struct stream *stream) {
    struct peer *peer = stream->context;

    peer->slows++;
    act(stream, peer->on_slow_does);
}

static void on_closed(struct stream *stream) {
    struct peer *peer = stream->context;

    peer->closes++;
    peer->stream = NULL;
}

static const struct stream_handler handler = {on_data, on_end, on_timer, on_slow, on_closed};
static const struct stream_handler second_handler = {second_on_data, on_end, on_timer, on_slow, on_closed};

static int set_up(void **state) {
    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    harness_destroy(&workers);
    return 0;
}

static void open_peer(struct peer *peer) {
    int server;

    *peer = (struct peer){.takes = SIZE_MAX};
    harness_pair(&server, &peer->client);
    peer->stream = harness_stream(worker, server, &handler, peer);
    assert_non_null(peer->stream);
}

/* Opens a stream whose socket accepts only a few thousand bytes. */
static void open_narrow_peer(struct peer *peer) {
    open_peer(peer);
    harness_shrink(peer->stream->fd);
    harness_shrink(peer->client);
}

static void open_tcp_peer(struct peer *peer) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server;

    *peer = (struct peer){.takes = SIZE_MAX};
    assert_int_equal(bind(listening, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listening, 1), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &length), 0);
    peer->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(peer->client, (struct sockaddr *)&address, sizeof address), 0);
    server = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    close(listening);
    peer->stream = harness_stream(worker, server, &handler, peer);
    assert_non_null(peer->stream);
}

static void close_peer(struct peer *peer) {
    if (peer->stream != NULL)
        stream_close(peer->stream);
    harness_settle(worker);
    assert_int_equal(peer->closes, 1);
    assert_null(peer->stream);
    if (peer->client >= 0)
        close(peer->client);
    buffer_dispose(&peer->seen);
}

static void hang_up(struct peer *peer) {
    close(peer->client);
    peer->client = -1;
}

static void client_sends(struct peer *peer, const char *text) {
    harness_send(worker, peer->client, slice_of(text));
}

static void assert_seen(const struct peer *peer, const char *text) {
    assert_int_equal(peer->seen.length, strlen(text));
    assert_memory_equal(peer->seen.data != NULL ? peer->seen.data : "", text, strlen(text));
}

static void assert_received(struct peer *peer, const char *text) {
    struct buffer in = {0};

    harness_receive(peer->client, &in);
    assert_int_equal(in.length, strlen(text));
    assert_memory_equal(in.data, text, strlen(text));
    buffer_dispose(&in);
}

/* Fills the socket, so that a part of the last message stays in the queue. */
static void fill_socket(struct peer *peer) {
    char *bytes;
    struct chunk *chunk = chunk_create(1u << 20, &bytes);

    memset(bytes, 'f', chunk->length);
    stream_send(peer->stream, chunk);
    chunk_unref(chunk);
    harness_settle(worker);
    assert_int_equal(peer->stream->out_count, 1);
    assert_true(peer->stream->out_offset != 0);
    assert_true(peer->stream->want_write);
}

/* --- input --- */

static void input_reaches_the_handler_and_leaves_no_buffer_behind(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    client_sends(&peer, "hello");
    harness_settle(worker);
    client_sends(&peer, ", world");
    harness_settle(worker);
    assert_seen(&peer, "hello, world");
    assert_int_equal(peer.offers, 2);
    assert_null(peer.stream->in);
    close_peer(&peer);
}

static void input_that_is_not_consumed_comes_again_with_what_follows_it(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 0;
    client_sends(&peer, "one\ntwo\nth");
    harness_settle(worker);
    assert_seen(&peer, "one\ntwo\n");
    assert_int_equal(peer.offered, 2);
    assert_non_null(peer.stream->in);
    client_sends(&peer, "r");
    harness_settle(worker);
    assert_int_equal(peer.offered, 3);
    client_sends(&peer, "ee\nfour");
    harness_settle(worker);
    assert_seen(&peer, "one\ntwo\nthree\n");
    client_sends(&peer, "\n");
    harness_settle(worker);
    assert_seen(&peer, "one\ntwo\nthree\nfour\n");
    assert_null(peer.stream->in); /* freed as soon as it is empty */
    close_peer(&peer);
}

static void a_line_larger_than_any_buffer_is_collected(void **state) {
    struct buffer line = {0};
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 0;
    buffer_reserve(&line, 3000001);
    for (size_t i = 0; i < 3000000; i++)
        line.data[i] = (char)('a' + i % 23);
    line.data[3000000] = '\n';
    line.length = 3000001;
    harness_send(worker, peer.client, buffer_slice(&line));
    harness_settle(worker);
    assert_int_equal(peer.seen.length, line.length);
    assert_memory_equal(peer.seen.data, line.data, line.length);
    assert_null(peer.stream->in);
    buffer_dispose(&line);
    close_peer(&peer);
}

static void a_handler_may_take_a_byte_at_a_time(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 1;
    client_sends(&peer, "bytes");
    harness_settle(worker);
    assert_seen(&peer, "bytes");
    assert_int_equal(peer.offers, 5);
    close_peer(&peer);
}

static void a_new_handler_gets_the_rest_of_the_input(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 0;
    peer.on_data_does = ACT_SWITCH;
    client_sends(&peer, "upgrade\nrest");
    harness_settle(worker);
    assert_seen(&peer, "upgrade\n");
    assert_int_equal(peer.switched, 4);
    close_peer(&peer);
}

static void a_paused_stream_leaves_input_to_the_kernel(void **state) {
    struct peer peer;
    size_t sent = 0;
    char block[4096] = {0};
    ssize_t length;

    (void)state;
    open_narrow_peer(&peer);
    stream_pause(peer.stream);
    while ((length = send(peer.client, block, sizeof block, MSG_NOSIGNAL)) > 0) {
        sent += (size_t)length;
        harness_settle(worker);
    }
    assert_int_equal(peer.offers, 0);
    assert_null(peer.stream->in);
    stream_resume(peer.stream);
    assert_int_equal(peer.offers, 0); /* not from inside the caller */
    harness_settle(worker);
    assert_int_equal(peer.seen.length, sent);
    close_peer(&peer);
}

static void input_behind_the_point_of_a_pause_is_kept_and_offered_on_resuming(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 0;
    peer.on_data_does = ACT_PAUSE;
    client_sends(&peer, "one\ntwo\nthree\n");
    harness_settle(worker);
    assert_seen(&peer, "one\n");
    client_sends(&peer, "four\n");
    harness_settle(worker);
    assert_seen(&peer, "one\n");
    stream_resume(peer.stream);
    stream_pause(peer.stream); /* before the end of the turn: still paused */
    harness_settle(worker);
    assert_seen(&peer, "one\n");
    stream_resume(peer.stream);
    harness_settle(worker);
    assert_seen(&peer, "one\ntwo\n");
    peer.on_data_does = ACT_NOTHING;
    stream_resume(peer.stream);
    harness_settle(worker);
    assert_seen(&peer, "one\ntwo\nthree\nfour\n");
    assert_null(peer.stream->in);
    close_peer(&peer);
}

static void the_end_of_input_is_reported_once_after_the_last_byte(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    client_sends(&peer, "last");
    shutdown(peer.client, SHUT_WR);
    harness_settle(worker);
    assert_seen(&peer, "last");
    assert_int_equal(peer.ends, 1);
    assert_int_equal(peer.closes, 0); /* the handler decides about closing */
    harness_advance(worker, 3000);
    assert_int_equal(peer.ends, 1);
    send_text(peer.stream, "still here");
    harness_settle(worker);
    assert_received(&peer, "still here");
    close_peer(&peer);
}

/* --- output --- */

static void what_is_sent_in_a_turn_leaves_at_its_end_in_order(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_text(peer.stream, "a");
    send_text(peer.stream, "");
    send_text(peer.stream, "bc");
    assert_received(&peer, "");
    streams_flush(worker);
    assert_received(&peer, "abc");
    send_text(peer.stream, "");
    streams_flush(worker);
    assert_int_equal(peer.stream->out_count, 0);
    close_peer(&peer);
}

static void a_large_output_arrives_whole_through_a_narrow_socket(void **state) {
    struct buffer expected = {0}, in = {0};
    uint64_t seed = 3;
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    for (unsigned i = 0; i < 700; i++) {
        char *bytes;
        struct chunk *chunk = chunk_create(harness_random(&seed, i % 10 == 0 ? 20000 : 40), &bytes);
        for (uint32_t at = 0; at < chunk->length; at++)
            bytes[at] = (char)harness_random(&seed, 256);
        buffer_append_bytes(&expected, bytes, chunk->length);
        stream_send(peer.stream, chunk);
        chunk_unref(chunk);
        if (i % 50 == 0)
            harness_settle(worker);
    }
    assert_int_equal(peer.stream->out_count != 0, true);
    stream_finish(peer.stream);
    harness_receive_to_end(worker, peer.client, &in);
    assert_int_equal(in.length, expected.length);
    assert_memory_equal(in.data, expected.data, expected.length);
    assert_int_equal(peer.slows, 0);
    buffer_dispose(&in);
    buffer_dispose(&expected);
    hang_up(&peer);
    close_peer(&peer);
}

static void the_ring_grows_with_the_list_and_goes_with_it(void **state) {
    struct buffer in = {0};
    char *bytes;
    struct chunk *chunk = chunk_create(1, &bytes);
    struct peer peer;

    (void)state;
    bytes[0] = 'x';
    open_peer(&peer);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 1000; i++)
            stream_send(peer.stream, chunk);
        assert_int_equal(peer.stream->out_count, 1000);
        assert_int_equal(chunk->references, 1001);
        harness_settle(worker);
        assert_int_equal(peer.stream->out_count, 0);
        assert_int_equal(peer.stream->out_bytes, 0);
        assert_int_equal(peer.stream->out_messages, 0);
        assert_ptr_equal(peer.stream->out, peer.stream->out_inline);
        assert_int_equal(chunk->references, 1);
    }
    harness_receive(peer.client, &in);
    assert_int_equal(in.length, 3000);
    buffer_dispose(&in);
    chunk_unref(chunk);
    close_peer(&peer);
}

static void pausing_until_drained_resumes_by_itself(void **state) {
    struct buffer in = {0};
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    fill_socket(&peer);
    stream_pause_until_drained(peer.stream);
    client_sends(&peer, "next");
    harness_settle(worker);
    assert_int_equal(peer.offers, 0);
    while (in.length < 1u << 20) {
        harness_receive(peer.client, &in);
        harness_settle(worker);
    }
    assert_seen(&peer, "next");
    stream_pause_until_drained(peer.stream); /* without output the pause ends with the turn */
    client_sends(&peer, "!");
    harness_settle(worker);
    assert_seen(&peer, "next!");
    buffer_dispose(&in);
    close_peer(&peer);
}

/* --- limits --- */

static void at_a_limit_the_socket_is_asked_first(void **state) {
    static const struct stream_limits limits = {.max_messages = 3, .max_bytes = 20};
    struct buffer in = {0};
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.stream->limits = &limits;
    for (unsigned i = 0; i < 100; i++)
        send_text(peer.stream, "12345678");
    harness_settle(worker);
    harness_receive(peer.client, &in);
    assert_int_equal(in.length, 800);
    assert_int_equal(peer.slows, 0);
    assert_int_equal(counter_read(&worker->counters.slow_readers), 0);
    buffer_dispose(&in);
    close_peer(&peer);
}

static void an_empty_list_takes_one_message_of_any_size(void **state) {
    static const struct stream_limits limits = {.max_messages = 1, .max_bytes = 1};
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    peer.stream->limits = &limits;
    fill_socket(&peer);
    assert_int_equal(peer.slows, 0);
    close_peer(&peer);
}

static void over_a_limit_the_reader_is_slow_once_until_its_output_is_dropped(void **state) {
    static const struct stream_limits limits[] = {{.max_messages = 3}, {.max_bytes = (1u << 20) + 2}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t before = counter_read(&worker->counters.slow_readers);
        struct buffer in = {0};
        struct peer peer;

        open_narrow_peer(&peer);
        fill_socket(&peer);
        peer.stream->limits = &limits[i];
        peer.on_slow_does = ACT_DROP_OUTPUT;
        while (!peer.stream->slow) {
            assert_true(peer.stream->limits->max_messages == 0 || peer.stream->out_messages <= 3);
            send_text(peer.stream, "1");
        }
        send_text(peer.stream, "dropped");
        assert_int_equal(peer.slows, 0); /* not from inside the caller */
        harness_settle(worker);
        assert_int_equal(peer.slows, 1);
        assert_int_equal(counter_read(&worker->counters.slow_readers), before + 1);
        assert_int_equal(peer.stream->out_count, 1); /* a partly written chunk stays in the queue */
        peer.stream->limits = NULL;
        send_text(peer.stream, "END");
        stream_finish(peer.stream);
        harness_receive_to_end(worker, peer.client, &in);
        assert_int_equal(in.length, (1u << 20) + 3);
        assert_memory_equal(in.data + (1u << 20), "END", 3);
        buffer_dispose(&in);
        hang_up(&peer);
        close_peer(&peer);
    }
}

static void droppable_messages_are_left_out_where_that_is_wanted_and_others_are_not(void **state) {
    static const struct stream_limits limits = {.max_messages = 2, .drop_droppable = true};
    char *bytes;
    struct chunk *event = chunk_create(1, &bytes);
    struct peer peer;

    (void)state;
    bytes[0] = 'e';
    event->droppable = true;
    event->messages = 3;
    open_narrow_peer(&peer);
    fill_socket(&peer);
    peer.stream->limits = &limits;
    stream_send(peer.stream, event);
    stream_send(peer.stream, event);
    harness_settle(worker);
    assert_int_equal(peer.slows, 0);
    assert_int_equal(counter_read(&worker->counters.dropped_messages), 6);
    assert_int_equal(peer.stream->out_count, 1);
    send_text(peer.stream, "fits");
    assert_false(peer.stream->slow);
    send_text(peer.stream, "does not");
    assert_true(peer.stream->slow);
    chunk_unref(event);
    close_peer(&peer);
}

static void without_limits_the_list_ends_where_its_counters_do(void **state) {
    char *bytes;
    struct chunk *chunk = chunk_create(1, &bytes);
    struct peer peer;

    (void)state;
    bytes[0] = 'x';
    open_narrow_peer(&peer);
    peer.on_slow_does = ACT_CLOSE;
    fill_socket(&peer);
    for (unsigned i = 0; i < 70000; i++)
        stream_send(peer.stream, chunk);
    assert_true(peer.stream->slow);
    assert_true(peer.stream->out_count >= 30000);
    assert_int_equal(chunk->references, peer.stream->out_count);
    harness_settle(worker);
    assert_int_equal(chunk->references, 1);
    chunk_unref(chunk);
    close_peer(&peer);
}

/* --- ending --- */

static void finishing_writes_everything_and_waits_for_the_peer_to_close(void **state) {
    struct buffer in = {0};
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    fill_socket(&peer);
    stream_finish(peer.stream);
    assert_false(stream_is_open(peer.stream));
    send_text(peer.stream, "too late");
    client_sends(&peer, "not looked at");
    harness_receive_to_end(worker, peer.client, &in);
    assert_int_equal(in.length, 1u << 20);
    assert_int_equal(peer.closes, 0);
    client_sends(&peer, "nor this");
    harness_settle(worker);
    assert_int_equal(peer.offers, 0);
    hang_up(&peer);
    harness_settle(worker);
    assert_int_equal(peer.ends, 0);
    buffer_dispose(&in);
    close_peer(&peer);
}

static void finishing_for_a_peer_that_sends_nothing_more_does_not_wait_for_it(void **state) {
    struct buffer in = {0};
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    fill_socket(&peer);
    stream_finish_last(peer.stream);
    harness_settle(worker);
    assert_int_equal(peer.closes, 0); /* not all is written */
    harness_receive_to_end(worker, peer.client, &in);
    assert_int_equal(in.length, 1u << 20);
    assert_int_equal(peer.closes, 1); /* though the peer has not hung up */
    buffer_dispose(&in);
    close_peer(&peer);
}

/* A program that is being started has a copy of the socket for a moment, and epoll reports it as long as there is one.
 */
static void a_closed_stream_is_not_reported_while_another_process_has_its_socket(void **state) {
    struct peer peer;
    int copy;

    (void)state;
    open_peer(&peer);
    copy = dup(peer.stream->fd);
    atomic_store(&workers.shares_descriptors, true);
    stream_close(peer.stream);
    harness_settle(worker);
    assert_int_equal(peer.closes, 1);
    assert_int_equal(write(peer.client, "too late", 8), 8);
    assert_int_equal(harness_turn(worker), 0);
    close(copy);
    atomic_store(&workers.shares_descriptors, false);
    close_peer(&peer);
}

static void a_peer_that_does_not_close_after_the_end_is_closed_after_5_s(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_text(peer.stream, "bye");
    stream_finish(peer.stream);
    harness_advance(worker, 4900);
    assert_int_equal(peer.closes, 0);
    harness_advance(worker, 1200);
    assert_int_equal(peer.closes, 1);
    assert_int_equal(peer.timers, 0);
    close_peer(&peer);
}

static void a_peer_that_does_not_read_the_end_is_closed_after_30_s(void **state) {
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    fill_socket(&peer);
    stream_finish(peer.stream);
    stream_set_timeout(peer.stream, 0); /* ignored: the stream uses the timer for finishing */
    stream_set_timeout(peer.stream, 500000);
    harness_advance(worker, 29900);
    assert_int_equal(peer.closes, 0);
    harness_advance(worker, 1200);
    assert_int_equal(peer.closes, 1);
    close_peer(&peer);
}

static void a_peer_that_has_closed_its_half_still_gets_the_rest(void **state) {
    struct peer peer;

    (void)state;
    for (unsigned before = 0; before < 2; before++) {
        struct buffer in = {0};
        open_narrow_peer(&peer);
        fill_socket(&peer);
        if (before)
            shutdown(peer.client, SHUT_WR);
        harness_settle(worker);
        stream_finish(peer.stream);
        harness_settle(worker);
        if (!before)
            shutdown(peer.client, SHUT_WR);
        harness_receive_to_end(worker, peer.client, &in);
        assert_int_equal(in.length, 1u << 20);
        harness_settle(worker);
        assert_int_equal(peer.closes, 1); /* closed without waiting */
        buffer_dispose(&in);
        close_peer(&peer);
    }
}

static void closing_writes_what_goes_without_waiting(void **state) {
    struct buffer in = {0};
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_text(peer.stream, "goodbye");
    stream_close(peer.stream);
    send_text(peer.stream, "too late");
    stream_close(peer.stream);
    stream_finish(peer.stream);
    assert_int_equal(peer.closes, 0); /* deferred to the end of the turn */
    harness_turn(worker);
    assert_int_equal(peer.closes, 1);
    assert_false(harness_receive(peer.client, &in));
    assert_int_equal(in.length, 7);
    assert_int_equal(worker->stream_count, 0);
    assert_int_equal(counter_read(&worker->counters.accepted), 1);
    assert_int_equal(counter_read(&worker->counters.closed), 1);
    buffer_dispose(&in);
    close_peer(&peer);
}

static void resetting_gives_the_peer_an_error(void **state) {
    struct peer peer;
    char byte;

    (void)state;
    open_tcp_peer(&peer);
    send_text(peer.stream, "never seen");
    stream_reset(peer.stream);
    harness_settle(worker);
    assert_int_equal(recv(peer.client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close_peer(&peer);
}

static void closing_over_tcp_is_a_plain_end_for_the_peer(void **state) {
    struct peer peer;
    char text[8];

    (void)state;
    open_tcp_peer(&peer);
    send_text(peer.stream, "end");
    stream_close(peer.stream);
    harness_settle(worker);
    assert_int_equal(recv(peer.client, text, sizeof text, 0), 3);
    assert_int_equal(recv(peer.client, text, sizeof text, 0), 0);
    close_peer(&peer);
}

static void closing_inside_any_handler_ends_the_stream_with_that_turn(void **state) {
    static const struct stream_limits limits = {.max_messages = 1};
    static const enum act acts[] = {ACT_CLOSE, ACT_RESET};
    struct peer peer;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        open_peer(&peer);
        peer.takes = 0;
        peer.on_data_does = acts[i];
        client_sends(&peer, "one\ntwo\n");
        harness_turn(worker);
        assert_int_equal(peer.offers, 1);
        close_peer(&peer);

        open_peer(&peer);
        peer.on_end_does = acts[i];
        shutdown(peer.client, SHUT_WR);
        harness_turn(worker);
        assert_int_equal(peer.ends, 1);
        close_peer(&peer);

        open_peer(&peer);
        peer.on_timer_does = acts[i];
        stream_set_timeout(peer.stream, 1000);
        harness_advance(worker, 2000);
        assert_int_equal(peer.timers, 1);
        close_peer(&peer);

        open_narrow_peer(&peer);
        fill_socket(&peer);
        peer.stream->limits = &limits;
        peer.on_slow_does = acts[i];
        send_text(peer.stream, "x");
        harness_turn(worker);
        assert_int_equal(peer.slows, 1);
        close_peer(&peer);
    }
}

static void finishing_inside_handlers_says_the_last_words(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 0;
    peer.on_data_does = ACT_FINISH;
    client_sends(&peer, "one\ntwo\n");
    harness_settle(worker);
    assert_seen(&peer, "one\n");
    assert_received(&peer, "last words");
    close_peer(&peer);

    open_peer(&peer);
    peer.on_end_does = ACT_FINISH;
    shutdown(peer.client, SHUT_WR);
    harness_settle(worker);
    assert_received(&peer, "last words");
    assert_int_equal(peer.closes, 1); /* both directions are closed */
    close_peer(&peer);
}

static void a_peer_that_goes_away_ends_the_stream(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.on_end_does = ACT_CLOSE;
    hang_up(&peer);
    harness_settle(worker);
    assert_int_equal(peer.closes, 1);
    close_peer(&peer);

    open_narrow_peer(&peer); /* with output that the peer will never read */
    fill_socket(&peer);
    hang_up(&peer);
    harness_settle(worker);
    assert_int_equal(peer.closes, 1);
    close_peer(&peer);

    open_tcp_peer(&peer);
    assert_int_equal(setsockopt(peer.client, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)), 0);
    hang_up(&peer); /* a reset is an error, not an end */
    harness_settle(worker);
    assert_int_equal(peer.closes, 1);
    assert_int_equal(peer.ends, 0);
    close_peer(&peer);
}

static void a_peer_that_goes_away_while_the_stream_is_paused_keeps_no_loop_busy(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    client_sends(&peer, "unread");
    stream_pause(peer.stream);
    hang_up(&peer);
    harness_settle(worker); /* fails by itself if the loop spins */
    assert_int_equal(peer.closes, 1);
    close_peer(&peer);
}

static void a_broken_connection_is_no_slow_reader(void **state) {
    static const struct stream_limits limits = {.max_messages = 1};
    struct peer peer;

    (void)state;
    open_narrow_peer(&peer);
    fill_socket(&peer);
    peer.stream->limits = &limits;
    hang_up(&peer);
    send_text(peer.stream, "finds the socket broken");
    harness_settle(worker);
    assert_int_equal(peer.slows, 0);
    assert_int_equal(counter_read(&worker->counters.slow_readers), 0);
    close_peer(&peer);
}

static void the_timer_fires_once_and_is_moved_and_cancelled(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    stream_set_timeout(peer.stream, 2000);
    harness_advance(worker, 1000);
    stream_set_timeout(peer.stream, 5000);
    harness_advance(worker, 4000);
    assert_int_equal(peer.timers, 0);
    harness_advance(worker, 60000);
    assert_int_equal(peer.timers, 1);
    stream_set_timeout(peer.stream, 1000);
    stream_set_timeout(peer.stream, 0);
    harness_advance(worker, 10000);
    assert_int_equal(peer.timers, 1);
    stream_set_timeout(peer.stream, 1000);
    stream_close(peer.stream);
    stream_set_timeout(peer.stream, 1000);
    harness_advance(worker, 10000);
    assert_int_equal(peer.timers, 1);
    close_peer(&peer);
}

static void a_socket_that_cannot_be_watched_is_closed(void **state) {
    int ends[2];
    char byte;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    ends[0] = dup(STDIN_FILENO);
    close(ends[0]); /* an invalid descriptor */
    assert_null(harness_stream(worker, ends[0], &handler, NULL));
    assert_int_equal(worker->stream_count, 0);
    assert_int_equal(write(ends[0], &byte, 0), -1);
    close(ends[1]);
}

static void answers_given_while_reading_leave_in_the_same_turn(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    peer.takes = 0;
    peer.on_data_does = ACT_SEND;
    client_sends(&peer, "1\n2\n3\n");
    harness_turn(worker);
    assert_received(&peer, "answer\nanswer\nanswer\n");
    close_peer(&peer);
}

/* --- fan-out --- */

#define CROWD 200

static struct peer *open_crowd(void) {
    struct peer *crowd = calloc(CROWD, sizeof *crowd);

    for (unsigned i = 0; i < CROWD; i++)
        open_peer(&crowd[i]);
    return crowd;
}

static void close_crowd(struct peer *crowd) {
    for (unsigned i = 0; i < CROWD; i++)
        close_peer(&crowd[i]);
    free(crowd);
}

static void fan_out(struct peer *crowd, const char *text) {
    char *bytes;
    struct chunk *chunk = chunk_create(strlen(text), &bytes);

    memcpy(bytes, text, strlen(text));
    for (unsigned i = 0; i < CROWD; i++)
        if (crowd[i].stream != NULL)
            stream_fan_out(crowd[i].stream, chunk);
    chunk_unref(chunk);
}

static void assert_crowd_received(struct peer *crowd, unsigned from, unsigned to, const char *text) {
    for (unsigned i = from; i < to; i++)
        assert_received(&crowd[i], text);
}

static void a_fan_out_is_written_in_shares_and_answers_do_not_wait_for_its_end(void **state) {
    struct peer *crowd;
    unsigned first;

    (void)state;
    crowd = open_crowd();
    fan_out(crowd, "event 1,");
    harness_turn(worker);
    first = CROWD - worker->fan_out_count;
    assert_in_range(first, 1, CROWD / 4);
    assert_crowd_received(crowd, 0, first, "event 1,");
    assert_crowd_received(crowd, first, CROWD, "");
    send_text(crowd[CROWD - 1].stream, "answer,");
    send_text(crowd[0].stream, "answer,");
    harness_turn(worker);
    assert_received(&crowd[CROWD - 1], "event 1,answer,");
    assert_received(&crowd[0], "answer,");
    assert_in_range(worker->fan_out_count, CROWD / 2, CROWD - first - 2);
    harness_settle(worker);
    assert_crowd_received(crowd, 1, first, "");
    assert_crowd_received(crowd, first, CROWD - 1, "event 1,");
    close_crowd(crowd);
}

static void more_workers_write_smaller_shares(void **state) {
    struct peer *crowd;
    unsigned one, two;

    (void)state;
    crowd = open_crowd();
    fan_out(crowd, "1");
    harness_turn(worker);
    one = CROWD - worker->fan_out_count;
    harness_settle(worker);
    workers.count = 2; /* the second worker is idle */
    fan_out(crowd, "2");
    harness_turn(worker);
    two = CROWD - worker->fan_out_count;
    workers.count = 1;
    harness_settle(worker);
    assert_crowd_received(crowd, 0, CROWD, "12");
    assert_in_range(two, 1, one * 2 / 3);
    close_crowd(crowd);
}

static void an_event_that_comes_during_a_fan_out_joins_those_that_are_still_to_be_written(void **state) {
    struct peer *crowd;
    unsigned first, second;

    (void)state;
    crowd = open_crowd();
    fan_out(crowd, "1");
    harness_turn(worker);
    first = CROWD - worker->fan_out_count;
    fan_out(crowd, "2");
    assert_int_equal(worker->fan_out_count, CROWD);
    harness_turn(worker);
    second = CROWD - worker->fan_out_count;
    assert_crowd_received(crowd, 0, first, "1"); /* written first, so it is written again last */
    assert_crowd_received(crowd, first, first + second, "12");
    harness_settle(worker);
    assert_crowd_received(crowd, 0, first, "2");
    assert_crowd_received(crowd, first + second, CROWD, "12");
    close_crowd(crowd);
}

static void who_is_closed_during_a_fan_out_goes_with_that_turn(void **state) {
    struct peer *crowd;

    (void)state;
    crowd = open_crowd();
    fan_out(crowd, "1");
    harness_turn(worker);
    stream_close(crowd[CROWD - 1].stream);
    stream_reset(crowd[CROWD - 2].stream);
    stream_finish(crowd[CROWD - 3].stream);
    harness_turn(worker);
    assert_int_equal(crowd[CROWD - 1].closes, 1);
    assert_int_equal(crowd[CROWD - 2].closes, 1);
    assert_received(&crowd[CROWD - 1], "1");
    assert_received(&crowd[CROWD - 3], "1");
    fan_out(crowd, "2");
    harness_settle(worker);
    assert_int_equal(worker->fan_out_count, 0);
    assert_crowd_received(crowd, 0, CROWD - 3, "12");
    assert_received(&crowd[CROWD - 3], ""); /* it is finishing, so it accepts no output */
    close_crowd(crowd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(input_reaches_the_handler_and_leaves_no_buffer_behind),
        TEST(input_that_is_not_consumed_comes_again_with_what_follows_it),
        TEST(a_line_larger_than_any_buffer_is_collected),
        TEST(a_handler_may_take_a_byte_at_a_time),
        TEST(a_new_handler_gets_the_rest_of_the_input),
        TEST(a_paused_stream_leaves_input_to_the_kernel),
        TEST(input_behind_the_point_of_a_pause_is_kept_and_offered_on_resuming),
        TEST(the_end_of_input_is_reported_once_after_the_last_byte),
        TEST(what_is_sent_in_a_turn_leaves_at_its_end_in_order),
        TEST(a_large_output_arrives_whole_through_a_narrow_socket),
        TEST(the_ring_grows_with_the_list_and_goes_with_it),
        TEST(pausing_until_drained_resumes_by_itself),
        TEST(at_a_limit_the_socket_is_asked_first),
        TEST(an_empty_list_takes_one_message_of_any_size),
        TEST(over_a_limit_the_reader_is_slow_once_until_its_output_is_dropped),
        TEST(droppable_messages_are_left_out_where_that_is_wanted_and_others_are_not),
        TEST(without_limits_the_list_ends_where_its_counters_do),
        TEST(finishing_writes_everything_and_waits_for_the_peer_to_close),
        TEST(finishing_for_a_peer_that_sends_nothing_more_does_not_wait_for_it),
        TEST(a_closed_stream_is_not_reported_while_another_process_has_its_socket),
        TEST(a_peer_that_does_not_close_after_the_end_is_closed_after_5_s),
        TEST(a_peer_that_does_not_read_the_end_is_closed_after_30_s),
        TEST(a_peer_that_has_closed_its_half_still_gets_the_rest),
        TEST(closing_writes_what_goes_without_waiting),
        TEST(resetting_gives_the_peer_an_error),
        TEST(closing_over_tcp_is_a_plain_end_for_the_peer),
        TEST(closing_inside_any_handler_ends_the_stream_with_that_turn),
        TEST(finishing_inside_handlers_says_the_last_words),
        TEST(a_peer_that_goes_away_ends_the_stream),
        TEST(a_peer_that_goes_away_while_the_stream_is_paused_keeps_no_loop_busy),
        TEST(a_broken_connection_is_no_slow_reader),
        TEST(the_timer_fires_once_and_is_moved_and_cancelled),
        TEST(a_socket_that_cannot_be_watched_is_closed),
        TEST(answers_given_while_reading_leave_in_the_same_turn),
        TEST(a_fan_out_is_written_in_shares_and_answers_do_not_wait_for_its_end),
        TEST(more_workers_write_smaller_shares),
        TEST(an_event_that_comes_during_a_fan_out_joins_those_that_are_still_to_be_written),
        TEST(who_is_closed_during_a_fan_out_goes_with_that_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
