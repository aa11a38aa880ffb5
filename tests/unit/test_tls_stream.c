/* Streams inside TLS: how chunks become records, a slow reader whose output is dropped in the middle of one, and
 * handshakes for which there is no room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/budget.h"
#include "harness.h"
#include "net/http.h"
#include "net/tls.h"
#include "tls_fixture.h"

static struct workers workers;
static struct worker *worker;
static unsigned closes;

static size_t ignore_data(struct stream *stream, uint8_t *data, size_t length) {
    (void)stream;
    (void)data;
    return length;
}

static void ignore_call(struct stream *stream) {
    (void)stream;
}

static void count_close(struct stream *stream) {
    (void)stream;
    closes++;
}

static const struct stream_handler handler = {ignore_data, ignore_call, ignore_call, ignore_call, count_close};

/* A client that has made the handshake. */
struct tls_peer {
    struct tls_context *context;
    struct stream *stream;
    SSL_CTX *client_context;
    SSL *client;
    int fd;
};

static void open_tls_peer(struct tls_peer *peer, bool narrow) {
    int server;

    harness_create(&workers, 1);
    worker = workers.list[0];
    closes = 0;
    peer->context = tls_fixture_context(NULL, NULL);
    harness_pair(&server, &peer->fd);
    if (narrow) {
        harness_shrink(server);
        harness_shrink(peer->fd);
    }
    peer->stream = stream_create(worker, server, tls_connection_create(peer->context, server), &handler, NULL);
    peer->client_context = SSL_CTX_new(TLS_client_method());
    peer->client = SSL_new(peer->client_context);
    SSL_set_fd(peer->client, peer->fd);
    SSL_set_connect_state(peer->client);
    for (int i = 0; i < 100 && SSL_write(peer->client, "x", 1) != 1; i++)
        harness_settle(worker);
    harness_settle(worker);
    assert_true(SSL_is_init_finished(peer->client));
}

static void close_tls_peer(struct tls_peer *peer) {
    stream_close(peer->stream);
    harness_settle(worker);
    assert_int_equal(closes, 1);
    SSL_free(peer->client);
    SSL_CTX_free(peer->client_context);
    close(peer->fd);
    tls_context_destroy(peer->context);
    harness_destroy(&workers);
}

/* A chunk is its number and length, and then bytes that follow from both. */
struct head {
    uint32_t number, length;
};

static char byte_at(const struct head *head, uint32_t at) {
    return (char)(head->number * 31 + at * 7);
}

static void send_numbered(struct stream *stream, uint32_t number, uint32_t length) {
    struct head head = {number, length};
    char *bytes;
    struct chunk *chunk = chunk_create(sizeof head + length, &bytes);

    memcpy(bytes, &head, sizeof head);
    for (uint32_t i = 0; i < length; i++)
        bytes[sizeof head + i] = byte_at(&head, i);
    stream_send(stream, chunk);
    chunk_unref(chunk);
}

/* Removes whole chunks from the front, checks them and returns the number of the last one; `last` if there is none. */
static uint32_t check_chunks(struct buffer *in, uint32_t last) {
    struct head head;
    size_t at = 0;

    while (in->length - at >= sizeof head) {
        memcpy(&head, in->data + at, sizeof head);
        assert_in_range(head.number, last + 1, last + 1000000);
        if (in->length - at - sizeof head < head.length)
            break;
        for (uint32_t i = 0; i < head.length; i++)
            assert_int_equal(in->data[at + sizeof head + i], byte_at(&head, i));
        last = head.number;
        at += sizeof head + head.length;
    }
    memmove(in->data, in->data + at, in->length - at);
    in->length -= at;
    return last;
}

static bool receive_some(struct tls_peer *peer, struct buffer *in, size_t most) {
    int count;

    buffer_reserve(in, most);
    count = SSL_read(peer->client, in->data + in->length, (int)most);
    if (count > 0)
        in->length += (size_t)count;
    else
        assert_int_equal(SSL_get_error(peer->client, count), SSL_ERROR_WANT_READ);
    return count > 0;
}

static void queued_chunks_are_one_record(void **state) {
    struct tls_peer peer;
    struct buffer in = {0};

    (void)state;
    open_tls_peer(&peer, false);
    for (uint32_t number = 1; number <= 50; number++)
        send_numbered(peer.stream, number, 100);
    harness_settle(worker);
    assert_true(receive_some(&peer, &in, TLS_RECORD_MAX)); /* SSL_read returns one record at most */
    assert_int_equal(in.length, 50 * (sizeof(struct head) + 100));
    assert_int_equal(check_chunks(&in, 0), 50);
    buffer_dispose(&in);
    close_tls_peer(&peer);
}

static void a_large_chunk_takes_several_records(void **state) {
    struct tls_peer peer;
    struct buffer in = {0};
    uint32_t last = 0;

    (void)state;
    open_tls_peer(&peer, false);
    send_numbered(peer.stream, 1, 10);
    send_numbered(peer.stream, 2, 100000);
    send_numbered(peer.stream, 3, 10);
    for (int i = 0; i < 100 && last < 3; i++) {
        harness_settle(worker);
        while (receive_some(&peer, &in, 65536))
            last = check_chunks(&in, last);
    }
    assert_int_equal(last, 3);
    assert_int_equal(in.length, 0);
    assert_int_equal(peer.stream->out_bytes, 0);
    buffer_dispose(&in);
    close_tls_peer(&peer);
}

/* Whatever is queued, read and dropped in whichever order, the reader gets whole chunks in order, and the last one. */
static void a_slow_reader_gets_whole_chunks_also_when_output_is_dropped(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        uint64_t random = seed;
        struct tls_peer peer;
        struct buffer in = {0};
        uint32_t number = 0, last = 0, drops = 0;

        open_tls_peer(&peer, true);
        for (int step = 0; step < 400; step++) {
            switch (harness_random(&random, 8)) {
            case 0:
                send_numbered(peer.stream, ++number, harness_random(&random, 40000));
                break;
            case 1:
            case 2:
            case 3:
                send_numbered(peer.stream, ++number, harness_random(&random, 300));
                break;
            case 4:
            case 5:
                harness_settle(worker);
                break;
            case 6:
                receive_some(&peer, &in, 1 + harness_random(&random, 20000));
                last = check_chunks(&in, last);
                break;
            case 7:
                if (harness_random(&random, 4) == 0 && peer.stream->out_count > 2) {
                    stream_drop_output(peer.stream);
                    drops++;
                }
                break;
            }
        }
        send_numbered(peer.stream, ++number, 5);
        for (int i = 0; i < 100000 && last < number; i++) {
            harness_settle(worker);
            while (receive_some(&peer, &in, 65536))
                last = check_chunks(&in, last);
        }
        assert_int_equal(last, number);
        assert_true(drops > 0);
        assert_int_equal(peer.stream->out_bytes, 0);
        assert_int_equal(peer.stream->out_messages, 0);
        buffer_dispose(&in);
        close_tls_peer(&peer);
    }
}

/* --- without room for a handshake --- */

#define LIMIT ((size_t)100 * 1024 * 1024)

static int accept_tls(struct tls_context *context, const struct http_handler *http) {
    int server, client;

    harness_pair(&server, &client);
    http_accept(worker, server, context, http);
    return client;
}

static bool is_closed(int client) {
    struct buffer in = {0};
    bool open = harness_receive(client, &in);

    assert_int_equal(in.length, 0);
    buffer_dispose(&in);
    return !open;
}

static void without_room_a_handshake_is_refused_or_replaces_one_that_waits(void **state) {
    static const struct http_handler http = {0};
    uint64_t refusals = budget_refusals(BUDGET_TLS);
    struct tls_context *context;
    int waiting, refused, later, last;
    size_t filled;

    (void)state;
    harness_create(&workers, 1);
    worker = workers.list[0];
    context = tls_fixture_context(NULL, NULL);
    budget_set_limit(LIMIT);
    waiting = accept_tls(context, &http);
    filled = (size_t)(budget_kind_limit(BUDGET_TLS) - budget_used(BUDGET_TLS));
    budget_add(BUDGET_TLS, NULL, filled);
    refused = accept_tls(context, &http);
    harness_settle(worker);
    assert_true(is_closed(refused));
    assert_false(is_closed(waiting));
    assert_int_equal(budget_refusals(BUDGET_TLS) - refusals, 1);

    harness_advance(worker, 1000);
    later = accept_tls(context, &http);
    harness_settle(worker);
    assert_true(is_closed(waiting));
    assert_false(is_closed(later));
    assert_int_equal(budget_refusals(BUDGET_TLS) - refusals, 2);

    budget_give(BUDGET_TLS, NULL, filled);
    last = accept_tls(context, &http);
    assert_false(is_closed(last));
    assert_int_equal(budget_refusals(BUDGET_TLS) - refusals, 2);
    budget_set_limit(0);
    close(waiting);
    close(refused);
    close(later);
    close(last);
    harness_destroy(&workers);
    tls_context_destroy(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queued_chunks_are_one_record),
        cmocka_unit_test(a_large_chunk_takes_several_records),
        cmocka_unit_test(a_slow_reader_gets_whole_chunks_also_when_output_is_dropped),
        cmocka_unit_test(without_room_a_handshake_is_refused_or_replaces_one_that_waits),
    };

    return cmocka_run_group_tests(tests, tls_fixture_write, tls_fixture_remove);
}
