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
static struct buffer seen; /* the requests of this run; its answers are added at the end */
static struct http_connection *deferred;
static bool defers;

static void respond(struct http_connection *connection) {
    http_respond(connection, &(struct http_response){.status = 200, .body = SLICE("{}")});
}

static void check_inside(struct slice part, const struct buffer *whole) {
    MUST(part.length == 0 || (part.data >= whole->data && part.data + part.length <= whole->data + whole->length));
}

static void note_part(struct slice part, char end) {
    buffer_append(&seen, part);
    buffer_append_byte(&seen, end);
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
    note_part(request->method, ' ');
    note_part(request->path, ' ');
    note_part(request->query, ' ');
    note_part(request->body, request->wants_websocket ? 'w' : ' ');
    note_part(SLICE(""), request->body_too_large ? 'l' : '\n');
    for (unsigned i = 0; i < request->header_count; i++) {
        check_inside(request->headers[i].name, &request->head);
        check_inside(request->headers[i].value, &request->head);
        MUST(request->headers[i].name.length != 0);
        note_part(request->headers[i].name, '=');
        note_part(request->headers[i].value, '\n');
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
    loop_until_idle(worker);
    while (deferred != NULL) {
        struct http_connection *connection = deferred;
        deferred = NULL;
        respond(connection);
        streams_flush(worker); /* end of the turn in which the request was answered */
        loop_until_idle(worker);
    }
}

/* Appends the answers that the client received, without what depends on the pieces: `100 Continue` is sent only while
 * a body has not arrived, and of several faults the one that is seen first is named. */
static void append_final_answers(struct slice received) {
    static const struct slice proceed = SLICE_INIT("HTTP/1.1 100 Continue\r\n\r\n");

    while (received.length != 0) {
        const char *next;
        if (slice_starts_with(received, proceed)) {
            received = slice_skip(received, proceed.length);
            continue;
        }
        MUST(slice_starts_with(received, SLICE("HTTP/1.1 ")));
        if (slice_starts_with(received, SLICE("HTTP/1.1 4"))) {
            buffer_append(&seen, SLICE("refused")); /* it is the last answer */
            return;
        }
        next = memmem(received.data + 1, received.length - 1, "HTTP/1.1 ", 9);
        buffer_append(&seen, next != NULL ? (struct slice){received.data, (size_t)(next - received.data)} : received);
        received = slice_skip(received, next != NULL ? (size_t)(next - received.data) : received.length);
    }
}

/* Sends the input, in pieces if there is a seed, and leaves all requests and answers in `seen`. */
static void run(const uint8_t *data, size_t size, unsigned seed) {
    struct worker *worker = workers.list[0];
    struct memory_socket *client = loop_connect(worker, &handler);

    seen.length = 0;
    while (size != 0) {
        size_t piece = seed != 0 ? 1 + seed % 17 : size;
        piece = piece < size ? piece : size;
        seed = seed != 0 ? (seed * 75 + 74) % 65537 + 1 : 0;
        loop_send(worker, client, data, piece);
        answer_all(worker);
        data += piece;
        size -= piece;
    }
    memory_socket_end(client);
    answer_all(worker);
    MUST(client->server_ended); /* the client has ended its data: the server must close the connection */
    append_final_answers(buffer_slice(&client->to_client));
    loop_close(worker, client);
    MUST(worker->stream_count == 0 && deferred == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct buffer whole;

    if (workers.count == 0)
        MUST(workers_create(&workers, 1, NULL));
    if (size < 2 || size > INPUT_MAX)
        return 0;
    defers = (data[0] & 1) != 0;
    run(data + 2, size - 2, 0);
    whole.length = 0;
    buffer_append(&whole, buffer_slice(&seen));
    run(data + 2, size - 2, data[1] + 1u);
    MUST(slice_equal(buffer_slice(&whole), buffer_slice(&seen)));
    return 0;
}
