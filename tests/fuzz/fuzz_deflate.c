/*
 * Any bytes as the offers of a handshake, as a compressed message, and as a message to compress: an accepted parameter
 * was offered, decompressed messages are within their limit, and compressed messages decompress to the original.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/deflate.h"

#define MOST_BYTES 100000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool truth) {
    if (!truth)
        abort();
}

static void check_offers(struct slice offers) {
    for (uint8_t bits = 0; bits <= DEFLATE_WINDOW_BITS_MAX; bits = bits == 0 ? DEFLATE_WINDOW_BITS_MIN : bits + 1) {
        struct deflate_agreement agreement = {0xFF, 0xFF};
        struct buffer answer = {0};
        if (!deflate_negotiate(offers, bits, &agreement))
            continue;
        check(agreement.window_bits == 0 ||
              (agreement.window_bits >= DEFLATE_WINDOW_BITS_MIN && agreement.window_bits <= bits));
        check(agreement.told_bits <= DEFLATE_WINDOW_BITS_MAX);
        deflate_append_answer(&answer, &agreement);
        check(slice_ends_with(buffer_slice(&answer), SLICE("\r\n")));
        buffer_dispose(&answer);
    }
}

static void check_there_and_back(struct deflate_tools *tools, struct slice message) {
    struct slice compressed, back;

    check(deflate_message(tools, NULL, message, &compressed));
    check(inflate_message(tools, compressed, message.length, &back) == INFLATE_OK);
    check(slice_equal(back, message));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct deflate_tools *tools;
    char *copy = malloc(size != 0 ? size : 1); /* exact size, so that AddressSanitizer detects a read past its end */
    struct slice input = {copy, size}, message;

    check(copy != NULL);
    if (size != 0)
        memcpy(copy, data, size);
    if (tools == NULL)
        tools = deflate_tools_create();
    check(tools != NULL);
    check_offers(input);
    switch (inflate_message(tools, input, MOST_BYTES, &message)) {
    case INFLATE_OK:
        check(message.length <= MOST_BYTES);
        break;
    case INFLATE_TOO_LARGE:
        check(message.length == MOST_BYTES + 1);
        break;
    case INFLATE_BAD:
        break;
    case INFLATE_NO_MEMORY:
        check(false);
        break;
    }
    check_there_and_back(tools, input);
    free(copy);
    return 0;
}
