/*
 * WebSocket frames as bytes (RFC 6455 section 5): parsing and writing headers, masks, the accept key of the handshake.
 * Pure functions for any thread; the connection's part is in net/websocket.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0x0,
    WEBSOCKET_TEXT = 0x1,
    WEBSOCKET_BINARY = 0x2,
    WEBSOCKET_CLOSE = 0x8,
    WEBSOCKET_PING = 0x9,
    WEBSOCKET_PONG = 0xA,
};

/* The longest header that a server writes: two bytes and a 64-bit length. */
#define WEBSOCKET_HEADER_MAX 10

struct websocket_frame {
    enum websocket_opcode opcode;
    bool fin;
    bool compressed; /* RSV1 (RFC 7692 section 6): the message is compressed */
    uint64_t length; /* length of the payload in bytes, from the header */
    uint8_t mask[4];
    size_t header_length; /* bytes before the payload: 6, 8 or 14 */
};

enum websocket_parse {
    WEBSOCKET_FRAME_READY,      /* the header is complete; the payload may not be */
    WEBSOCKET_FRAME_INCOMPLETE, /* more bytes are needed for the header */
    WEBSOCKET_FRAME_BAD,        /* close with 1002; `why` says what was wrong */
};

/*
 * Parses the header of a frame from a client. Refuses reserved bits (except RSV1 in the first frame of a message if
 * `compression` was negotiated), unknown opcodes, frames without a mask, control frames that are fragmented or longer
 * than 125 bytes, and lengths that are not in their shortest form or have the top bit set.
 */
enum websocket_parse websocket_frame_parse(const uint8_t *data, size_t length, bool compression,
                                           struct websocket_frame *frame, const char **why);

/* Applies the mask in place (section 5.3) to a piece of a payload. `offset` is the number of payload bytes before it.
 */
void websocket_unmask(uint8_t *piece, size_t length, const uint8_t mask[4], size_t offset);

/* RSV1 in the first byte of a header: the message is compressed. */
#define WEBSOCKET_COMPRESSED 0x40

/* Writes the header of a final, unmasked frame into `header` and returns its length: 2, 4 or 10. */
size_t websocket_header_write(uint8_t header[WEBSOCKET_HEADER_MAX], enum websocket_opcode opcode, uint64_t length);

/* Reads a header that websocket_header_write wrote: returns its length and sets `*length` to the payload's. */
size_t websocket_header_read(const uint8_t *header, uint64_t *length);

/* True if a client may send `code` in a close frame (section 7.4). */
bool websocket_close_code_valid(unsigned code);

/* Computes Sec-WebSocket-Accept from Sec-WebSocket-Key (section 4.2.2); false if the key is not 16 bytes in base64. */
bool websocket_accept_key(struct slice key, char accept[28]);
