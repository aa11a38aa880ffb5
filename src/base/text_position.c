#include "base/text_position.h"

#include "base/utf8.h"

struct text_position text_position_of(struct slice text, const char *at) {
    struct text_position position = {1, 1};

    for (const char *c = text.data; c < at; c++) {
        if (*c == '\n')
            position = (struct text_position){position.line + 1, 1};
        else if (((unsigned char)*c & 0xc0) != 0x80) /* not a later byte of a character */
            position.column++;
    }
    return position;
}

const char *text_find_malformed(struct slice text) {
    if (utf8_valid(text))
        return NULL;
    while (text.length > 0) {
        size_t length = 1;

        while (length <= 4 && (length > text.length || !utf8_valid((struct slice){text.data, length})))
            length++;
        if (length > 4)
            break;
        text = slice_skip(text, length);
    }
    return text.data;
}
