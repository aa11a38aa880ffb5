/*
 * Any bytes on an HTTP connection: sent at once or in pieces, answered at once or in a later turn, they give the same
 * requests and the same answers.
 *
 *   first byte    bit 0: the handler answers later
 *   second byte   seed of the sizes of the pieces
 *   the rest      the client's data
 */
#include <stdint.h>
#include <string.h>

#include "loop.h"
#include "net/worker_loop.h"

/* The refusal of longer heads depends on the pieces in which they arrive; see http.c. */
#define INPUT_MAX (2 * HTTP_HEAD_MAX_BYTES)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct workers workers;
static struct buffer seen;
static struct http_connection *deferred;
static bool defers;

static void respond(struct http_connection *connection) {
    http_respond(connection, &(struct http_response){.status = 200, .body = SLICE("{}")});
}

static void check_inside(struct slice part, const struct buffer *whole) {
    MUST(part.length == 0 || (part.data >= whole->data && part.data + part.length <= whole->data + whole->length));
}

static void on_request(struct http_connection *connection, struct http_request *request) {
    MUST(deferred == NULL);
    MUST(request->header_count <= HTTP_HEADERS_MAX && request->head.length <= HTTP_HEAD_MAX_BYTES);
    MUST(request->body.length <= http_connection_handler(connection)->max_body_bytes);
    MUST(request->received_bytes >= request->head.length + request->body.length);
    MUST(!request->body_too_large || request->body.length == 0);
    check_inside(request->target, &request->head);
    check_inside(request->path, &request->head);
    check_inside(request->query, &request->head);
    buffer_appendf(&seen, "%.*s %.*s %.*s [", SLICE_ARGS(request->method), SLICE_ARGS(request->path),
                   SLICE_ARGS(request->query));
    buffer_append(&seen, request->body);
    buffer_appendf(&seen, "] %d %d\n", request->wants_websocket, request->body_too_large);
    for (unsigned i = 0; i < request->header_count; i++) {
        check_inside(request->headers[i].name, &request->head);
        check_inside(request->headers[i].value, &request->head);
        MUST(request->headers[i].name.length != 0);
        buffer_append(&seen, request->headers[i].name);
        buffer_append_byte(&seen, '=');
        buffer_append(&seen, request->headers[i].value);
        buffer_append_byte(&seen, '\n');
    }
    if (defers)
        deferred = connection;
    else
        respond(connection);
}

static void on_abort(struct http_connection *connection) {
    MUST(connection == deferred);
    deferred = NULL;
}

static const struct http_handler handler = {.on_request = on_request, .on_abort = on_abort, .max_body_bytes = 100};

/* Gives the deferred answers until no request waits. */
static void answer_all(struct worker *worker) {
    loop_settle(worker);
    while (deferred != NULL) {
        struct http_connection *connection = deferred;
        deferred = NULL;
        respond(connection);
        streams_flush(worker); /* end of the turn in which the request was answered */
        loop_settle(worker);
    }
}

/* Appends what the client received, without `100 Continue`: that is sent only while a body has not arrived, so it
 * depends on the pieces. No final answer holds these bytes. */
static void append_final_answers(struct buffer *result, struct slice received) {
    struct slice interim = SLICE("HTTP/1.1 100 Continue\r\n\r\n");

    while (received.length != 0) {
        const char *found = memmem(received.data, received.length, interim.data, interim.length);
        size_t length = found != NULL ? (size_t)(found - received.data) : received.length;

        buffer_append(result, (struct slice){received.data, length});
        received = slice_skip(received, found != NULL ? length + interim.length : length);
    }
}

/* Sends the input, in pieces if there is a seed, and returns all requests and answers. */
static struct buffer run(const uint8_t *data, size_t size, unsigned seed) {
    struct worker *worker = workers.list[0];
    int client = loop_connect(worker, &handler);
    struct buffer result, in = {0};

    while (size != 0) {
        size_t piece = seed != 0 ? 1 + seed % 17 : size;
        piece = piece < size ? piece : size;
        seed = seed != 0 ? (seed * 75 + 74) % 65537 + 1 : 0;
        loop_send(worker, client, data, piece);
        answer_all(worker);
        data += piece;
        size -= piece;
    }
    shutdown(client, SHUT_WR);
    answer_all(worker);
    while (loop_receive(client, &in))
        MUST(loop_turn(worker)); /* the client has ended its data: the server must close the connection */
    close(client);
    loop_settle(worker);
    MUST(worker->stream_count == 0 && deferred == NULL);
    MUST(in.length == 0 || slice_starts_with(buffer_slice(&in), SLICE("HTTP/1.1 ")));
    result = seen;
    seen = (struct buffer){0};
    append_final_answers(&result, buffer_slice(&in));
    buffer_dispose(&in);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct buffer whole, pieces;

    if (workers.count == 0)
        MUST(workers_create(&workers, 1, NULL));
    if (size < 2 || size > INPUT_MAX)
        return 0;
    defers = (data[0] & 1) != 0;
    whole = run(data + 2, size - 2, 0);
    pieces = run(data + 2, size - 2, data[1] + 1u);
    MUST(slice_equal(buffer_slice(&whole), buffer_slice(&pieces)));
    buffer_dispose(&whole);
    buffer_dispose(&pieces);
    return 0;
}
