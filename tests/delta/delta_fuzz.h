/* Pairs of texts for the fuzz targets of the delta encoders. */
#pragma once

#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "channel/delta/delta_match.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

struct delta_fuzz_pair {
    struct buffer base, target;
    size_t limit; /* SIZE_MAX / 2: none */
};

/* Makes a pair of an input: 2 bytes for the length of the base, a byte that says how often each text is repeated (up to
 * 64 times each), a byte for the limit (0: none), and the texts. False if it is too short. */
static inline bool delta_fuzz_parse(const uint8_t *data, size_t size, struct delta_fuzz_pair *pair) {
    size_t base, repeat;

    *pair = (struct delta_fuzz_pair){0};
    if (size < 4)
        return false;
    base = (size_t)(data[0] | data[1] << 8) % (size - 3);
    pair->limit = data[3] == 0 ? SIZE_MAX / 2 : (size_t)data[3] * 16;
    repeat = data[2];
    data += 4;
    size -= 4;
    for (size_t i = 0; i < (size_t)1 << repeat % 8 % 7; i++)
        buffer_append_bytes(&pair->base, data, base);
    for (size_t i = 0; i < (size_t)1 << repeat / 8 % 8 % 7; i++)
        buffer_append_bytes(&pair->target, data + base, size - base);
    if (repeat >= 128) /* most of the target is like the base */
        buffer_append(&pair->target, buffer_slice(&pair->base));
    return true;
}

static inline void delta_fuzz_dispose(struct delta_fuzz_pair *pair) {
    buffer_dispose(&pair->base);
    buffer_dispose(&pair->target);
}

typedef bool delta_fuzz_encoder(struct slice base, struct slice target, size_t limit, struct buffer *out,
                                struct delta_match_work *work);
typedef const char *delta_fuzz_decoder(struct slice base, struct slice delta, struct buffer *target);

/* Of a pair: the decoder makes the target of the base and the delta, and any bytes as a delta do it no harm. */
static inline int delta_fuzz_check(const uint8_t *data, size_t size, delta_fuzz_encoder *encode,
                                   delta_fuzz_decoder *decode) {
    struct delta_fuzz_pair pair;
    struct buffer delta = {0}, decoded = {0};

    if (!delta_fuzz_parse(data, size, &pair))
        return 0;
    if (encode(buffer_slice(&pair.base), buffer_slice(&pair.target), pair.limit, &delta, NULL)) {
        MUST(delta.length < pair.limit);
        MUST(decode(buffer_slice(&pair.base), buffer_slice(&delta), &decoded) == NULL);
        MUST(slice_equal(buffer_slice(&decoded), buffer_slice(&pair.target)));
    } else {
        MUST(delta.length == 0 && pair.limit != SIZE_MAX / 2);
    }
    decoded.length = 0;
    decode(buffer_slice(&pair.base), buffer_slice(&pair.target), &decoded);
    delta_fuzz_dispose(&pair);
    buffer_dispose(&delta);
    buffer_dispose(&decoded);
    return 0;
}
