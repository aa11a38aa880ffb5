/* What one turn of a worker does at most: input by connection, time, messages, writes; and the order of the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "harness.h"
#include "net/backlog.h"
#include "net/stream.h"
#include "net/worker_loop.h"

/* A connection whose messages are lines. */
struct peer {
    struct stream *stream;
    int client;
    size_t bytes, lines;
    bool ends_turn; /* the time of the turn is over after each of its messages */
};

static struct workers workers;
static struct worker *worker;

static size_t on_data(struct stream *stream, uint8_t *data, size_t length) {
    struct peer *peer = stream->context;
    size_t at = 0;

    while (at < length && worker_may_take(worker)) {
        const uint8_t *end = memchr(data + at, '\n', length - at);
        if (end == NULL)
            break;
        at = (size_t)(end + 1 - data);
        peer->lines++;
        worker_count_message(worker, 1);
        worker->turn_over = worker->turn_over || peer->ends_turn;
    }
    peer->bytes += at;
    return at;
}

static void on_event(struct stream *stream) {
    stream_close(stream);
}

static void on_closed(struct stream *stream) {
    ((struct peer *)stream->context)->stream = NULL;
}

static const struct stream_handler handler = {
    .on_data = on_data, .on_end = on_event, .on_timer = on_event, .on_slow = on_event, .on_closed = on_closed};

static int create_worker(void **state) {
    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    return 0;
}

static int destroy_worker(void **state) {
    (void)state;
    harness_destroy(&workers);
    return 0;
}

static void open_peer(struct peer *peer) {
    int server;

    *peer = (struct peer){0};
    harness_pair(&server, &peer->client);
    peer->stream = harness_stream(worker, server, &handler, peer);
    assert_non_null(peer->stream);
}

static void close_peer(struct peer *peer) {
    close(peer->client);
    harness_settle(worker);
    assert_null(peer->stream);
}

/* Sends `count` lines of `length` bytes. */
static void send_lines(const struct peer *peer, size_t count, size_t length) {
    char *text = alloc(count * length);

    memset(text, 'x', count * length);
    for (size_t i = 1; i <= count; i++)
        text[i * length - 1] = '\n';
    assert_int_equal(send(peer->client, text, count * length, 0), count * length);
    free(text);
}

static void a_connection_takes_16_kb_in_a_turn_and_the_rest_in_the_next_ones(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_lines(&peer, 100, 1024);
    for (unsigned turn = 1; turn <= 6; turn++) {
        harness_turn(worker);
        assert_int_equal(peer.bytes, turn * 16 * 1024);
        assert_true(worker_has_work(worker)); /* the loop does not wait */
    }
    harness_settle(worker);
    assert_int_equal(peer.lines, 100);
    assert_int_equal(counter_read(&worker->counters.input_bytes_max), 16 * 1024);
    assert_false(worker_has_work(worker));
    send_lines(&peer, 1, 10); /* it is watched again */
    harness_turn(worker);
    assert_int_equal(peer.lines, 101);
    close_peer(&peer);
}

static void a_connection_takes_64_messages_in_a_turn(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_lines(&peer, 200, 2);
    for (unsigned turn = 1; turn <= 3; turn++) {
        harness_turn(worker);
        assert_int_equal(peer.lines, turn * 64);
    }
    harness_turn(worker);
    assert_int_equal(peer.lines, 200);
    assert_int_equal(counter_read(&worker->counters.input_messages_max), 64);
    close_peer(&peer);
}

static void a_message_that_is_larger_than_a_turns_input_arrives_whole(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_lines(&peer, 1, 100000);
    harness_settle(worker);
    assert_int_equal(peer.lines, 1);
    assert_int_equal(peer.bytes, 100000);
    assert_int_equal(counter_read(&worker->counters.input_bytes_max), 16 * 1024);
    close_peer(&peer);
}

static void what_inflated_messages_become_counts_as_input(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    worker->visit_messages = worker->visit_inflated = INPUT_BYTES_PER_TURN;
    assert_true(worker_may_take(worker));
    worker_count_inflated(worker, SIZE_MAX);
    assert_false(worker_may_take(worker));
    close_peer(&peer);
}

static void many_connections_take_4_kb_each_and_all_come_before_a_second_share(void **state) {
    struct peer peers[20], late;

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        open_peer(&peers[i]);
        send_lines(&peers[i], 64, 1024);
    }
    open_peer(&late);
    harness_turn(worker);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(peers[i].lines, 4);
    send_lines(&late, 1, 10);
    harness_turn(worker);
    assert_int_equal(late.lines, 1);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(peers[i].lines, 20);
    harness_settle(worker);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(peers[i].lines, 64);
    for (unsigned i = 0; i < 20; i++)
        close_peer(&peers[i]);
    close_peer(&late);
}

static void when_the_time_is_over_the_next_turn_goes_on_with_who_comes_next(void **state) {
    struct peer peers[5];
    bool served[5] = {0};

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        open_peer(&peers[i]);
        peers[i].ends_turn = true;
        send_lines(&peers[i], 1, 10);
    }
    for (unsigned turn = 1; turn <= 5; turn++) {
        unsigned count = 0;
        harness_turn(worker);
        for (unsigned i = 0; i < 5; i++)
            count += served[i] = peers[i].lines != 0;
        assert_int_equal(count, turn);
    }
    for (unsigned i = 0; i < 5; i++)
        close_peer(&peers[i]);
}

static void a_connection_that_always_has_more_keeps_nobody_waiting(void **state) {
    struct peer flooder, other;

    (void)state;
    open_peer(&flooder);
    flooder.ends_turn = true;
    send_lines(&flooder, 1000, 100);
    harness_turn(worker);
    harness_turn(worker);
    assert_int_equal(flooder.lines, 2);
    open_peer(&other);
    other.ends_turn = true;
    send_lines(&other, 1, 10);
    harness_turn(worker);
    assert_int_equal(other.lines, 1);
    assert_int_equal(flooder.lines, 3); /* nor does it starve */
    flooder.ends_turn = false;
    harness_settle(worker);
    assert_int_equal(flooder.lines, 1000);
    close_peer(&flooder);
    close_peer(&other);
}

/* However many they are: epoll reports those in the backlog, too, but they are visited there only. */
static void hundreds_that_always_have_more_keep_nobody_waiting_for_a_second_turn(void **state) {
    enum { FLOODERS = 200 };
    struct peer *flooders = alloc_zero(FLOODERS * sizeof *flooders), other;

    (void)state;
    for (unsigned i = 0; i < FLOODERS; i++) {
        open_peer(&flooders[i]);
        flooders[i].ends_turn = true;
        send_lines(&flooders[i], 1000, 100);
    }
    for (unsigned i = 0; i < 2 * FLOODERS; i++)
        harness_turn(worker);
    open_peer(&other);
    for (size_t i = 1; i <= 10; i++) {
        send_lines(&other, 1, 10);
        harness_turn(worker);
        assert_int_equal(other.lines, i);
    }
    for (unsigned i = 0; i < FLOODERS; i++) {
        assert_true(flooders[i].lines != 0); /* nor do they starve */
        flooders[i].ends_turn = false;
        close(flooders[i].client);
    }
    close_peer(&other);
    free(flooders);
}

static void a_connection_that_closes_while_it_waits_is_forgotten(void **state) {
    struct peer peers[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        open_peer(&peers[i]);
        peers[i].ends_turn = true;
        send_lines(&peers[i], 3, 10);
    }
    harness_turn(worker); /* one is in the backlog now, three are among the events */
    for (unsigned i = 0; i < 4; i++)
        stream_close(peers[i].stream);
    streams_flush(worker);
    worker->turn_over = false;
    streams_flush(worker);
    for (unsigned i = 0; i < 4; i++)
        assert_null(peers[i].stream);
    harness_settle(worker);
    for (unsigned i = 0; i < 4; i++)
        close_peer(&peers[i]);
}

static void a_connection_that_is_paused_in_the_backlog_goes_on_later(void **state) {
    struct peer peer;

    (void)state;
    open_peer(&peer);
    send_lines(&peer, 200, 100);
    harness_turn(worker);
    harness_turn(worker);
    assert_int_equal(peer.lines, 128);
    stream_pause(peer.stream);
    harness_settle(worker);
    assert_int_equal(peer.lines, 128);
    stream_resume(peer.stream);
    harness_settle(worker);
    assert_int_equal(peer.lines, 200);
    close_peer(&peer);
}

/* --- messages and writes --- */

static unsigned handled[10], handled_count;

struct numbered {
    struct message message;
    unsigned number;
};

static void handle_numbered(struct worker *at, struct message *message, struct message **rest) {
    struct numbered *numbered = container_of(message, struct numbered, message);

    (void)rest;
    at->turn_over = true;
    handled[handled_count++] = numbered->number;
    free(numbered);
}

static void messages_that_a_turn_has_no_time_for_keep_their_order(void **state) {
    (void)state;
    handled_count = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct numbered *numbered = alloc(sizeof *numbered);
        *numbered = (struct numbered){{NULL, handle_numbered}, i};
        worker_post(worker, &numbered->message);
        if (i >= 5)
            harness_turn(worker);
        assert_int_equal(handled_count, i >= 5 ? i - 4 : 0);
    }
    assert_true(worker_has_work(worker));
    harness_settle(worker);
    assert_int_equal(handled_count, 10);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(handled[i], i);
}

static void writes_that_a_turn_has_no_time_for_are_made_in_the_next_one(void **state) {
    struct peer peers[3];
    struct buffer in = {0};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        open_peer(&peers[i]);
        stream_send_copy(peers[i].stream, "x", 1);
    }
    worker->turn_over = true;
    streams_flush(worker);
    for (unsigned i = 0; i < 3; i++)
        assert_true(harness_receive(peers[i].client, &in));
    assert_int_equal(in.length, 0);
    assert_true(worker_has_work(worker));
    harness_turn(worker);
    for (unsigned i = 0; i < 3; i++)
        assert_true(harness_receive(peers[i].client, &in));
    assert_int_equal(in.length, 3);
    buffer_dispose(&in);
    for (unsigned i = 0; i < 3; i++)
        close_peer(&peers[i]);
}

/* Receives what a peer got; returns the number of its bytes. */
static size_t bytes_got(const struct peer *peer) {
    struct buffer in = {0};
    size_t length;

    assert_true(harness_receive(peer->client, &in));
    length = in.length;
    buffer_dispose(&in);
    return length;
}

static void a_fan_out_goes_on_in_turns_whose_time_answers_take(void **state) {
    struct peer readers[2 * STREAM_FAN_OUT_LEAST], busy;
    struct chunk *chunk = chunk_copy("x", 1);
    size_t got = 0, turns = 0;

    (void)state;
    open_peer(&busy);
    for (unsigned i = 0; i < 2 * STREAM_FAN_OUT_LEAST; i++) {
        open_peer(&readers[i]);
        assert_int_equal(stream_fan_out(readers[i].stream, chunk), 1);
    }
    chunk_unref(chunk);
    while (got < 2 * STREAM_FAN_OUT_LEAST) {
        size_t before = got;
        stream_send_copy(busy.stream, "y", 1);
        worker->turn_over = true; /* the answers before this one took all of the time */
        streams_flush(worker);
        for (unsigned i = 0; i < 2 * STREAM_FAN_OUT_LEAST; i++)
            got += bytes_got(&readers[i]);
        assert_true(got > before);
        turns++;
    }
    assert_true(turns >= 2); /* a share in each */
    for (unsigned i = 0; i < 2 * STREAM_FAN_OUT_LEAST; i++)
        close_peer(&readers[i]);
    close_peer(&busy);
}

/* --- time --- */

static void the_clock_is_read_by_work(void **state) {
    (void)state;
    worker->turn_ends_ns = 1; /* long ago */
    worker->turn_over = false;
    worker->turn_work = 0;
    worker_spend(worker, WORK_PER_CLOCK - 1);
    assert_false(worker->turn_over);
    worker_spend(worker, 1);
    assert_true(worker->turn_over);
    worker_begin_part(worker); /* gives the next part a little time */
    assert_false(worker->turn_over);
    assert_true(worker->turn_ends_ns > 1);
    worker->turn_ends_ns = UINT64_MAX;
    worker_spend(worker, SIZE_MAX / 2);
    assert_false(worker->turn_over);
}

/* --- the backlog --- */

static void the_backlog_keeps_its_order_while_it_grows_and_loses_entries(void **state) {
    struct backlog_entry entries[1000] = {0};
    struct backlog backlog = {0};

    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 1000; i++) {
            backlog_append(&backlog, &entries[i]);
            backlog_append(&backlog, &entries[i]);
        }
        assert_int_equal(backlog.length, 1000);
        for (unsigned i = 0; i < 1000; i += 2)
            backlog_remove(&backlog, &entries[i]);
        for (unsigned i = 0; i < 1000; i++) {
            assert_int_equal(backlog_holds(&entries[i]), i % 2);
            assert_ptr_equal(backlog_take(&backlog), i % 2 == 0 ? NULL : &entries[i]);
            assert_false(backlog_holds(&entries[i]));
        }
        assert_int_equal(backlog.length, 0);
    }
    backlog_dispose(&backlog);
}

static unsigned fired;

static void end_turn_at_timer(struct timer *timer) {
    (void)timer;
    fired++;
    worker->turn_over = true;
}

static void when_the_time_is_over_due_timers_wait_for_the_next_turn(void **state) {
    struct timer timers[5];

    (void)state;
    fired = 0;
    for (unsigned i = 0; i < 5; i++) {
        timers[i] = (struct timer){.fire = end_turn_at_timer};
        timer_set(&worker->timers, &timers[i], worker->now_ms, 0);
    }
    worker->now_ms += 1000;
    for (unsigned turn = 1; turn <= 5; turn++) {
        harness_turn(worker);
        assert_int_equal(fired, turn);
        assert_int_equal(worker_has_work(worker), turn < 5); /* the loop does not wait */
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, create_worker, destroy_worker)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_connection_takes_16_kb_in_a_turn_and_the_rest_in_the_next_ones),
        TEST(a_connection_takes_64_messages_in_a_turn),
        TEST(a_message_that_is_larger_than_a_turns_input_arrives_whole),
        TEST(what_inflated_messages_become_counts_as_input),
        TEST(many_connections_take_4_kb_each_and_all_come_before_a_second_share),
        TEST(when_the_time_is_over_the_next_turn_goes_on_with_who_comes_next),
        TEST(a_connection_that_always_has_more_keeps_nobody_waiting),
        TEST(hundreds_that_always_have_more_keep_nobody_waiting_for_a_second_turn),
        TEST(a_connection_that_closes_while_it_waits_is_forgotten),
        TEST(a_connection_that_is_paused_in_the_backlog_goes_on_later),
        TEST(messages_that_a_turn_has_no_time_for_keep_their_order),
        TEST(writes_that_a_turn_has_no_time_for_are_made_in_the_next_one),
        TEST(a_fan_out_goes_on_in_turns_whose_time_answers_take),
        TEST(the_clock_is_read_by_work),
        TEST(when_the_time_is_over_due_timers_wait_for_the_next_turn),
        cmocka_unit_test(the_backlog_keeps_its_order_while_it_grows_and_loses_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
