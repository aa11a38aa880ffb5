#include "channel/socket_id.h"

#include "base/crypto.h"

/* Random words of this thread that no id has yet: a system call for each id costs more than all else here. */
#define STOCK_WORDS 64

static _Thread_local struct {
    uint64_t words[STOCK_WORDS];
    unsigned left;
} stock;

static uint64_t draw_word(void) {
    if (stock.left == 0) {
        random_bytes(stock.words, sizeof stock.words);
        stock.left = STOCK_WORDS;
    }
    return stock.words[--stock.left];
}

struct socket_id socket_id_draw(void) {
    return (struct socket_id){draw_word() >> 11, draw_word() >> 11};
}

size_t socket_id_format(const struct socket_id *id, char text[SOCKET_ID_TEXT]) {
    char digits[NUMBER_DIGITS];
    struct slice first = slice_of_number(id->first, digits), second;
    char *at = mempcpy(text, first.data, first.length);

    *at++ = '.';
    second = slice_of_number(id->second, digits);
    at = mempcpy(at, second.data, second.length);
    *at = '\0';
    return (size_t)(at - text);
}

bool socket_id_parse(struct slice text, struct socket_id *id) {
    const char *dot = memchr(text.data != NULL ? text.data : "", '.', text.length);
    unsigned long long first, second;
    size_t length;

    if (dot == NULL)
        return false;
    length = (size_t)(dot - text.data);
    if (!slice_to_number((struct slice){text.data, length}, UINT64_MAX, &first) ||
        !slice_to_number(slice_skip(text, length + 1), UINT64_MAX, &second))
        return false;
    *id = (struct socket_id){first, second};
    return true;
}
