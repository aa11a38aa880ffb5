#include "net/http.h"

#include <llhttp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/tls.h"

#define HEAD_TIMEOUT_MS 10000
#define BODY_TIMEOUT_MS 30000
#define IDLE_TIMEOUT_MS 60000
#define WRITE_STALL_MS 60000
#define DRAIN_TIMEOUT_MS 2000 /* for the rest of a request that a shutdown meets */

/* With more than this unsent the connection reads no further request: a client that only sends pays for itself. */
#define UNSENT_MAX_BYTES (256 * 1024)

enum request_state {
    REQUEST_IDLE,      /* between requests; owns no request */
    REQUEST_HEAD,      /* some of a request line or header has come; timer: 10 s for all of it */
    REQUEST_BODY,      /* the head is complete; timer: 30 s for the body */
    REQUEST_COMPLETE,  /* parsed to the end; on_request is next */
    REQUEST_ANSWERING, /* the handler has it; parsing is stopped until it answers */
    REQUEST_CLOSING,   /* the last answer is queued; input is ignored */
};

struct http_connection {
    struct stream *stream;
    const struct http_handler *handler;
    void *pending;
    struct http_request *request;
    llhttp_t parser;
    enum request_state state;
    bool in_value;   /* the last header callback was about a value */
    bool value_done; /* the last header is complete: only a name may follow */
    bool too_large;  /* the head */
    bool no_memory;  /* for the body */
    bool keep_alive; /* of the request in hand */
    bool draining;   /* close after the next answer */
    bool in_handler; /* inside on_request: an answer needs no resume */
    bool chunked;
    uint64_t unsent;     /* of a large answer, when it was last looked at: who reads on is not idle */
    const char *refusal; /* why parsing was ended, when it was not llhttp who did */
};

static int on_message_begin(llhttp_t *parser);
static int on_url(llhttp_t *parser, const char *at, size_t length);
static int on_header_field(llhttp_t *parser, const char *at, size_t length);
static int on_header_value(llhttp_t *parser, const char *at, size_t length);
static int on_header_value_complete(llhttp_t *parser);
static int on_headers_complete(llhttp_t *parser);
static int on_body(llhttp_t *parser, const char *at, size_t length);
static int on_message_complete(llhttp_t *parser);

static const llhttp_settings_t parser_settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static size_t http_on_data(struct stream *stream, uint8_t *data, size_t length);
static void http_on_end(struct stream *stream);
static void http_on_timer(struct stream *stream);
static void http_on_slow(struct stream *stream);
static void http_on_closed(struct stream *stream);

static const struct stream_handler http_stream_handler = {
    .on_data = http_on_data,
    .on_end = http_on_end,
    .on_timer = http_on_timer,
    .on_slow = http_on_slow,
    .on_closed = http_on_closed,
};

static void parser_reset(struct http_connection *connection) {
    llhttp_init(&connection->parser, HTTP_REQUEST, (llhttp_settings_t *)&parser_settings);
    connection->parser.data = connection;
}

void http_accept(struct worker *worker, int fd, struct tls_context *tls, const struct http_handler *handler) {
    struct tls_connection *tls_connection = NULL;
    struct http_connection *connection;

    if (tls != NULL && (tls_connection = tls_connection_create(tls, fd)) == NULL) {
        close(fd);
        return;
    }
    connection = alloc_zero(sizeof *connection);
    connection->handler = handler;
    connection->state = REQUEST_IDLE;
    parser_reset(connection);
    connection->stream = stream_create(worker, fd, tls_connection, &http_stream_handler, connection);
    if (connection->stream == NULL) {
        free(connection);
        return;
    }
    stream_set_timeout(connection->stream, HEAD_TIMEOUT_MS);
}

/* --- requests and where they come from --- */

void http_request_free(struct http_request *request) {
    if (request == NULL)
        return;
    buffer_dispose(&request->head);
    buffer_dispose(&request->body_buffer);
    free(request);
}

static struct http_request *request_borrow(struct worker *worker) {
    struct http_request *request = worker->spare_request;

    worker->spare_request = NULL;
    return request != NULL ? request : alloc_zero(sizeof *request);
}

static void request_return(struct http_connection *connection) {
    struct http_request *request = connection->request;
    struct worker *worker = connection->stream->worker;

    connection->request = NULL;
    if (request == NULL)
        return;
    if (worker->spare_request != NULL) {
        http_request_free(request);
        return;
    }
    if (request->body_buffer.capacity > 64 * 1024)
        buffer_dispose(&request->body_buffer);
    request->head.length = 0;
    request->body_buffer.length = 0;
    request->header_count = 0;
    request->target_length = 0;
    request->received_bytes = request->trailer_bytes = 0;
    request->method = request->target = request->path = request->query = request->body = (struct slice){0};
    request->wants_websocket = request->body_too_large = false;
    worker->spare_request = request;
}

/* --- llhttp's callbacks --- */

static int on_message_begin(llhttp_t *parser) {
    struct http_connection *connection = parser->data;

    connection->request = request_borrow(connection->stream->worker);
    connection->state = REQUEST_HEAD;
    connection->in_value = connection->value_done = false;
    stream_set_timeout(connection->stream, HEAD_TIMEOUT_MS);
    return 0;
}

/* Appends to the head's text; the header's names and values are offsets into it until it is complete. */
static bool head_append(struct http_connection *connection, const char *at, size_t length) {
    struct http_request *request = connection->request;

    if (request->head.length + length > HTTP_HEAD_MAX_BYTES) {
        connection->too_large = true;
        return false;
    }
    buffer_append_bytes(&request->head, at, length);
    return true;
}

static int on_url(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;

    if (!head_append(connection, at, length))
        return HPE_USER;
    connection->request->target_length += (uint32_t)length;
    return 0;
}

/* Ends parsing with a reason of ours in place of llhttp's. */
static int refuse(struct http_connection *connection, const char *reason) {
    connection->refusal = reason;
    return HPE_USER;
}

/* Trailers are of no use to anyone here, but they may not go on for ever. */
static int pass_trailer(struct http_connection *connection, size_t length) {
    connection->request->trailer_bytes += length;
    connection->too_large = connection->request->trailer_bytes > HTTP_HEAD_MAX_BYTES;
    return connection->too_large ? HPE_USER : 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;

    if (connection->state == REQUEST_BODY)
        return pass_trailer(connection, length);
    connection->value_done = false;
    if (request->header_count == 0 || connection->in_value) {
        if (request->header_count == HTTP_HEADERS_MAX) {
            connection->too_large = true;
            return HPE_USER;
        }
        request->spans[request->header_count].name = (uint32_t)request->head.length;
        request->spans[request->header_count].name_length = 0;
        request->spans[request->header_count].value = 0;
        request->spans[request->header_count].value_length = 0;
        request->header_count++;
        connection->in_value = false;
    }
    request->spans[request->header_count - 1].name_length += (uint32_t)length;
    return head_append(connection, at, length) ? 0 : HPE_USER;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;

    if (connection->state == REQUEST_BODY)
        return pass_trailer(connection, length);
    if (connection->value_done)
        return refuse(connection, "a header without a name");
    if (!connection->in_value) {
        connection->in_value = true;
        request->spans[request->header_count - 1].value = (uint32_t)request->head.length;
    }
    request->spans[request->header_count - 1].value_length += (uint32_t)length;
    return head_append(connection, at, length) ? 0 : HPE_USER;
}

static uint32_t last_name_length(const struct http_request *request) {
    return request->spans[request->header_count - 1].name_length;
}

static int on_header_value_complete(llhttp_t *parser) {
    struct http_connection *connection = parser->data;

    if (connection->state == REQUEST_HEAD && (connection->value_done || connection->request->header_count == 0 ||
                                              last_name_length(connection->request) == 0))
        return refuse(connection, "a header without a name");
    connection->value_done = connection->state == REQUEST_HEAD;
    return 0;
}

/* The head is complete and stays where it is: turn the offsets into slices. */
static void resolve_head(struct http_connection *connection) {
    struct http_request *request = connection->request;
    const char *text = request->head.data;
    const char *mark;

    request->method = slice_of(llhttp_method_name((llhttp_method_t)connection->parser.method));
    request->target = (struct slice){text, request->target_length};
    mark = request->target_length != 0 ? memchr(text, '?', request->target_length) : NULL;
    request->path = request->target;
    request->query = SLICE("");
    if (mark != NULL) {
        request->path.length = (size_t)(mark - text);
        request->query = slice_skip(request->target, request->path.length + 1);
    }
    for (unsigned i = 0; i < request->header_count; i++) {
        request->headers[i].name = (struct slice){text + request->spans[i].name, request->spans[i].name_length};
        request->headers[i].value = (struct slice){text + request->spans[i].value, request->spans[i].value_length};
        while (request->headers[i].value.length != 0) { /* llhttp leaves blanks at the end of a value */
            char last = request->headers[i].value.data[request->headers[i].value.length - 1];
            if (last != ' ' && last != '\t')
                break;
            request->headers[i].value.length--;
        }
    }
}

static void send_bytes(struct stream *stream, const char *data, size_t length) {
    char *bytes;
    struct chunk *chunk = chunk_create(length, &bytes);

    memcpy(bytes, data, length);
    stream_send(stream, chunk);
    chunk_unref(chunk);
}

/* Why a proxy in front may see another request than is seen here, with another end or for another host; or NULL. What
 * llhttp does not take anyway is not looked for. */
static const char *ambiguity(const struct http_request *request, const llhttp_t *parser) {
    unsigned encodings = 0, hosts = 0;

    for (unsigned i = 0; i < request->header_count; i++) {
        if (slice_equal_ignoring_case(request->headers[i].name, SLICE("host")) && hosts++ != 0)
            return "there is more than one Host";
        if (!slice_equal_ignoring_case(request->headers[i].name, SLICE("transfer-encoding")))
            continue;
        if (!slice_equal_ignoring_case(request->headers[i].value, SLICE("chunked")) || encodings++ != 0 ||
            parser->http_minor == 0)
            return "the only Transfer-Encoding that is understood is one `chunked` in HTTP/1.1";
    }
    if (request->wants_websocket && (encodings != 0 || parser->content_length != 0))
        return "a WebSocket handshake has no body";
    return NULL;
}

static int on_headers_complete(llhttp_t *parser) {
    static const char proceed[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;
    const char *ambiguous;
    bool expects;

    if (parser->http_major != 1)
        return refuse(connection, "the request line must end in HTTP/1.1 or HTTP/1.0");
    resolve_head(connection);
    connection->value_done = false;
    connection->keep_alive = llhttp_should_keep_alive(parser) != 0;
    connection->chunked = (parser->flags & F_CHUNKED) != 0;
    request->wants_websocket =
        slice_equal(request->method, SLICE("GET")) && http_header_has(request, SLICE("upgrade"), SLICE("websocket"));
    ambiguous = ambiguity(request, parser);
    if (ambiguous != NULL)
        return refuse(connection, ambiguous);
    parser->upgrade = 0; /* nothing else is upgraded to: other offers (h2c) are declined by ignoring them */
    if (!connection->chunked && parser->content_length > connection->handler->max_body_bytes &&
        (parser->flags & F_CONTENT_LENGTH)) {
        request->body_too_large = true;
        connection->state = REQUEST_COMPLETE;
        return HPE_PAUSED;
    }
    expects = http_header_has(request, SLICE("expect"), SLICE("100-continue"));
    if (expects && (connection->chunked || parser->content_length != 0) && parser->http_minor >= 1)
        send_bytes(connection->stream, proceed, sizeof proceed - 1);
    connection->state = REQUEST_BODY;
    stream_set_timeout(connection->stream, connection->stream->worker->stopping ? DRAIN_TIMEOUT_MS : BODY_TIMEOUT_MS);
    return 0;
}

/* Bodies are read before it is known who sends them, so nobody can have many large ones held when memory is short. */
static bool may_grow(const struct http_handler *handler, size_t length) {
    return length <= HTTP_SMALL_BODY_BYTES || handler->memory_full == NULL ||
           !atomic_load_explicit(handler->memory_full, memory_order_relaxed);
}

static int on_body(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;

    if (request->body_buffer.length + length > connection->handler->max_body_bytes) {
        request->body_too_large = true;
        request->body_buffer.length = 0;
        connection->state = REQUEST_COMPLETE;
        return HPE_USER;
    }
    if (!may_grow(connection->handler, request->body_buffer.length + length) ||
        !buffer_try_reserve(&request->body_buffer, length)) {
        connection->no_memory = true;
        return HPE_USER;
    }
    buffer_append_bytes(&request->body_buffer, at, length);
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    struct http_connection *connection = parser->data;

    connection->request->body = buffer_slice(&connection->request->body_buffer);
    connection->state = REQUEST_COMPLETE;
    return HPE_PAUSED;
}

/* --- one step: parse up to the end of a request, hand it over, go on --- */

static void respond_and_close(struct http_connection *connection, unsigned status, const char *text) {
    struct buffer body = {0};

    buffer_appendf(&body, "{\"error\":\"%s\"}", text);
    connection->keep_alive = false;
    http_respond(connection, &(struct http_response){.status = status, .body = buffer_slice(&body), .close = true});
    buffer_dispose(&body);
}

static void refuse_broken_request(struct http_connection *connection) {
    struct buffer text = {0};

    if (connection->no_memory) {
        respond_and_close(connection, 503, "there is no memory for a body of this size: try again later");
    } else if (connection->too_large) {
        buffer_appendf(&text, "the request's head is over %d bytes or %d headers", HTTP_HEAD_MAX_BYTES,
                       HTTP_HEADERS_MAX);
        buffer_append_byte(&text, '\0');
        respond_and_close(connection, 431, text.data);
    } else {
        buffer_appendf(&text, "malformed HTTP request: %s",
                       connection->refusal != NULL ? connection->refusal
                                                   : llhttp_get_error_reason(&connection->parser));
        buffer_append_byte(&text, '\0');
        for (char *at = text.data; *at != '\0'; at++)
            if (*at == '"' || *at == '\\')
                *at = '\'';
        respond_and_close(connection, 400, text.data);
    }
    buffer_dispose(&text);
}

static void hand_over(struct http_connection *connection) {
    struct stream *stream = connection->stream;

    if (connection->request->body_too_large)
        connection->keep_alive = false;
    connection->state = REQUEST_ANSWERING;
    stream_set_timeout(stream, 0);
    connection->in_handler = true;
    connection->handler->on_request(connection, connection->request);
    /* The connection is gone if the request was upgraded: its stream then has another handler. */
    if (stream->handler != &http_stream_handler)
        return;
    connection->in_handler = false;
    if (connection->state == REQUEST_ANSWERING)
        stream_pause(stream);
}

static size_t http_on_data(struct stream *stream, uint8_t *data, size_t length) {
    struct http_connection *connection = stream->context;
    enum llhttp_errno code;
    size_t consumed;

    if (connection->state == REQUEST_CLOSING)
        return length;
    code = llhttp_execute(&connection->parser, (const char *)data, length);
    consumed = code == HPE_OK ? length : (size_t)(llhttp_get_error_pos(&connection->parser) - (const char *)data);
    if (connection->request != NULL) {
        connection->request->received_bytes += consumed;
        /* Blanks and line ends count as well, or a head could go on for ever without growing. */
        if (connection->state == REQUEST_HEAD && connection->request->received_bytes > 2 * HTTP_HEAD_MAX_BYTES)
            connection->too_large = true;
    }
    if (connection->state == REQUEST_COMPLETE) {
        llhttp_resume(&connection->parser);
        hand_over(connection);
        return consumed;
    }
    if (code != HPE_OK || connection->too_large) {
        refuse_broken_request(connection);
        return length;
    }
    return consumed;
}

static void answered(struct http_connection *connection) {
    struct stream *stream = connection->stream;

    request_return(connection);
    connection->pending = NULL;
    if (!connection->keep_alive || connection->draining || stream->ended) {
        connection->state = REQUEST_CLOSING;
        stream_finish(stream);
        return;
    }
    connection->state = REQUEST_IDLE;
    connection->unsent = 0;
    if (stream->out_bytes > UNSENT_MAX_BYTES) {
        connection->unsent = stream->out_bytes;
        stream_set_timeout(stream, WRITE_STALL_MS);
        stream_pause_until_drained(stream);
        return;
    }
    stream_set_timeout(stream, IDLE_TIMEOUT_MS);
    if (!connection->in_handler)
        stream_resume(stream);
}

size_t http_respond(struct http_connection *connection, const struct http_response *response) {
    static const struct slice json = SLICE_INIT("application/json");
    struct buffer text = {0};
    struct slice type = response->content_type.length != 0 ? response->content_type : json;
    bool head_only = connection->request != NULL && slice_equal(connection->request->method, SLICE("HEAD"));
    size_t length;

    if (response->close || connection->draining)
        connection->keep_alive = false;
    buffer_reserve(&text, 256 + response->headers.length + response->body.length);
    buffer_append(&text, SLICE("HTTP/1.1 "));
    buffer_append_number(&text, response->status);
    buffer_append_byte(&text, ' ');
    buffer_append_string(&text, http_reason(response->status));
    if (response->status != 204) {
        buffer_append(&text, SLICE("\r\nContent-Type: "));
        buffer_append(&text, type);
        buffer_append(&text, SLICE("\r\nContent-Length: "));
        buffer_append_number(&text, response->body.length);
    }
    buffer_append(&text, connection->keep_alive ? SLICE("\r\nKeep-Alive: timeout=60\r\nConnection: keep-alive\r\n")
                                                : SLICE("\r\nConnection: close\r\n"));
    buffer_append(&text, response->headers);
    buffer_append(&text, SLICE("\r\n"));
    if (!head_only && response->status != 204)
        buffer_append(&text, response->body);
    send_bytes(connection->stream, text.data, text.length);
    length = text.length;
    buffer_dispose(&text);
    answered(connection);
    return length;
}

/* --- the stream's other events --- */

static void abort_pending(struct http_connection *connection) {
    if (connection->state == REQUEST_ANSWERING && !connection->in_handler)
        connection->handler->on_abort(connection);
}

static void http_on_end(struct stream *stream) {
    struct http_connection *connection = stream->context;

    if (connection->state == REQUEST_ANSWERING)
        return; /* the client has closed its half and still gets its answer */
    if (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY)
        stream_close(stream);
    else
        stream_finish(stream);
}

static void http_on_timer(struct stream *stream) {
    struct http_connection *connection = stream->context;

    if (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY) {
        if (connection->draining) {
            respond_and_close(connection, 503, "the server is shutting down");
            return;
        }
        respond_and_close(connection, 408,
                          connection->state == REQUEST_HEAD ? "the request's head did not arrive within 10 s"
                                                            : "the request's body did not arrive within 30 s");
        return;
    }
    if (stream->out_bytes < connection->unsent) {
        connection->unsent = stream->out_bytes;
        stream_set_timeout(stream, WRITE_STALL_MS);
        return;
    }
    stream_close(stream);
}

static void http_on_slow(struct stream *stream) {
    stream_close(stream); /* HTTP has no limits of this kind; see UNSENT_MAX_BYTES */
}

static void http_on_closed(struct stream *stream) {
    struct http_connection *connection = stream->context;

    abort_pending(connection);
    request_return(connection);
    free(connection);
}

void http_drain(struct worker *worker, bool hurry) {
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct stream *stream = container_of(link, struct stream, link);
        struct http_connection *connection = stream->context;
        if (stream->handler != &http_stream_handler)
            continue;
        connection->draining = true;
        if (connection->state == REQUEST_IDLE)
            stream_finish(stream);
        else if (hurry && (connection->state == REQUEST_HEAD || connection->state == REQUEST_BODY))
            stream_set_timeout(stream, DRAIN_TIMEOUT_MS);
    }
}

struct stream *http_take_stream(struct http_connection *connection) {
    struct stream *stream = connection->stream;
    bool resume = !connection->in_handler;

    request_return(connection);
    free(connection);
    if (resume)
        stream_resume(stream);
    return stream;
}

/* --- small things --- */

bool http_header(const struct http_request *request, struct slice name, struct slice *value) {
    for (unsigned i = 0; i < request->header_count; i++) {
        if (slice_equal_ignoring_case(request->headers[i].name, name)) {
            *value = request->headers[i].value;
            return true;
        }
    }
    return false;
}

bool http_header_has(const struct http_request *request, struct slice name, struct slice word) {
    for (unsigned i = 0; i < request->header_count; i++) {
        struct slice rest = request->headers[i].value;
        if (!slice_equal_ignoring_case(request->headers[i].name, name))
            continue;
        while (rest.length != 0) {
            const char *comma = memchr(rest.data, ',', rest.length);
            size_t length = comma != NULL ? (size_t)(comma - rest.data) : rest.length;
            if (slice_equal_ignoring_case(slice_trim((struct slice){rest.data, length}), word))
                return true;
            rest = slice_skip(rest, comma != NULL ? length + 1 : length);
        }
    }
    return false;
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
        {308, "Permanent Redirect"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Payload Too Large"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
    };

    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}
