/*
 * Compressed messages: permessage-deflate (RFC 7692) as a server speaks it. Negotiation, and messages from one form to
 * the other; what a connection does with them is in net/websocket.h.
 *
 *   out   without a window of its own: each message alone, so that one compressed form serves every connection
 *         with one: what a connection was sent before counts, which compresses better and costs each its memory
 *   in    always message by message (`client_no_context_takeover` is part of every answer), with the worker's tools, so
 *         that a connection owns nothing for it
 *
 * The tools belong to one worker; everything that takes them is for its thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

#define DEFLATE_WINDOW_BITS_MIN 9 /* zlib writes no raw stream with fewer */
#define DEFLATE_WINDOW_BITS_MAX 15

struct deflate_tools;
struct deflate_window;

struct deflate_agreement {
    uint8_t window_bits; /* of the connection's own window; 0: it has none */
    uint8_t told_bits;   /* the answer's server_max_window_bits; 0: it has none */
};

/*
 * Looks through the offers of one Sec-WebSocket-Extensions header (section 7.1) for the first that can be accepted by a
 * server whose connections have windows of `window_bits` (0: none). False if there is none: the connection goes on
 * without, since an offer that is not understood is declined and no error.
 */
bool deflate_negotiate(struct slice offers, uint8_t window_bits, struct deflate_agreement *agreement);

/* Appends the header line of the answer. */
void deflate_append_answer(struct buffer *headers, const struct deflate_agreement *agreement);

/* Buffers and streams for the messages of one worker; NULL if there is no memory. */
struct deflate_tools *deflate_tools_create(void);
void deflate_tools_destroy(struct deflate_tools *tools);

/* A connection's own window; NULL if there is no memory. It takes (4 << bits) and about as much for its tables. */
struct deflate_window *deflate_window_create(uint8_t bits);
void deflate_window_destroy(struct deflate_window *window);

/* Compresses a message, in `window` or, with NULL, alone. The result is valid until the tools are used again. False if
 * there is no memory; nothing has become part of the window then. */
bool deflate_message(struct deflate_tools *tools, struct deflate_window *window, struct slice message,
                     struct slice *compressed);

enum inflate_answer {
    INFLATE_OK,
    INFLATE_BAD,       /* no deflate data, or not all of it */
    INFLATE_TOO_LARGE, /* more than `max_bytes`; no more than these were ever held */
    INFLATE_NO_MEMORY,
};

/* Restores a message. `message` is valid until the tools are used again, and may be changed. */
enum inflate_answer inflate_message(struct deflate_tools *tools, struct slice compressed, size_t max_bytes,
                                    struct slice *message);
