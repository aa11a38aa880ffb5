#include "channel/delta/fossil.h"

#include <stdint.h>

/* A copy costs at least four bytes, and five with the usual offset. */
#define SHORTEST_COPY 6

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

static inline size_t digits_of(uint32_t number) {
    return number < 64 ? 1 : (37 - (size_t)__builtin_clz(number)) / 6;
}

static inline size_t literal_cost(uint32_t length) {
    return length == 0 ? 0 : digits_of(length) + 1 + length;
}

static inline size_t copy_cost(const struct delta_copy *copy) {
    return digits_of(copy->length) + digits_of(copy->from) + 2;
}

/* The sum of the target's 32-bit words, high byte first, the last one filled up with zeros. */
static uint32_t fossil_checksum(struct slice target) {
    uint32_t sum = 0, word = 0;
    size_t at = 0;

    for (; target.length - at >= sizeof word; at += sizeof word) {
        memcpy(&word, target.data + at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        word = __builtin_bswap32(word);
#endif
        sum += word;
    }
    for (unsigned shift = 24; at < target.length; at++, shift -= 8)
        sum += (uint32_t)(unsigned char)target.data[at] << shift;
    return sum;
}

/* Keeps the copies that save bytes, and returns the bytes of all commands. */
static size_t keep_fossil_copies(struct delta_copies *copies, size_t target_length) {
    size_t kept = 0, cost = 0;
    uint32_t end = 0;

    for (size_t i = 0; i < copies->count; i++) {
        struct delta_copy copy = copies->list[i];
        uint32_t next = i + 1 < copies->count ? copies->list[i + 1].target : (uint32_t)target_length;
        size_t before = literal_cost(copy.target - end), after = literal_cost(next - copy.target - copy.length);
        if (before + copy_cost(&copy) + after >= literal_cost(next - end))
            continue;
        cost += before + copy_cost(&copy);
        end = copy.target + copy.length;
        copies->list[kept++] = copy;
    }
    copies->count = kept;
    return cost + literal_cost((uint32_t)target_length - end);
}

static void append_base64_number(struct buffer *out, uint32_t number, char after) {
    size_t count = digits_of(number);

    for (size_t i = count; i-- > 0; number >>= 6)
        out->data[out->length + i] = digits[number & 63];
    out->data[out->length + count] = after;
    out->length += count + 1;
}

/* Appends the bytes of the target from `start` to `end`. */
static void append_literal(struct buffer *out, struct slice target, uint32_t start, uint32_t end) {
    if (start == end)
        return;
    append_base64_number(out, end - start, ':');
    memcpy(out->data + out->length, target.data + start, end - start);
    out->length += end - start;
}

bool fossil_encode(struct slice base, struct slice target, size_t limit, struct buffer *out,
                   struct delta_match_work *work) {
    struct delta_match_settings settings = {.shortest = SHORTEST_COPY, .limit = limit};
    struct delta_copies copies;
    bool good = delta_match(base, target, &settings, &copies, work);

    if (good) {
        uint32_t length = (uint32_t)target.length, sum = fossil_checksum(target), end = 0;
        size_t size = digits_of(length) + 1 + keep_fossil_copies(&copies, length) + digits_of(sum) + 1;
        good = size < limit && buffer_try_reserve(out, size);
        if (good) {
            append_base64_number(out, length, '\n');
            for (const struct delta_copy *copy = copies.list; copy < copies.list + copies.count; copy++) {
                append_literal(out, target, end, copy->target);
                append_base64_number(out, copy->length, '@');
                append_base64_number(out, copy->from, ',');
                end = copy->target + copy->length;
            }
            append_literal(out, target, end, length);
            append_base64_number(out, sum, ';');
        }
    }
    delta_copies_dispose(&copies);
    return good;
}
