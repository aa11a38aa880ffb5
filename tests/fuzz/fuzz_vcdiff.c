/*
 * VCDIFF deltas of two texts from any bytes; delta_fuzz.h has the form of the input and what is checked.
 */
#include <stdint.h>

#include "channel/delta/vcdiff.h"
#include "delta_fuzz.h"
#include "vcdiff_decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return delta_fuzz_check(data, size, vcdiff_encode, vcdiff_decode);
}
