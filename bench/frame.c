#include "frame.h"

#include <assert.h>

size_t frame_write(char *room, uint8_t first, struct slice payload) {
    /* Random masks protect proxies from scripts in browsers (section 10.3); a load generator can use a fixed one. */
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t *out = (uint8_t *)room;

    assert(payload.length <= FRAME_WRITE_MAX);
    *out++ = first;
    if (payload.length < 126) {
        *out++ = (uint8_t)(0x80 | payload.length);
    } else {
        *out++ = 0x80 | 126;
        *out++ = (uint8_t)(payload.length >> 8);
        *out++ = (uint8_t)payload.length;
    }
    memcpy(out, mask, sizeof mask);
    out += sizeof mask;
    for (size_t i = 0; i < payload.length; i++)
        *out++ = (uint8_t)payload.data[i] ^ mask[i & 3];
    return (size_t)((char *)out - room);
}
