#include "publisher.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "event.h"
#include "fail.h"
#include "http_answer.h"
#include "socket.h"

#define ANSWER_READ 16384
#define TIMESTAMP_DIGITS 10

/* Appends `before` and a placeholder of `length` bytes; returns the offset of the placeholder. */
static size_t append_place(struct buffer *buffer, const char *before, size_t length) {
    size_t place;

    buffer_append_string(buffer, before);
    place = buffer->length;
    for (size_t i = 0; i < length; i++)
        buffer_append_byte(buffer, '0');
    return place;
}

static void lay_out_request(struct publisher *publisher) {
    const struct target *target = publisher->shared->target;
    struct buffer *request = &publisher->request, body = {0};
    size_t data_length = target->compress ? EVENT_DATA_COMPRESSED : EVENT_DATA, data_in_body;

    buffer_appendf(&body, "{\"name\":\"" EVENT_NAME "\",\"channel\":\"%s\"", publisher->shared->channel);
    data_in_body = append_place(&body, ",\"data\":\"", data_length);
    event_write_filler(body.data + data_in_body, data_length, target->compress);
    buffer_append_string(&body, "\"}");

    buffer_appendf(request, "POST /apps/%s/events?", target->app_id);
    publisher->query_at = request->length;
    buffer_appendf(request, "auth_key=%s", target->app_key);
    publisher->timestamp_at = append_place(request, "&auth_timestamp=", TIMESTAMP_DIGITS);
    publisher->md5_at = append_place(request, "&auth_version=1.0&body_md5=", MD5_HEX);
    publisher->signature_at = append_place(request, "&auth_signature=", HMAC_SHA256_HEX);
    buffer_appendf(request, " HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                   target->host, body.length);
    publisher->body_at = request->length;
    publisher->data_at = request->length + data_in_body;
    buffer_append(request, buffer_slice(&body));
    buffer_dispose(&body);
}

/* Writes the next event into the request and signs "METHOD\npath\nquery", as the HTTP API requires. */
static void fill_in_request(struct publisher *publisher) {
    char *request = publisher->request.data, timestamp[TIMESTAMP_DIGITS + 1];
    struct slice body = slice_skip(buffer_slice(&publisher->request), publisher->body_at);
    size_t path_at = sizeof "POST " - 1, signed_end = publisher->md5_at + MD5_HEX;
    struct slice parts[] = {
        SLICE("POST\n"),
        {request + path_at, publisher->query_at - 1 - path_at},
        SLICE("\n"),
        {request + publisher->query_at, signed_end - publisher->query_at},
    };

    event_write(request + publisher->data_at, publisher->index, publisher->next_number);
    event_write_time(request + publisher->data_at, publisher->sent_at_ns);
    snprintf(timestamp, sizeof timestamp, "%0*lld", TIMESTAMP_DIGITS, (long long)time(NULL) % 10000000000);
    memcpy(request + publisher->timestamp_at, timestamp, TIMESTAMP_DIGITS);
    md5_hex(body, request + publisher->md5_at);
    hmac_sha256_hex(&publisher->shared->target->secret, parts, sizeof parts / sizeof parts[0],
                    request + publisher->signature_at);
}

static void fail_with_socket(struct publisher *publisher, const char *doing) {
    struct slice got = buffer_slice(&publisher->answer);

    fail("publisher %u: %s %s: %s; received before that: \"%.*s\"", publisher->index, doing,
         publisher->shared->target->url, strerror(errno), SLICE_ARGS(got));
}

/* Writes until the socket is full; watches it for writing if bytes are left. */
static void write_request(struct publisher *publisher) {
    while (publisher->written < publisher->request.length) {
        ssize_t count = socket_send(&publisher->source, publisher->request.data + publisher->written,
                                    publisher->request.length - publisher->written);
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            fail_with_socket(publisher, "sending to");
        if (count < 0 && errno == EAGAIN)
            break;
        if (count > 0)
            publisher->written += (size_t)count;
    }
    if (publisher->blocked != (publisher->written < publisher->request.length)) {
        publisher->blocked = !publisher->blocked;
        poller_watch_writing(publisher->shared->poller, &publisher->source, publisher->blocked);
    }
}

void publisher_send(struct publisher *publisher) {
    publisher->sent_at_ns = clock_monotonic_ns();
    if (publisher->shared->fresh || publisher->next_number == 0)
        fill_in_request(publisher);
    publisher->next_number++;
    publisher->written = 0;
    publisher->shared->outstanding++;
    write_request(publisher);
}

/* Handles the complete answers received so far. */
static void read_answers(struct publisher *publisher) {
    struct publishing *shared = publisher->shared;
    struct http_answer answer;
    size_t length;

    while ((length = http_answer_parse(buffer_slice(&publisher->answer), &answer)) != 0) {
        if (answer.status != 200 || publisher->written < publisher->request.length)
            fail("publisher %u: %s answered a publish with: \"%.*s\"", publisher->index, shared->target->url,
                 (int)length, publisher->answer.data);
        publisher->answer.length -= length;
        memmove(publisher->answer.data, publisher->answer.data + length, publisher->answer.length);
        if (shared->latencies != NULL)
            histogram_add(shared->latencies, clock_monotonic_ns() - publisher->sent_at_ns);
        shared->answered++;
        shared->outstanding--;
        if (shared->running)
            publisher_send(publisher);
    }
}

static void publisher_ready(struct source *source, uint32_t events) {
    struct publisher *publisher = (struct publisher *)source;
    struct buffer *answer = &publisher->answer;
    ssize_t count;

    if (publisher->blocked)
        write_request(publisher);
    if ((events & ~(uint32_t)EPOLLOUT) == 0)
        return;
    buffer_reserve(answer, ANSWER_READ);
    count = socket_receive(source, answer->data + answer->length, answer->capacity - answer->length);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (count < 0)
        fail_with_socket(publisher, "reading from");
    if (count == 0)
        fail("publisher %u: %s closed the connection after %llu events; received before that: \"%.*s\"",
             publisher->index, publisher->shared->target->url, (unsigned long long)publisher->next_number,
             SLICE_ARGS(buffer_slice(answer)));
    answer->length += (size_t)count;
    read_answers(publisher);
}

void publisher_open(struct publisher *publisher, struct publishing *shared, unsigned index) {
    *publisher = (struct publisher){.shared = shared, .index = index};
    publisher->source = (struct source){.ready = publisher_ready};
    socket_open(&publisher->source, shared->target);
    lay_out_request(publisher);
    poller_add(shared->poller, &publisher->source, POLLER_PROMPT);
}

void publisher_close(struct publisher *publisher) {
    socket_close(&publisher->source);
    buffer_dispose(&publisher->request);
    buffer_dispose(&publisher->answer);
}
