/*
 * HTTP/1.1 on a stream, parsed by llhttp: keep-alive, pipelining, chunked bodies, Expect, and the upgrade to WebSocket.
 *
 * A connection handles one request at a time: it parses the next one after the answer to the last, so answers leave in
 * order. A connection between requests owns no buffer; a request that is being received uses the worker's spare one.
 *
 * Broken requests (a malformed line, an oversized head, both a length and chunks) are answered here, and the connection
 * is closed; all others go to the handler.
 *
 * A connection belongs to one worker; all functions are for its thread.
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
struct frame;
struct md5_stream;
struct tls_context;

struct http_header {
    struct slice name;
    struct slice value;
};

struct http_request {
    struct slice method; /* "GET" */
    struct slice target; /* as received */
    struct slice path;   /* the target up to `?` */
    struct slice query;  /* the rest, without `?` */
    struct slice body;
    struct http_header headers[HTTP_HEADERS_MAX];
    unsigned header_count;
    bool wants_websocket; /* GET with `Upgrade: websocket` */
    /* Above max_body_bytes: `body` is empty, and the connection will be closed. */
    bool body_too_large;
    bool head_accepted; /* on_head was called, and did not answer */
    /* The MD5 of the body, made while it arrives; NULL: the handler has not asked for it. */
    struct md5_stream *body_md5;
    size_t body_limit;     /* a longer body is too large; the handler may lower it in on_head */
    size_t received_bytes; /* head and body on the wire, for the counters */

    /* The memory behind the slices; private to the parser. */
    struct buffer head;
    struct buffer body_buffer;
    struct {
        uint32_t name, name_length, value, value_length;
    } spans[HTTP_HEADERS_MAX];
    uint32_t target_length;
    uint64_t announced_bytes; /* Content-Length; 0: none */
    size_t trailer_bytes;     /* length of the trailers after a chunked body */
};

struct http_handler {
    /* A request is complete. The handler answers it with http_respond or websocket_accept, now or later on this thread;
     * the request is valid until then. */
    void (*on_request)(struct http_connection *connection, struct http_request *request);
    /* The head of a request is complete, and its body has not all arrived. The handler may answer now: the body is not
     * read then, and the connection closes. Or it may set http_pending: nothing more is read until it answers or calls
     * http_accept_head. Otherwise on_request follows. NULL: every body is read. */
    void (*on_head)(struct http_connection *connection, struct http_request *request);
    /* The connection has closed before the answer that on_request left for later, or before the decision that on_head
     * left for later. The handler must not answer. */
    void (*on_abort)(struct http_connection *connection);
    size_t max_body_bytes;
    /* While it is set, requests with a body above HTTP_SMALL_BODY_BYTES get 503; may be NULL. */
    const atomic_bool *memory_full;
    void *context; /* the handler's */
};

/* Serves HTTP on an accepted socket, inside TLS unless `tls` is NULL. Takes over the socket; `handler` and `tls` must
 * outlive the connection. */
void http_accept(struct worker *worker, int fd, struct tls_context *tls, const struct http_handler *handler);

/* Finds the first header called `name`, in any case; false if it was not sent. */
bool http_header(const struct http_request *request, struct slice name, struct slice *value);

/* True if one of the comma-separated words of the header equals `word`, in any case. */
bool http_header_has(const struct http_request *request, struct slice name, struct slice word);

struct http_response {
    unsigned status;
    struct slice content_type; /* empty: application/json */
    struct slice headers;      /* further header lines, each with its CRLF */
    struct slice body;
    struct frame *body_frame; /* in place of `body`, sent without a copy; NULL: none */
    bool close;               /* close the connection after the response */
    /* The app for which the answer is counted in the account of memory; NULL: none. */
    struct budget_app *app;
};

/* Answers the current request and returns the number of bytes that go out. A HEAD request gets the head only. Without
 * room for a large body in the account of memory, the answer is 503. */
size_t http_respond(struct http_connection *connection, const struct http_response *response);

/* Ends the wait that on_head began with http_set_pending: the body is read, and on_request follows. Does nothing if the
 * request is answered. */
void http_accept_head(struct http_connection *connection);

/* Makes the MD5 of the body while it arrives. To be called from on_head, or before http_accept_head. */
void http_digest_body(struct http_request *request);

/* Closes the connection after the answer to the current request. */
void http_close_after_answer(struct http_connection *connection);

/* True if descriptors were short when the connection was accepted: it must not become a WebSocket. */
bool http_is_short_lived(const struct http_connection *connection);

/* The worker, the handler and the stream of a connection. */
struct worker *http_worker(struct http_connection *connection);
const struct http_handler *http_connection_handler(struct http_connection *connection);
struct stream *http_stream(struct http_connection *connection);

/* A pointer that the handler keeps for a request that it answers later; NULL after the answer. */
void http_set_pending(struct http_connection *connection, void *pending);
void *http_pending(struct http_connection *connection);

/* Ends HTTP on the connection, frees it and returns its stream. The caller must set a new handler at once. */
struct stream *http_take_stream(struct http_connection *connection);

/* Drains a worker for shutdown: each connection, new ones too, closes after its next answer. A connection that has not
 * sent anything yet has two seconds for that, and then gets 503. */
void http_drain(struct worker *worker);

/* Ends the drain: connections between requests close at once, and the rest of a request must arrive within two seconds.
 */
void http_end(struct worker *worker);

/* Frees a worker's spare request; NULL is ignored. */
void http_request_free(struct http_request *request);

/* Returns the reason phrase of a status: "Not Found" for 404. Any thread. */
const char *http_reason(unsigned status);
