#include "cli/safe_text.h"

#include <stdint.h>

/* The unsafe character at the start of the text and its length in bytes; 0 if it is safe. */
static uint32_t unsafe_character(struct slice text, size_t *length) {
    const uint8_t *bytes = (const uint8_t *)text.data;
    uint32_t point;

    *length = 1;
    if (bytes[0] < ' ' || bytes[0] == 0x7F)
        return bytes[0] == 0 ? UINT32_MAX : bytes[0];
    if (bytes[0] == 0xC2 && text.length >= 2 && bytes[1] < 0xA0) { /* U+0080 to U+009F */
        *length = 2;
        return bytes[1];
    }
    if (bytes[0] != 0xE2 || text.length < 3)
        return 0;
    point = 0x2000u | (uint32_t)(bytes[1] & 0x3F) << 6 | (bytes[2] & 0x3F);
    *length = 3;
    if (point == 0x200E || point == 0x200F || (point >= 0x2028 && point <= 0x202E) ||
        (point >= 0x2066 && point <= 0x2069))
        return point;
    return 0;
}

static void append_safely(struct buffer *buffer, struct slice text, bool json) {
    while (text.length != 0) {
        size_t length;
        uint32_t point = unsafe_character(text, &length);

        if (point == 0)
            buffer_append_byte(buffer, text.data[0]);
        else if (json && length == 1 && point != 0x7F)
            buffer_append_byte(buffer, ' ');
        else
            buffer_appendf(buffer, "\\u%04x", point == UINT32_MAX ? 0 : point);
        text = slice_skip(text, point == 0 ? 1 : length);
    }
}

void safe_text_append(struct buffer *buffer, struct slice text) {
    append_safely(buffer, text, false);
}

void safe_text_append_json(struct buffer *buffer, struct slice json) {
    append_safely(buffer, json, true);
}
