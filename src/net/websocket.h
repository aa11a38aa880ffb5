/*
 * A WebSocket on a stream (RFC 6455): messages in, chunks out, pings answered, the close handshake done.
 *
 *   OPEN -- websocket_close ----------------------> CLOSING -- the peer's close frame --> finished
 *     \                                                \------ 5 s, or end of input ----> closed
 *      \-- the peer's close frame (answered) --> finished
 *      \-- websocket_close_slow: output dropped, error and close sent, RST after 5 s
 *
 * With permessage-deflate (RFC 7692) messages may be compressed on their way. A chunk that many connections get is
 * compressed once, when the first of them wants it so, and kept with the chunk; only a connection with a window of its
 * own makes its own form of everything.
 *
 * The structure lives inside its owner's. Messages are handed over whole, unmasked and known to be valid UTF-8; the
 * bytes are the receive buffer's and may be changed, not kept.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "net/chunk.h"
#include "net/deflate.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/websocket_frame.h"

struct websocket;

struct websocket_handler {
    /* So many bytes of any kind have come: the client is alive. Each byte is reported once, as soon as it is there. */
    void (*on_activity)(struct websocket *websocket, size_t length);
    void (*on_message)(struct websocket *websocket, struct slice text);
    /* The time of stream_set_timeout is over, in state OPEN. */
    void (*on_timer)(struct websocket *websocket);
    /* The client does not read: end it with websocket_close_slow. */
    void (*on_slow)(struct websocket *websocket);
    /* No further message comes: either side closed, or the connection broke. Called once, before on_closed. */
    void (*on_closing)(struct websocket *websocket);
    /* The stream is gone; the last call. */
    void (*on_closed)(struct websocket *websocket);
};

struct websocket_limits {
    struct stream_limits output;
    size_t max_message_bytes; /* when it is restored, too */
    size_t max_frame_bytes;
    bool compress;       /* permessage-deflate is accepted from clients that offer it */
    uint8_t window_bits; /* of a window for each connection, DEFLATE_WINDOW_BITS_MIN to _MAX; 0: none, see deflate.h */
};

struct websocket {
    struct stream *stream;
    const struct websocket_handler *handler;
    const struct websocket_limits *limits;
    bool closing;                  /* our close frame is queued, or on_closing was called */
    bool reset_at_timeout;         /* a slow reader: RST in place of a close */
    bool compresses;               /* permessage-deflate was agreed on */
    bool compressed;               /* the message that `fragments` is of */
    size_t seen;                   /* bytes of the next offer of input that on_activity was told of */
    struct buffer fragments;       /* of a message whose last frame has not come */
    struct deflate_window *window; /* of what was sent; NULL: none */
};

/* Answers the handshake; 400 or 426 and false if the request is none (RFC 6455 section 4.2.1). `websocket` is zeroed.
 */
bool websocket_accept(struct http_connection *connection, const struct http_request *request,
                      struct websocket *websocket, const struct websocket_handler *handler,
                      const struct websocket_limits *limits);

/* The websocket of a stream that speaks this protocol, or NULL. */
struct websocket *websocket_of_stream(struct stream *stream);

/* A text frame made of parts; one reference for the caller. */
struct frame *websocket_text_frame(const struct slice *parts, size_t count);

/* Queues a text message of its own for this connection only. Returns the bytes that will go out, -1 if none. */
ssize_t websocket_send_text(struct websocket *websocket, const struct slice *parts, size_t count);

/* What is sent from here on are the last words before websocket_close, which calls this, too: they find room whatever
 * the client has not read, and if it was too slow already they take the place of what is not begun. */
void websocket_will_close(struct websocket *websocket);

/* Sends a close frame (`reason` cut to 123 bytes at a character) and waits up to 5 s for the peer's. */
void websocket_close(struct websocket *websocket, unsigned code, struct slice reason);

/* From on_slow: drops what is not begun, sends `text` as a last message and the close frame, and resets after 5 s. */
void websocket_close_slow(struct websocket *websocket, struct slice text, unsigned code, struct slice reason);
