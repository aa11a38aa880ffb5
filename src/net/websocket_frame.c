#include "net/websocket_frame.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/crypto.h"

#define ACCEPT_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455 section 1.3 */

static enum websocket_parse bad_frame(const char **why, const char *reason) {
    *why = reason;
    return WEBSOCKET_FRAME_BAD;
}

static uint64_t read_big_endian(const uint8_t *data, size_t length) {
    uint64_t number = 0;

    for (size_t i = 0; i < length; i++)
        number = number << 8 | data[i];
    return number;
}

static bool opcode_known(uint8_t opcode) {
    return opcode <= WEBSOCKET_BINARY || (opcode >= WEBSOCKET_CLOSE && opcode <= WEBSOCKET_PONG);
}

enum websocket_parse websocket_frame_parse(const uint8_t *data, size_t length, bool compression,
                                           struct websocket_frame *frame, const char **why) {
    size_t length_bytes;

    if (length < 2)
        return WEBSOCKET_FRAME_INCOMPLETE;
    if ((data[0] & 0x30) != 0)
        return bad_frame(why, "a reserved bit is set");
    if (!opcode_known(data[0] & 0x0F))
        return bad_frame(why, "unknown opcode");
    frame->compressed = (data[0] & WEBSOCKET_COMPRESSED) != 0;
    if (frame->compressed &&
        (!compression || ((data[0] & 0x0F) != WEBSOCKET_TEXT && (data[0] & 0x0F) != WEBSOCKET_BINARY)))
        return bad_frame(why, "a reserved bit is set");
    if ((data[1] & 0x80) == 0)
        return bad_frame(why, "a frame without a mask");
    frame->fin = (data[0] & 0x80) != 0;
    frame->opcode = (enum websocket_opcode)(data[0] & 0x0F);
    frame->length = data[1] & 0x7F;
    if (frame->opcode >= WEBSOCKET_CLOSE && !frame->fin)
        return bad_frame(why, "a fragmented control frame");
    if (frame->opcode >= WEBSOCKET_CLOSE && frame->length > 125)
        return bad_frame(why, "a control frame of more than 125 bytes");
    length_bytes = frame->length == 126 ? 2 : frame->length == 127 ? 8 : 0;
    frame->header_length = 2 + length_bytes + sizeof frame->mask;
    if (length < frame->header_length)
        return WEBSOCKET_FRAME_INCOMPLETE;
    if (length_bytes != 0) {
        frame->length = read_big_endian(data + 2, length_bytes);
        if (frame->length >> 63 != 0)
            return bad_frame(why, "a frame length with its top bit set");
        if (frame->length < (length_bytes == 2 ? 126u : 65536u))
            return bad_frame(why, "a frame length that is not in its shortest form");
    }
    memcpy(frame->mask, data + 2 + length_bytes, sizeof frame->mask);
    return WEBSOCKET_FRAME_READY;
}

void websocket_unmask(uint8_t *piece, size_t length, const uint8_t mask[4], size_t offset) {
    uint8_t turned[4];
    uint32_t mask4;
    uint64_t mask8;
    size_t at = 0;

    for (size_t i = 0; i < sizeof turned; i++)
        turned[i] = mask[(offset + i) % 4];
    memcpy(&mask4, turned, sizeof mask4);
    mask8 = (uint64_t)mask4 << 32 | mask4;
#ifdef __SSE2__
    for (__m128i mask16 = _mm_set1_epi32((int)mask4); length - at >= 16; at += 16) {
        __m128i *block = (__m128i *)(void *)(piece + at);
        _mm_storeu_si128(block, _mm_xor_si128(_mm_loadu_si128(block), mask16));
    }
#endif
    for (; length - at >= 8; at += 8) {
        uint64_t block;
        memcpy(&block, piece + at, sizeof block);
        block ^= mask8;
        memcpy(piece + at, &block, sizeof block);
    }
    for (; at < length; at++)
        piece[at] ^= turned[at % 4];
}

size_t websocket_header_write(uint8_t header[WEBSOCKET_HEADER_MAX], enum websocket_opcode opcode, uint64_t length) {
    size_t length_bytes = length < 126 ? 0 : length < 65536 ? 2 : 8;

    header[0] = (uint8_t)(0x80 | opcode);
    header[1] = (uint8_t)(length_bytes == 0 ? length : length_bytes == 2 ? 126 : 127);
    for (size_t i = 0; i < length_bytes; i++)
        header[2 + i] = (uint8_t)(length >> 8 * (length_bytes - 1 - i));
    return 2 + length_bytes;
}

size_t websocket_header_read(const uint8_t *header, uint64_t *length) {
    size_t length_bytes = header[1] < 126 ? 0 : header[1] == 126 ? 2 : 8;

    *length = length_bytes == 0 ? header[1] : read_big_endian(header + 2, length_bytes);
    return 2 + length_bytes;
}

bool websocket_close_code_valid(unsigned code) {
    /* 1004 to 1006 and 1015 must not be sent; 1012 to 1014 are in IANA's registry; 3000 to 4999 are for applications.
     */
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static bool is_base64(char byte) {
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
           byte == '+' || byte == '/';
}

bool websocket_accept_key(struct slice key, char accept[28]) {
    char text[24 + sizeof ACCEPT_GUID - 1];

    if (key.length != 24 || !slice_ends_with(key, SLICE("==")))
        return false;
    for (size_t i = 0; i < 22; i++)
        if (!is_base64(key.data[i]))
            return false;
    memcpy(text, key.data, 24);
    memcpy(text + 24, ACCEPT_GUID, sizeof ACCEPT_GUID - 1);
    sha1_base64((struct slice){text, sizeof text}, accept);
    return true;
}
