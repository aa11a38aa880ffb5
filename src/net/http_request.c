#include "net/http_internal.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/budget.h"
#include "base/crypto.h"

/* This part of the share of requests in the account of memory is kept for small ones. */
#define SMALL_PART 4

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

void http_parser_init(struct http_connection *connection) {
    llhttp_init(&connection->parser, HTTP_REQUEST, (llhttp_settings_t *)&parser_settings);
    connection->parser.data = connection;
}

/* --- memory --- */

void http_request_free(struct http_request *request) {
    if (request == NULL)
        return;
    buffer_dispose(&request->head);
    buffer_dispose(&request->body_buffer);
    md5_free(request->body_md5);
    free(request);
}

/* What a request that is being received counts in the account of memory. The worker's spare one counts nothing. */
static size_t request_bytes(const struct http_request *request) {
    return sizeof *request + request->head.capacity + request->body_buffer.capacity;
}

/* True if there is room for so many bytes more of a request. A small one may take the place of one that does not come
 * to an end. */
static bool request_has_room(const struct http_connection *connection, size_t bytes, bool small) {
    uint64_t kept = small || budget_limit() == 0 ? 0 : budget_kind_limit(BUDGET_BODIES) / SMALL_PART;

    if (budget_has_room(BUDGET_BODIES, NULL, bytes + (size_t)kept) || (small && http_close_for_memory(connection)))
        return true;
    budget_refused(BUDGET_BODIES);
    return false;
}

bool http_body_has_room(const struct http_connection *connection) {
    const struct http_request *request = connection->request;
    uint64_t arrived = request->body_buffer.capacity;

    return request->announced_bytes <= HTTP_SMALL_BODY_BYTES || request->announced_bytes <= arrived ||
           request_has_room(connection, (size_t)(request->announced_bytes - arrived), false);
}

/* Returns the worker's spare request, or a new one; NULL if there is no room. */
static struct http_request *borrow_request(const struct http_connection *connection) {
    struct worker *worker = connection->stream->worker;
    struct http_request *request = worker->spare_request;

    worker->spare_request = NULL;
    if (request == NULL) {
        if (!request_has_room(connection, sizeof *request, true))
            return NULL;
        request = alloc_zero(sizeof *request);
    }
    budget_add(BUDGET_BODIES, NULL, request_bytes(request));
    return request;
}

/* Makes room for `extra` more bytes in a buffer of the request. False, with the connection's `no_memory` set, if there
 * is none. */
static bool grow_request(struct http_connection *connection, struct buffer *buffer, size_t extra) {
    size_t wanted = buffer->length + extra, before = buffer->capacity, capacity = before < 64 ? 64 : before;
    uint64_t announced = connection->request->announced_bytes;

    while (capacity < wanted)
        capacity *= 2;
    if (capacity > announced && announced >= wanted) /* the buffer of the body */
        capacity = announced;
    if (request_has_room(connection, capacity - before, capacity <= HTTP_SMALL_BODY_BYTES) &&
        buffer_try_resize(buffer, capacity)) {
        budget_add(BUDGET_BODIES, NULL, capacity - before);
        return true;
    }
    connection->no_memory = true;
    return false;
}

static bool append_to_request(struct http_connection *connection, struct buffer *buffer, const char *at,
                              size_t length) {
    if (buffer->capacity - buffer->length < length && !grow_request(connection, buffer, length))
        return false;
    buffer_append_bytes(buffer, at, length);
    return true;
}

void http_request_return(struct http_connection *connection) {
    struct http_request *request = connection->request;
    struct worker *worker = connection->stream->worker;

    connection->request = NULL;
    if (request == NULL)
        return;
    budget_give(BUDGET_BODIES, NULL, request_bytes(request));
    if (worker->spare_request != NULL) {
        http_request_free(request);
        return;
    }
    if (request->body_buffer.capacity > 64 * 1024)
        buffer_dispose(&request->body_buffer);
    md5_free(request->body_md5);
    request->body_md5 = NULL;
    request->head.length = 0;
    request->body_buffer.length = 0;
    request->header_count = 0;
    request->target_length = 0;
    request->announced_bytes = 0;
    request->received_bytes = request->trailer_bytes = 0;
    request->method = request->target = request->path = request->query = request->body = (struct slice){0};
    request->wants_websocket = request->body_too_large = request->head_accepted = false;
    worker->spare_request = request;
}

/* --- headers --- */

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

/* --- llhttp's callbacks --- */

static int on_message_begin(llhttp_t *parser) {
    struct http_connection *connection = parser->data;

    connection->request = borrow_request(connection);
    connection->no_memory = connection->request == NULL;
    if (connection->no_memory)
        return HPE_USER;
    connection->state = REQUEST_HEAD;
    connection->begun = true;
    connection->in_value = connection->value_done = false;
    return 0;
}

/* Appends to the text of the head; false if it is too long, or there is no room. Until the head is complete, names and
 * values of headers are offsets into this text. */
static bool head_append(struct http_connection *connection, const char *at, size_t length) {
    struct http_request *request = connection->request;

    if (request->head.length + length > HTTP_HEAD_MAX_BYTES) {
        connection->too_large = true;
        return false;
    }
    return append_to_request(connection, &request->head, at, length);
}

static int on_url(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;

    if (!head_append(connection, at, length))
        return HPE_USER;
    connection->request->target_length += (uint32_t)length;
    return 0;
}

/* Stops the parser with a reason of our own. */
static int refuse_request(struct http_connection *connection, const char *reason) {
    connection->refusal = reason;
    return HPE_USER;
}

/* Ignores a part of the trailers; they may be as long as a head. */
static int skip_trailer(struct http_connection *connection, size_t length) {
    connection->request->trailer_bytes += length;
    connection->too_large = connection->request->trailer_bytes > HTTP_HEAD_MAX_BYTES;
    return connection->too_large ? HPE_USER : 0;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;

    if (connection->state == REQUEST_BODY)
        return skip_trailer(connection, length);
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
        return skip_trailer(connection, length);
    if (connection->value_done)
        return refuse_request(connection, "a header without a name");
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
        return refuse_request(connection, "a header without a name");
    connection->value_done = connection->state == REQUEST_HEAD;
    return 0;
}

/* Converts the offsets of the complete head to slices. */
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
        /* llhttp leaves trailing blanks in a value. */
        request->headers[i].value =
            slice_trim((struct slice){text + request->spans[i].value, request->spans[i].value_length});
    }
}

/* The bytes that cannot be in a host and port (RFC 3986 section 3.2). */
static const bool not_in_host[256] = {
    [0 ... ' '] = true, ['"'] = true, ['#'] = true, ['/'] = true,  ['<'] = true,
    ['>'] = true,       ['?'] = true, ['@'] = true, ['\\'] = true, ['^'] = true,
    ['`'] = true,       ['{'] = true, ['|'] = true, ['}'] = true,  [0x7f ... 0xff] = true,
};

/* True if `host` can be a Host header: host and port, or empty. */
static bool host_is_valid(struct slice host) {
    for (size_t i = 0; i < host.length; i++)
        if (not_in_host[(unsigned char)host.data[i]])
            return false;
    return true;
}

/* Returns the reason why a proxy in front may read this request with another end or another host (request smuggling);
 * NULL: there is none. Forms that llhttp refuses are not checked again. */
static const char *find_ambiguity(const struct http_request *request, const llhttp_t *parser) {
    unsigned encodings = 0, hosts = 0;

    for (unsigned i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        if (slice_equal_ignoring_case(header->name, SLICE("Host"))) {
            if (hosts++ != 0)
                return "there is more than one Host";
            if (!host_is_valid(header->value))
                return "the Host header must be a host and an optional port";
        }
        if (!slice_equal_ignoring_case(header->name, SLICE("Transfer-Encoding")))
            continue;
        if (!slice_equal_ignoring_case(header->value, SLICE("chunked")) || encodings++ != 0 || parser->http_minor == 0)
            return "the only Transfer-Encoding that is understood is one `chunked` in HTTP/1.1";
    }
    if (hosts == 0 && parser->http_minor != 0)
        return "HTTP/1.1 needs a Host header";
    return NULL;
}

static unsigned count_headers(const struct http_request *request, struct slice name) {
    unsigned count = 0;

    for (unsigned i = 0; i < request->header_count; i++)
        count += slice_equal_ignoring_case(request->headers[i].name, name);
    return count;
}

/* Returns the reason why the request cannot be a WebSocket handshake (RFC 6455 sections 4.2.1, 11.3.1 and 11.3.5);
 * NULL: there is none. websocket_accept checks the values of the headers. */
static const char *find_handshake_fault(const struct http_request *request, const llhttp_t *parser) {
    if (parser->http_minor == 0)
        return "a WebSocket handshake needs HTTP/1.1: a proxy in front may have to be told to use it";
    if ((parser->flags & F_CHUNKED) != 0 || parser->content_length != 0)
        return "a WebSocket handshake has no body";
    if (count_headers(request, SLICE("Sec-WebSocket-Key")) > 1)
        return "there is more than one Sec-WebSocket-Key";
    if (count_headers(request, SLICE("Sec-WebSocket-Version")) > 1)
        return "there is more than one Sec-WebSocket-Version";
    return NULL;
}

static int on_headers_complete(llhttp_t *parser) {
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;
    const char *fault;

    if (parser->http_major != 1)
        return refuse_request(connection, "the request line must end in HTTP/1.1 or HTTP/1.0");
    resolve_head(connection);
    connection->value_done = false;
    connection->keep_alive = llhttp_should_keep_alive(parser) != 0 && !connection->one_answer;
    connection->chunked = (parser->flags & F_CHUNKED) != 0;
    request->body_limit = connection->handler->max_body_bytes;
    if (!connection->chunked && (parser->flags & F_CONTENT_LENGTH))
        request->announced_bytes = parser->content_length;
    request->wants_websocket =
        slice_equal(request->method, SLICE("GET")) && http_header_has(request, SLICE("Upgrade"), SLICE("websocket"));
    fault = find_ambiguity(request, parser);
    if (fault == NULL && request->wants_websocket)
        fault = find_handshake_fault(request, parser);
    if (fault != NULL)
        return refuse_request(connection, fault);
    parser->upgrade = 0; /* other offers (h2c) are declined by ignoring them */
    if (!connection->chunked && parser->content_length > connection->handler->max_body_bytes &&
        (parser->flags & F_CONTENT_LENGTH)) {
        request->body_too_large = true;
        connection->state = REQUEST_COMPLETE;
        return HPE_PAUSED;
    }
    connection->expects = http_header_has(request, SLICE("Expect"), SLICE("100-continue")) &&
                          (connection->chunked || parser->content_length != 0) && parser->http_minor >= 1;
    connection->state = REQUEST_BODY;
    return 0;
}

/* Refuses large bodies while memory is short: a body is read before its signature is checked. */
static bool body_may_grow(const struct http_handler *handler, size_t length) {
    return length <= HTTP_SMALL_BODY_BYTES || handler->memory_full == NULL ||
           !atomic_load_explicit(handler->memory_full, memory_order_relaxed);
}

static int on_body(llhttp_t *parser, const char *at, size_t length) {
    struct http_connection *connection = parser->data;
    struct http_request *request = connection->request;

    if (request->body_buffer.length + length > request->body_limit) {
        request->body_too_large = true;
        request->body_buffer.length = 0;
        connection->state = REQUEST_COMPLETE;
        return HPE_USER;
    }
    if (!body_may_grow(connection->handler, request->body_buffer.length + length)) {
        connection->no_memory = true;
        return HPE_USER;
    }
    if (request->body_md5 != NULL)
        md5_add(request->body_md5, (struct slice){at, length});
    return append_to_request(connection, &request->body_buffer, at, length) ? 0 : HPE_USER;
}

void http_digest_body(struct http_request *request) {
    if (request->body_md5 != NULL)
        return;
    request->body_md5 = md5_begin();
    md5_add(request->body_md5, buffer_slice(&request->body_buffer));
}

static int on_message_complete(llhttp_t *parser) {
    struct http_connection *connection = parser->data;

    connection->request->body = buffer_slice(&connection->request->body_buffer);
    connection->state = REQUEST_COMPLETE;
    return HPE_PAUSED;
}
