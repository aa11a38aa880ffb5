/*
 * WebSocket frames of a client (RFC 6455 section 5.2): reads the server's unmasked frames and writes masked ones.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

#define FRAME_TEXT 0x81 /* a whole text message in one frame */
#define FRAME_COMPRESSED_TEXT 0xc1
#define FRAME_CLOSE 0x88
#define FRAME_PING 0x89
#define FRAME_PONG 0x8a

struct frame {
    uint8_t first; /* FIN, reserved bits and opcode */
    struct slice payload;
};

/* Parses the frame at the start of `data`; returns its length, 0 if it is incomplete, SIZE_MAX if it is masked. */
static inline size_t frame_parse(const char *data, size_t length, struct frame *frame) {
    const uint8_t *bytes = (const uint8_t *)data;
    uint64_t payload;
    size_t header = 2;

    if (length < 2)
        return 0;
    frame->first = bytes[0];
    payload = bytes[1];
    if (payload == 126) {
        header = 4;
        if (length < header)
            return 0;
        payload = (uint64_t)bytes[2] << 8 | bytes[3];
    } else if (payload == 127) {
        header = 10;
        if (length < header)
            return 0;
        memcpy(&payload, bytes + 2, 8);
        payload = __builtin_bswap64(payload);
    } else if (payload > 127) {
        return SIZE_MAX;
    }
    frame->payload = (struct slice){data + header, (size_t)payload};
    return payload > length - header ? 0 : header + (size_t)payload;
}

/* Longest payload that frame_write accepts, and the size of the buffer for its frame. */
#define FRAME_WRITE_MAX 1024
#define FRAME_WRITE_ROOM (FRAME_WRITE_MAX + 8)

/* Writes a masked frame into `room`, of FRAME_WRITE_ROOM bytes, and returns its length. */
size_t frame_write(char *room, uint8_t first, struct slice payload);
