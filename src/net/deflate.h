/*
 * Message compression: the server side of permessage-deflate (RFC 7692), its negotiation and the compression and
 * decompression of single messages. The connection's part is in net/websocket.h.
 *
 *   sending    without a window (no context takeover): each message is compressed alone, and one compressed form serves
 *              all connections
 *              with a window of the connection's own (context takeover): better compression, at the cost of memory for
 *              each connection
 *   receiving  always without context takeover (every answer has `client_no_context_takeover`), with the worker's
 *              tools, so that a connection needs no memory for it
 *
 * The tools belong to one worker; functions that take them are for its thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/slice.h"

#define DEFLATE_WINDOW_BITS_MIN 9 /* zlib cannot write raw streams with 8 */
#define DEFLATE_WINDOW_BITS_MAX 15

struct budget_app;
struct deflate_tools;
struct deflate_window;

struct deflate_agreement {
    uint8_t window_bits; /* size of the connection's own window; 0: no window */
    uint8_t told_bits;   /* server_max_window_bits of the answer; 0: the answer has none */
    bool no_context;     /* server_no_context_takeover: each message is compressed alone */
};

/*
 * Finds the first acceptable offer in a Sec-WebSocket-Extensions header (RFC 7692 section 7.1) for a server whose
 * connections have windows of `window_bits` (0: none). False if there is none: the connection then stays uncompressed,
 * since an offer that cannot be parsed is declined, not an error.
 */
bool deflate_negotiate(struct slice offers, uint8_t window_bits, struct deflate_agreement *agreement);

/* Appends the Sec-WebSocket-Extensions line of the answer. */
void deflate_append_answer(struct buffer *headers, const struct deflate_agreement *agreement);

/* Creates the buffers and zlib streams of one worker; NULL if there is no memory. */
struct deflate_tools *deflate_tools_create(void);
void deflate_tools_destroy(struct deflate_tools *tools);

/* Creates the connection's own window of an agreement with one, for an app (NULL: for none); NULL if there is no
 * memory, or no room for it in the account (base/budget.h). It takes 4 << `window_bits` bytes, and about as many for
 * its tables. */
struct deflate_window *deflate_window_create(uint8_t window_bits, bool no_context, struct budget_app *app);
void deflate_window_destroy(struct deflate_window *window);

/* Compresses a message in `window` (which is empty before each message if `no_context` was agreed), or alone with NULL.
 * The result is valid until the tools are used again. False if there is no memory; the window is then unchanged. */
bool deflate_message(struct deflate_tools *tools, struct deflate_window *window, struct slice message,
                     struct slice *compressed);

enum inflate_answer {
    INFLATE_OK,
    INFLATE_BAD,       /* invalid or incomplete deflate data */
    INFLATE_TOO_LARGE, /* more than `max_bytes`; decompression stops there */
    INFLATE_NO_MEMORY,
};

/* Decompresses a message. The bytes of `message` are valid until the tools are used again, and may be changed. */
enum inflate_answer inflate_message(struct deflate_tools *tools, struct slice compressed, size_t max_bytes,
                                    struct slice *message);
