/*
 * A WebSocket on a stream (RFC 6455): receives messages, sends chunks, answers pings and does the close handshake.
 *
 *   OPEN -- websocket_close ----------------------> CLOSING -- the peer's close frame --> finished
 *     \                                                \------ 5 s, or end of input ----> closed
 *      \-- the peer's close frame (answered) --> finished
 *      \-- websocket_close_slow: output dropped, error and close sent, RST after 5 s
 *
 * With permessage-deflate (RFC 7692) messages may be compressed. A chunk for many connections is compressed once, for
 * the first connection that needs it, and the compressed form is kept with the chunk; only a connection with its own
 * window compresses everything itself.
 *
 * The structure is a member of the owner's structure. The handler gets whole, unmasked messages in valid UTF-8; it may
 * change their bytes, but not keep them after the call. A message that arrives in pieces is checked piece by piece, and
 * malformed UTF-8 closes the connection at once; only compressed messages are checked at their end.
 *
 * All functions are for the thread of the stream's worker.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/utf8.h"
#include "net/chunk.h"
#include "net/deflate.h"
#include "net/http.h"
#include "net/stream.h"
#include "net/websocket_frame.h"

struct websocket;

struct websocket_handler {
    /* `length` bytes of any kind have arrived: the client is alive. Each byte is reported once, on arrival. */
    void (*on_activity)(struct websocket *websocket, size_t length);
    /* A text message is complete. */
    void (*on_message)(struct websocket *websocket, struct slice text);
    /* A ping or pong frame has arrived; false: a ping is not answered. NULL: every ping is answered. */
    bool (*on_control_frame)(struct websocket *websocket, bool ping);
    /* The timer of stream_set_timeout has fired, in state OPEN. */
    void (*on_timer)(struct websocket *websocket);
    /* The client does not read: the handler ends the connection with websocket_close_slow. */
    void (*on_slow)(struct websocket *websocket);
    /* There is no room for a part of a message: the handler closes the connection. */
    void (*on_no_room)(struct websocket *websocket);
    /* Returns the app for which the connection is counted in the account of memory; NULL: none, or not known yet. When
     * that changes, the handler moves what stream_held_bytes says. From on_closing on there is none. NULL: there never
     * is. */
    struct budget_app *(*app)(const struct websocket *websocket);
    /* The client breaks the protocol: it gets this code and reason. NULL: nothing more is done about it. */
    void (*on_fault)(struct websocket *websocket, unsigned code, const char *reason);
    /* No further message follows: one side has closed, or the connection broke. Called once, before on_closed. */
    void (*on_closing)(struct websocket *websocket);
    /* The stream is closed. The last call: the handler frees the owner. */
    void (*on_closed)(struct websocket *websocket);
};

struct websocket_limits {
    struct stream_limits output;
    size_t max_message_bytes; /* before and after decompression */
    size_t max_frame_bytes;
    bool compress; /* accept permessage-deflate from clients that offer it */
    /* Size of each connection's own window, DEFLATE_WINDOW_BITS_MIN to _MAX; 0: no windows, see deflate.h. */
    uint8_t window_bits;
};

struct websocket {
    struct stream *stream;
    const struct websocket_handler *handler;
    const struct websocket_limits *limits;
    bool closing;            /* our close frame is queued, or on_closing was called */
    bool reset_at_timeout;   /* close a slow reader with RST */
    bool compresses;         /* permessage-deflate was negotiated */
    bool compressed;         /* the message in `fragments` is compressed */
    struct utf8_state text;  /* how far the uncompressed message that arrives is checked */
    uint8_t window_bits : 4; /* of the window that was agreed on; 0: none */
    bool no_context : 1;     /* the window is for single messages */
    bool any_window : 1;     /* the client reads messages of any window */
    uint32_t seen;           /* unconsumed bytes, already reported to on_activity */
    uint32_t unmasked;       /* payload bytes of an incomplete frame that are unmasked and checked */
    struct buffer fragments; /* payload of a message whose last frame has not arrived */
    struct deflate_window
        *window; /* the connection's own window for sending; NULL: none, or no message needed it yet */
};

/* Accepts a WebSocket handshake and takes over the connection's stream. False if the request is not a valid handshake
 * (RFC 6455 section 4.2.1); it is then answered with 400 or 426. The caller zeroes `websocket` before; `handler` and
 * `limits` must outlive it. */
bool websocket_accept(struct http_connection *connection, const struct http_request *request,
                      struct websocket *websocket, const struct websocket_handler *handler,
                      const struct websocket_limits *limits);

/* Returns the websocket of a stream; NULL if the stream has another protocol. */
struct websocket *websocket_of_stream(struct stream *stream);

/* Creates a text frame from the concatenated parts, with one reference for the caller. Any thread. */
struct frame *websocket_text_frame(const struct slice *parts, size_t count);

/* Queues a text message, the concatenated parts, for this connection only. Returns the number of bytes queued; -1 if
 * the message was dropped. */
ssize_t websocket_send_text(struct websocket *websocket, const struct slice *parts, size_t count);

/* Sends a ping without payload (RFC 6455 section 5.5.2), which every client answers by itself. */
void websocket_ping(struct websocket *websocket);

/* Prepares for the last messages before websocket_close, which calls this as well: removes the bounds on unsent output,
 * and if the client was too slow already, drops the queued chunks that are not partly written. */
void websocket_will_close(struct websocket *websocket);

/* Sends a close frame (`reason` is cut to whole characters in 123 bytes) and closes after the peer's close frame, or
 * after 5 s. */
void websocket_close(struct websocket *websocket, unsigned code, struct slice reason);

/* Closes a slow connection, from on_slow: drops the queued chunks that are not partly written, sends `text` as the last
 * message and the close frame, and resets the connection after 5 s. */
void websocket_close_slow(struct websocket *websocket, struct slice text, unsigned code, struct slice reason);

/* Gives the peers of a worker that ends two seconds to answer the close frames that they were sent. */
void websockets_shorten_closes(struct worker *worker);
