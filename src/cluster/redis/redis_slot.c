#include "cluster/redis/redis_slot.h"

#include <string.h>

/* The CRC of each value of four bits. */
static const uint16_t crc_of_nibble[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                           0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};

uint16_t redis_crc16(struct slice text) {
    uint16_t crc = 0;

    for (size_t i = 0; i < text.length; i++) {
        unsigned byte = (unsigned char)text.data[i];

        crc = (uint16_t)(crc << 4) ^ crc_of_nibble[(crc >> 12) ^ (byte >> 4)];
        crc = (uint16_t)(crc << 4) ^ crc_of_nibble[(crc >> 12) ^ (byte & 15)];
    }
    return crc;
}

uint16_t redis_slot_of(struct slice name) {
    const char *open = name.length > 0 ? memchr(name.data, '{', name.length) : NULL;

    if (open != NULL) {
        struct slice rest = slice_skip(name, (size_t)(open + 1 - name.data));
        const char *end = rest.length > 0 ? memchr(rest.data, '}', rest.length) : NULL;

        if (end != NULL && end != rest.data)
            name = (struct slice){rest.data, (size_t)(end - rest.data)};
    }
    return redis_crc16(name) % REDIS_SLOTS;
}
