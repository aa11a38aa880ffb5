#include "channel/socket_id.h"

#include <stdio.h>

#include "base/crypto.h"

struct socket_id socket_id_draw(void) {
    uint64_t words[2];

    random_bytes(words, sizeof words);
    return (struct socket_id){words[0] >> 11, words[1] >> 11};
}

size_t socket_id_format(const struct socket_id *id, char text[SOCKET_ID_TEXT]) {
    return (size_t)snprintf(text, SOCKET_ID_TEXT, "%llu.%llu", (unsigned long long)id->first,
                            (unsigned long long)id->second);
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
