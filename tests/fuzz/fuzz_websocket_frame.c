/*
 * Any bytes as the start of a client's frame. The result must not depend on the pieces in which the bytes arrive, and
 * writing a parsed header must give the same bytes again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/websocket_frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

static bool compression; /* compression was negotiated */

/* Parses a copy of exact size, so that AddressSanitizer detects a read past its end. */
static enum websocket_parse parse(const uint8_t *data, size_t size, struct websocket_frame *frame) {
    uint8_t *copy = malloc(size != 0 ? size : 1);
    const char *why = NULL;
    enum websocket_parse result;

    check(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    result = websocket_frame_parse(copy, size, compression, frame, &why);
    check((result == WEBSOCKET_FRAME_BAD) == (why != NULL));
    free(copy);
    return result;
}

/* Checks that further bytes do not change a result, and that a header is complete at exactly its length. */
static void check_arrival(const uint8_t *data, size_t size, enum websocket_parse whole, size_t header_length) {
    struct websocket_frame frame;
    bool answered = false;

    for (size_t length = 0; length <= size && length <= 16; length++) {
        enum websocket_parse part = parse(data, length, &frame);
        check(!answered || part == whole);
        answered = part != WEBSOCKET_FRAME_INCOMPLETE;
        if (whole == WEBSOCKET_FRAME_READY)
            check((part == WEBSOCKET_FRAME_READY) == (length >= header_length));
    }
}

static void check_header(const uint8_t *data, const struct websocket_frame *frame) {
    uint8_t header[WEBSOCKET_HEADER_MAX];
    size_t written = websocket_header_write(header, frame->opcode, frame->length);

    check(frame->length <= INT64_MAX);
    check(written + 4 == frame->header_length);
    check((header[0] | (frame->compressed ? WEBSOCKET_COMPRESSED : 0)) == (data[0] | 0x80));
    check(!frame->compressed ||
          (compression && (frame->opcode == WEBSOCKET_TEXT || frame->opcode == WEBSOCKET_BINARY)));
    check((header[1] | 0x80) == data[1]);
    check(memcmp(header + 2, data + 2, written - 2) == 0);
    check(memcmp(frame->mask, data + written, 4) == 0);
    check(frame->fin == (data[0] >> 7 != 0));
    if (frame->opcode >= WEBSOCKET_CLOSE)
        check(frame->fin && frame->length <= 125);
}

static void check_mask(const uint8_t *payload, size_t size, const uint8_t mask[4]) {
    uint8_t *copy = malloc(size + 16);

    check(copy != NULL);
    for (size_t offset = 0; offset < 16; offset += 5) {
        if (size != 0)
            memcpy(copy + offset, payload, size);
        websocket_unmask(copy + offset, size, mask, 0);
        for (size_t i = 0; i < size; i++)
            check(copy[offset + i] == (payload[i] ^ mask[i % 4]));
        websocket_unmask(copy + offset, size / 3, mask, 0);
        websocket_unmask(copy + offset + size / 3, size - size / 3, mask, size / 3);
        check(size == 0 || memcmp(copy + offset, payload, size) == 0);
    }
    free(copy);
}

static void check_frame(const uint8_t *data, size_t size) {
    struct websocket_frame frame = {0};
    enum websocket_parse whole = parse(data, size, &frame);

    check_arrival(data, size, whole, frame.header_length);
    if (whole == WEBSOCKET_FRAME_READY) {
        check_header(data, &frame);
        check_mask(data + frame.header_length, size - frame.header_length, frame.mask);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char accept[28];

    compression = false;
    check_frame(data, size);
    compression = true;
    check_frame(data, size);
    if (websocket_accept_key((struct slice){(const char *)data, size}, accept))
        check(size == 24 && accept[27] == '=' && memchr(accept, '\0', sizeof accept) == NULL);
    return 0;
}
