/*
 * HTTP/1.1 on a stream, parsed by llhttp: keep-alive, pipelining, chunked bodies, Expect, and the upgrade to WebSocket.
 *
 * One request at a time: what follows on the connection is not parsed before the answer to the one before it has been
 * given, so answers leave in order whatever they wait for. A connection between requests owns no buffer; a request that
 * is being received borrows the worker's spare one.
 *
 * Broken requests (a malformed line, an oversized head, both a length and chunks) are answered here and the
 * connection closed; everything else is the handler's.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"
#include "net/stream.h"

#define HTTP_HEAD_MAX_BYTES (16 * 1024)
#define HTTP_HEADERS_MAX 100
#define HTTP_SMALL_BODY_BYTES (16 * 1024)

struct http_connection;
struct tls_context;

struct http_header {
    struct slice name;
    struct slice value;
};

struct http_request {
    struct slice method; /* "GET" */
    struct slice target; /* as received */
    struct slice path;   /* the target up to `?` */
    struct slice query;  /* behind it */
    struct slice body;
    struct http_header headers[HTTP_HEADERS_MAX];
    unsigned header_count;
    bool wants_websocket;  /* GET with `Upgrade: websocket` */
    bool body_too_large;   /* over the handler's limit: `body` is empty and the connection will be closed */
    size_t received_bytes; /* head and body as they were sent, for the counters */

    /* Where the slices point. */
    struct buffer head;
    struct buffer body_buffer;
    struct {
        uint32_t name, name_length, value, value_length;
    } spans[HTTP_HEADERS_MAX];
    uint32_t target_length;
    size_t trailer_bytes; /* behind a chunked body */
};

struct http_handler {
    /* A request is complete. Answer with http_respond or websocket_accept, now or later on this thread; the request is
     * valid until then. */
    void (*on_request)(struct http_connection *connection, struct http_request *request);
    /* The client went away before the answer that on_request put off; do not answer any more. */
    void (*on_abort)(struct http_connection *connection);
    size_t max_body_bytes;
    const atomic_bool *memory_full; /* while it is set, larger bodies than HTTP_SMALL_BODY_BYTES get 503; may be NULL */
    void *context;                  /* the handler's */
};

/* Speaks HTTP on an accepted socket, inside TLS unless `tls` is NULL. `handler` and `tls` outlive it. */
void http_accept(struct worker *worker, int fd, struct tls_context *tls, const struct http_handler *handler);

/* The value of a header, by its name in any case; false if it was not sent. */
bool http_header(const struct http_request *request, struct slice name, struct slice *value);

/* Like http_header; true if one of the comma-separated words of the value equals `word` in any case. */
bool http_header_has(const struct http_request *request, struct slice name, struct slice word);

struct http_response {
    unsigned status;
    struct slice content_type; /* empty: application/json */
    struct slice headers;      /* further complete lines, each ending in CRLF */
    struct slice body;
    bool close; /* close the connection after it */
};

/* Answers the request in hand and returns the number of bytes that go out. A HEAD request gets the head only. */
size_t http_respond(struct http_connection *connection, const struct http_response *response);

struct worker *http_worker(struct http_connection *connection);
const struct http_handler *http_connection_handler(struct http_connection *connection);
struct stream *http_stream(struct http_connection *connection);

/* What the handler keeps with a request whose answer it put off. */
void http_set_pending(struct http_connection *connection, void *pending);
void *http_pending(struct http_connection *connection);

/* Ends the HTTP life of the connection and returns its stream, whose handler the caller sets at once. */
struct stream *http_take_stream(struct http_connection *connection);

/* On a worker that shuts down: connections between requests close, others after their answer. In a `hurry` what is
 * still missing of a request has to come within two seconds. */
void http_drain(struct worker *worker, bool hurry);

void http_request_free(struct http_request *request);

/* "Not Found" for 404. */
const char *http_reason(unsigned status);
