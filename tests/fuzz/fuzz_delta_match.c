/*
 * The matcher of two texts with an index of few places: copies are in order, inside the texts, and right. The first
 * byte of the input bounds the index, the second one chooses the other settings; the rest is the input of
 * fuzz_fossil.c.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "channel/delta/delta_match.h"
#include "delta_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_copy(struct slice base, struct slice target, const struct delta_copy *copy) {
    MUST(copy->length != 0 && copy->target <= target.length && copy->length <= target.length - copy->target);
    if (copy->from < base.length) {
        MUST(copy->length <= base.length - copy->from);
        MUST(memcmp(base.data + copy->from, target.data + copy->target, copy->length) == 0);
    } else {
        MUST(copy->from - base.length < copy->target);
        MUST(memcmp(target.data + (copy->from - base.length), target.data + copy->target, copy->length) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct delta_match_settings settings;
    struct delta_copies copies;
    struct delta_fuzz_pair pair;
    uint32_t end = 0;

    if (size < 2 || !delta_fuzz_parse(data + 2, size - 2, &pair))
        return 0;
    settings = (struct delta_match_settings){
        .shortest = 4 + data[1] % 5, .from_target = data[1] >= 128, .limit = pair.limit, .max_places = data[0]};
    if (delta_match(buffer_slice(&pair.base), buffer_slice(&pair.target), &settings, &copies, NULL)) {
        for (size_t i = 0; i < copies.count; i++) {
            MUST(copies.list[i].target >= end);
            check_copy(buffer_slice(&pair.base), buffer_slice(&pair.target), copies.list + i);
            end = copies.list[i].target + copies.list[i].length;
        }
    } else {
        MUST(pair.limit != SIZE_MAX / 2);
    }
    delta_copies_dispose(&copies);
    delta_fuzz_dispose(&pair);
    return 0;
}
