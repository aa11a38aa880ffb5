#include "net/http_internal.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "net/address_table.h"
#include "net/peer_address.h"
#include "net/tls.h"

#define HEAD_TIMEOUT_MS 10000
#define HURRIED_TIMEOUT_MS 2000 /* the same of a hurried connection */
#define BODY_TIMEOUT_MS 30000
#define DRAIN_TIMEOUT_MS 2000 /* time for the rest of a request during shutdown */
#define IDLE_TIMEOUT_MS 60000
#define WRITE_STALL_MS 60000

/* The work of a request, apart from its body; see worker_spend. */
#define REQUEST_WORK 4096

/* Answers that are sent also when memory is short; of pages that many clients get, and of others. */
#define SMALL_PAGE_BYTES (256 * 1024)
#define SMALL_ANSWER_BYTES (16 * 1024)

/* A buffer for answers that has grown beyond this is not kept. */
#define ANSWER_KEPT_BYTES (64 * 1024)

/* Above this much unsent output the connection reads no further request, so that a client that never reads answers
 * cannot grow our memory. */
#define UNSENT_MAX_BYTES (256 * 1024)

static size_t http_on_data(struct stream *stream, uint8_t *data, size_t length);
static void http_on_end(struct stream *stream);
static void http_on_timer(struct stream *stream);
static void http_on_slow(struct stream *stream);
static void http_on_no_room(struct stream *stream);
static void http_on_closed(struct stream *stream);

static const struct stream_handler http_stream_handler = {
    .on_data = http_on_data,
    .on_end = http_on_end,
    .on_timer = http_on_timer,
    .on_slow = http_on_slow,
    .on_no_room = http_on_no_room,
    .on_closed = http_on_closed,
};

/* --- waiting for the client --- */

static void set_head_timeout(struct http_connection *connection) {
    bool hurried = connection->hurried || connection->stream->worker->stopping;

    stream_set_timeout(connection->stream, hurried ? HURRIED_TIMEOUT_MS : HEAD_TIMEOUT_MS);
}

/* Begins to wait for the rest of the head or of the body. A request that arrives whole waits for neither. */
static void wait_for_rest(struct http_connection *connection) {
    struct stream *stream = connection->stream;

    http_begin_waiting(connection);
    if (connection->state == REQUEST_HEAD)
        set_head_timeout(connection);
    else
        stream_set_timeout(stream, stream->worker->stopping ? DRAIN_TIMEOUT_MS : BODY_TIMEOUT_MS);
}

/* --- accepting --- */

/* Over the limit of its client's address, and only there to be told so. */
static bool is_over_address_limit(const struct worker *worker, int fd) {
    const struct address_table *table = worker->all->addresses;

    return table != NULL && address_table_counts_at_accept(table) && !address_table_holds(table, fd);
}

bool http_is_short_lived(const struct http_connection *connection) {
    return connection->short_lived;
}

static void free_connection(struct http_connection *connection) {
    budget_give(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *connection));
    free(connection);
}

void http_accept(struct worker *worker, int fd, struct tls_context *tls, const struct http_handler *handler) {
    struct tls_connection *tls_connection = NULL;
    bool short_lived = http_make_room(worker, fd);
    struct http_connection *connection;

    if (tls != NULL && (!http_make_room_for_tls(worker) || (tls_connection = tls_connection_create(tls, fd)) == NULL)) {
        if (worker->all->addresses != NULL)
            address_table_leave(worker->all->addresses, fd);
        close(fd);
        return;
    }
    connection = alloc_zero(sizeof *connection);
    budget_add(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *connection));
    connection->handler = handler;
    connection->state = REQUEST_IDLE;
    http_parser_init(connection);
    connection->stream = stream_create(worker, fd, tls_connection, &http_stream_handler, connection);
    if (connection->stream == NULL) {
        free_connection(connection);
        return;
    }
    connection->short_lived = short_lived;
    connection->one_answer = short_lived || !http_make_room_in_memory(worker);
    connection->draining = worker->draining;
    connection->hurried = connection->one_answer || worker->draining || is_over_address_limit(worker, fd);
    http_begin_waiting(connection);
    set_head_timeout(connection);
}

/* --- from one request to the next --- */

static size_t respond_with_headers(struct http_connection *connection, unsigned status, struct slice headers,
                                   const char *text) {
    struct buffer body = {0};
    size_t length;

    buffer_appendf(&body, "{\"error\":\"%s\"}", text);
    peer_address_log_refusal(connection->stream->fd, status, text);
    connection->keep_alive = false;
    length = http_respond(
        connection,
        &(struct http_response){.status = status, .headers = headers, .body = buffer_slice(&body), .close = true});
    buffer_dispose(&body);
    return length;
}

static void respond_and_close(struct http_connection *connection, unsigned status, const char *text) {
    respond_with_headers(connection, status, SLICE(""), text);
}

static void refuse_without_room(struct http_connection *connection) {
    respond_with_headers(connection, 503, SLICE("Retry-After: 1\r\n"),
                         "there is no memory for a request of this size now: try again");
}

/* Answers a client that has sent no whole request while the server shuts down. */
static void refuse_for_restart(struct http_connection *connection) {
    const struct stream *stream = connection->stream;

    if (stream->tls != NULL && tls_in_handshake(stream->tls))
        stream_close(connection->stream); /* an answer cannot be sent yet */
    else
        respond_with_headers(connection, 503, SLICE("Retry-After: 1\r\n"), "the server is restarting: try again");
}

/* What a first message is that is not HTTP/1, for those who have mixed up ports or protocols; NULL if it is unknown. */
static const char *explain_other_protocol(struct slice begin) {
    static const struct {
        struct slice begin;
        const char *reason;
    } others[] = {
        {SLICE_INIT("\x16\x03"),
         "these are bytes of TLS, and this port has no TLS: use http:// and ws://, or set "
         "ssl.enabled"},
        {SLICE_INIT("PROXY "), "the PROXY protocol is not supported: let the proxy send X-Forwarded-For"},
        {SLICE_INIT("\r\n\r\n\0\r\nQUIT\n"),
         "the PROXY protocol is not supported: let the proxy send "
         "X-Forwarded-For"},
        {SLICE_INIT("PRI * HTTP/2"), "HTTP/2 is not supported: use HTTP/1.1"},
    };

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (slice_starts_with(begin, others[i].begin))
            return others[i].reason;
    return NULL;
}

static void refuse_broken_request(struct http_connection *connection, struct slice begin) {
    const char *reason = explain_other_protocol(begin);
    struct buffer text = {0};

    if (connection->no_memory) {
        refuse_without_room(connection);
    } else if (connection->too_large) {
        buffer_appendf(&text, "the request's head is over %d bytes or %d headers", HTTP_HEAD_MAX_BYTES,
                       HTTP_HEADERS_MAX);
        respond_and_close(connection, 431, buffer_string(&text));
    } else {
        if (reason == NULL)
            reason = connection->refusal != NULL ? connection->refusal : llhttp_get_error_reason(&connection->parser);
        buffer_appendf(&text, "malformed HTTP request: %s", reason);
        for (char *at = buffer_string(&text); *at != '\0'; at++)
            if (*at == '"' || *at == '\\')
                *at = '\'';
        respond_and_close(connection, 400, text.data);
    }
    buffer_dispose(&text);
}

static void hand_over_request(struct http_connection *connection) {
    struct stream *stream = connection->stream;

    if (connection->request->body_too_large)
        connection->keep_alive = false;
    connection->state = REQUEST_ANSWERING;
    list_remove(&connection->waiting);
    stream_set_timeout(stream, 0);
    connection->in_handler = true;
    worker_count_message(stream->worker, REQUEST_WORK + connection->request->body.length);
    connection->handler->on_request(connection, connection->request);
    /* An upgrade has freed the connection: its stream then has another handler. */
    if (!stream_is(stream, &http_stream_handler))
        return;
    connection->in_handler = false;
    if (connection->state == REQUEST_ANSWERING)
        stream_pause(stream);
}

/* Asks for the body if the client waits for that. If there is no room for it, it is refused before it is sent. */
static void accept_head(struct http_connection *connection) {
    static const char proceed[] = "HTTP/1.1 100 Continue\r\n\r\n";

    connection->request->head_accepted = true;
    if (!http_body_has_room(connection))
        refuse_without_room(connection);
    else if (connection->expects)
        stream_send_copy(connection->stream, proceed, sizeof proceed - 1);
}

/* Lets the handler decide by the head, once. While it has not decided, nothing more is read. */
static void offer_head(struct http_connection *connection, struct http_request *request) {
    bool keep_alive = connection->keep_alive;

    if (request == NULL || request->head_accepted)
        return;
    if (connection->handler->on_head != NULL) {
        connection->keep_alive = false; /* after an answer the body is not read */
        connection->in_handler = true;
        connection->handler->on_head(connection, request);
        connection->in_handler = false;
        if (connection->state != REQUEST_BODY)
            return;
        if (connection->pending != NULL) {
            connection->kept_alive = keep_alive;
            connection->state = REQUEST_DECIDING;
            list_remove(&connection->waiting);
            stream_set_timeout(connection->stream, 0);
            stream_pause(connection->stream);
            return;
        }
        connection->keep_alive = keep_alive;
    }
    accept_head(connection);
}

void http_accept_head(struct http_connection *connection) {
    if (connection->state != REQUEST_DECIDING)
        return;
    connection->state = REQUEST_BODY;
    connection->keep_alive = connection->kept_alive;
    wait_for_rest(connection);
    accept_head(connection);
    stream_resume(connection->stream);
}

/* False, with `refusal` set, if the head is one that others may read otherwise. */
static bool head_is_clear(struct http_connection *connection, const uint8_t *data, size_t length) {
    if (connection->state == REQUEST_IDLE)
        connection->lines.at = LINE_NONE;
    if (connection->state <= REQUEST_HEAD)
        connection->refusal = http_lines_check(&connection->lines, (const char *)data, length);
    return connection->refusal == NULL;
}

static size_t http_on_data(struct stream *stream, uint8_t *data, size_t length) {
    struct http_connection *connection = stream->context;
    enum request_state before = connection->state;
    enum llhttp_errno code;
    struct slice begin = {0}; /* of the request, if these are its first bytes */
    size_t consumed;

    if (before == REQUEST_CLOSING)
        return length;
    if (connection->state == REQUEST_IDLE)
        begin = (struct slice){(const char *)data, length};
    if (!head_is_clear(connection, data, length)) {
        refuse_broken_request(connection, begin);
        return length;
    }
    code = llhttp_execute(&connection->parser, (const char *)data, length);
    consumed = code == HPE_OK ? length : (size_t)(llhttp_get_error_pos(&connection->parser) - (const char *)data);
    if (connection->request != NULL) {
        connection->request->received_bytes += consumed;
        /* Count the bytes on the wire as well: blanks and line ends do not grow the head, so it could be endless. */
        if (connection->state == REQUEST_HEAD && connection->request->received_bytes > 2 * HTTP_HEAD_MAX_BYTES)
            connection->too_large = true;
    }
    if (connection->state == REQUEST_COMPLETE) {
        llhttp_resume(&connection->parser);
        hand_over_request(connection);
        return consumed;
    }
    if (code != HPE_OK || connection->too_large) {
        refuse_broken_request(connection, begin);
        return length;
    }
    if (connection->state != before)
        wait_for_rest(connection);
    if (connection->state == REQUEST_BODY)
        offer_head(connection, connection->request);
    return consumed;
}

static void end_request(struct http_connection *connection) {
    struct stream *stream = connection->stream;
    struct address_table *addresses = stream->worker->all->addresses;

    http_request_return(connection);
    if (addresses != NULL && !address_table_counts_at_accept(addresses))
        address_table_leave(addresses, stream->fd);
    connection->pending = NULL;
    if (!connection->keep_alive || connection->draining || stream->ended) {
        connection->state = REQUEST_CLOSING;
        http_begin_waiting(connection);
        stream_finish(stream);
        return;
    }
    connection->state = REQUEST_IDLE;
    http_begin_waiting(connection);
    connection->unsent = 0;
    if (stream_unsent_bytes(stream) > UNSENT_MAX_BYTES) {
        connection->unsent = stream_unsent_bytes(stream);
        stream_set_timeout(stream, WRITE_STALL_MS);
        stream_pause_until_drained(stream);
        return;
    }
    stream_set_timeout(stream, IDLE_TIMEOUT_MS);
    if (!connection->in_handler)
        stream_resume(stream);
}

/* Appends the beginning of a head, up to the length of the body if there can be one. */
static void append_status(struct buffer *text, const struct http_response *response) {
    static const struct slice json = SLICE_INIT("application/json");

    buffer_append(text, SLICE("HTTP/1.1 "));
    buffer_append_number(text, response->status);
    buffer_append_byte(text, ' ');
    buffer_append_string(text, http_reason(response->status));
    if (response->status == 204)
        return;
    buffer_append(text, SLICE("\r\nContent-Type: "));
    buffer_append(text, response->content_type.length != 0 ? response->content_type : json);
    buffer_append(text, SLICE("\r\nContent-Length: "));
}

static void append_head(struct buffer *text, const struct http_connection *connection,
                        const struct http_response *response, size_t body_length) {
    if (response->status == 200 && response->content_type.length == 0) /* most answers */
        buffer_append(text, SLICE("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "));
    else
        append_status(text, response);
    if (response->status != 204)
        buffer_append_number(text, body_length);
    buffer_append(text, connection->keep_alive ? SLICE("\r\nKeep-Alive: timeout=60\r\nConnection: keep-alive\r\n")
                                               : SLICE("\r\nConnection: close\r\n"));
    buffer_append(text, response->headers);
    buffer_append(text, SLICE("\r\n"));
}

static void send_frame_bytes(struct stream *stream, struct frame *frame) {
    struct chunk *chunk = chunk_of_frame(frame);

    stream_send(stream, chunk);
    chunk_unref(chunk);
}

static void send_copy_for(struct stream *stream, struct slice bytes, struct budget_app *app) {
    struct chunk *chunk = chunk_copy_for(app, bytes.data, bytes.length);

    stream_send(stream, chunk);
    chunk_unref(chunk);
}

/* Large answers need room in the account of memory, since a client may not read them. A page that others get as well
 * is there already: only large ones are refused, of which clients could hold one after the other. */
static bool answer_has_room(const struct http_response *response) {
    const struct frame *page = response->body_frame;

    if (page != NULL)
        return page->length <= SMALL_PAGE_BYTES || budget_has_room(BUDGET_OUTPUT, response->app, 0);
    return response->body.length <= SMALL_ANSWER_BYTES ||
           budget_has_room(BUDGET_OUTPUT, response->app, response->body.length);
}

size_t http_respond(struct http_connection *connection, const struct http_response *response) {
    bool head_only = connection->request != NULL && slice_equal(connection->request->method, SLICE("HEAD"));
    bool has_body = !head_only && response->status != 204;
    struct frame *frame = response->body_frame;
    struct buffer *text = &connection->stream->worker->answer;
    size_t length;

    if (has_body && !answer_has_room(response)) {
        budget_refused(BUDGET_OUTPUT);
        http_close_unread(connection->stream->worker);
        return respond_with_headers(connection, 503, SLICE("Retry-After: 1\r\n"),
                                    "there is no memory for an answer of this size now: try again");
    }
    if (response->close || connection->draining)
        connection->keep_alive = false;
    text->length = 0;
    append_head(text, connection, response, frame != NULL ? frame->length : response->body.length);
    if (has_body && frame == NULL)
        buffer_append(text, response->body);
    length = text->length;
    send_copy_for(connection->stream, buffer_slice(text), response->app);
    if (text->capacity > ANSWER_KEPT_BYTES)
        buffer_dispose(text);
    if (has_body && frame != NULL) {
        send_frame_bytes(connection->stream, frame);
        length += frame->length;
    }
    end_request(connection);
    return length;
}

/* --- the stream's other events --- */

static void abort_pending(struct http_connection *connection) {
    if ((connection->state == REQUEST_ANSWERING && !connection->in_handler) || connection->state == REQUEST_DECIDING)
        connection->handler->on_abort(connection);
}

static void http_on_end(struct stream *stream) {
    struct http_connection *connection = stream->context;

    if (connection->state == REQUEST_ANSWERING)
        return; /* a half-closed client still gets its answer */
    if (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY)
        stream_close(stream);
    else
        stream_finish(stream);
}

static void http_on_timer(struct stream *stream) {
    struct http_connection *connection = stream->context;

    if (connection->draining && (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY ||
                                 (connection->state == REQUEST_IDLE && !connection->begun))) {
        refuse_for_restart(connection);
        return;
    }
    if (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY) {
        respond_and_close(connection, 408,
                          connection->state == REQUEST_HEAD ? connection->hurried
                                                                  ? "the request's head did not arrive within 2 s"
                                                                  : "the request's head did not arrive within 10 s"
                                                            : "the request's body did not arrive within 30 s");
        return;
    }
    if (stream_unsent_bytes(stream) < connection->unsent) {
        connection->unsent = stream_unsent_bytes(stream);
        stream_set_timeout(stream, WRITE_STALL_MS);
        return;
    }
    stream_close(stream);
}

static void http_on_slow(struct stream *stream) {
    stream_close(stream); /* not reached: HTTP sets no stream limits; see UNSENT_MAX_BYTES */
}

/* Input that comes while a request is answered belongs to the next one, which is not read then. */
static void http_on_no_room(struct stream *stream) {
    struct http_connection *connection = stream->context;

    if (connection->state == REQUEST_ANSWERING)
        connection->keep_alive = false;
    else if (connection->state == REQUEST_DECIDING)
        stream_close(stream); /* a part of the body is lost */
    else
        refuse_without_room(connection);
}

static void http_on_closed(struct stream *stream) {
    struct http_connection *connection = stream->context;

    abort_pending(connection);
    http_request_return(connection);
    list_remove(&connection->waiting);
    free_connection(connection);
}

static void begin_draining(struct stream *stream, void *context) {
    struct http_connection *connection = stream->context;

    (void)context;
    if (!stream_is(stream, &http_stream_handler))
        return;
    connection->draining = true;
    if (connection->state == REQUEST_IDLE && !connection->begun)
        stream_set_timeout(stream, DRAIN_TIMEOUT_MS);
}

void http_drain(struct worker *worker) {
    worker->draining = true;
    streams_each(worker, begin_draining, NULL);
}

static void end_connection(struct stream *stream, void *context) {
    struct http_connection *connection = stream->context;

    (void)context;
    if (!stream_is(stream, &http_stream_handler))
        return;
    if (connection->state == REQUEST_IDLE && connection->begun)
        stream_finish(stream);
    else if (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY)
        stream_set_timeout(stream, DRAIN_TIMEOUT_MS);
}

void http_end(struct worker *worker) {
    http_drain(worker);
    streams_each(worker, end_connection, NULL);
}

struct stream *http_take_stream(struct http_connection *connection) {
    struct stream *stream = connection->stream;
    bool resume = !connection->in_handler;

    http_request_return(connection);
    list_remove(&connection->waiting);
    free_connection(connection);
    if (resume)
        stream_resume(stream);
    return stream;
}

void http_close_after_answer(struct http_connection *connection) {
    connection->keep_alive = false;
}

struct worker *http_worker(struct http_connection *connection) {
    return connection->stream->worker;
}

const struct http_handler *http_connection_handler(struct http_connection *connection) {
    return connection->handler;
}

struct stream *http_stream(struct http_connection *connection) {
    return connection->stream;
}

void http_set_pending(struct http_connection *connection, void *pending) {
    connection->pending = pending;
}

void *http_pending(struct http_connection *connection) {
    return connection->pending;
}

const char *http_reason(unsigned status) {
    static const struct {
        unsigned status;
        const char *reason;
    } reasons[] = {
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {204, "No Content"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Payload Too Large"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}
