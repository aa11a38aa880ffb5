/*
 * Two texts from any bytes: the decoder of the tests makes the target of the base and the delta, and any bytes as a
 * delta do it no harm. The input is the length of the base, how often each text is repeated, and the texts.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "channel/delta/fossil.h"
#include "delta_fuzz.h"
#include "fossil_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct delta_fuzz_pair pair;
    struct buffer delta = {0}, decoded = {0};

    if (!delta_fuzz_parse(data, size, &pair))
        return 0;
    if (fossil_encode(buffer_slice(&pair.base), buffer_slice(&pair.target), pair.limit, &delta, NULL)) {
        MUST(delta.length < pair.limit);
        MUST(fossil_decode(buffer_slice(&pair.base), buffer_slice(&delta), &decoded) == NULL);
        MUST(slice_equal(buffer_slice(&decoded), buffer_slice(&pair.target)));
    } else {
        MUST(delta.length == 0 && pair.limit != SIZE_MAX / 2);
    }
    decoded.length = 0;
    fossil_decode(buffer_slice(&pair.base), buffer_slice(&pair.target), &decoded);
    delta_fuzz_dispose(&pair);
    buffer_dispose(&delta);
    buffer_dispose(&decoded);
    return 0;
}
