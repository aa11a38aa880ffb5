/*
 * usage: delta_pairs fossil|xdelta3 [ROUNDS]
 *
 * Reads pairs of texts from standard input and writes the delta of each pair to standard output: for tests and
 * measurements in other languages. A pair is the length of the base, the length of the target and the limit, each as 4
 * bytes with the low byte first, and then the two texts. An answer is the length of the delta (0: no delta below the
 * limit), the nanoseconds that one encoding took (0 without ROUNDS), and the delta. With ROUNDS every pair is encoded
 * so many times, and the fastest counts.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "channel/delta/fossil.h"
#include "channel/delta/vcdiff.h"

typedef bool (*encode_function)(struct slice base, struct slice target, size_t limit, struct buffer *out,
                                struct delta_match_work *work);

static void write_all(const void *data, size_t length) {
    if (length != 0 && fwrite(data, 1, length, stdout) != length) {
        perror("delta_pairs: writing");
        exit(1);
    }
}

static void read_all(void *data, size_t length) {
    if (length != 0 && fread(data, 1, length, stdin) != length) {
        fputs("delta_pairs: the input ends within a pair\n", stderr);
        exit(1);
    }
}

static void answer_pair(encode_function encode, const uint32_t sizes[3], unsigned long rounds) {
    char *texts = alloc(sizes[0] + (size_t)sizes[1] + 1);
    struct slice base = {texts, sizes[0]}, target = {texts + sizes[0], sizes[1]};
    struct buffer delta = {0};
    uint64_t best = UINT64_MAX;
    uint32_t head[2];

    read_all(texts, sizes[0] + (size_t)sizes[1]);
    for (unsigned long round = 0; round < rounds || round == 0; round++) {
        uint64_t start = clock_monotonic_ns(), took;
        delta.length = 0;
        encode(base, target, sizes[2], &delta, NULL);
        took = clock_monotonic_ns() - start;
        best = took < best ? took : best;
    }
    head[0] = (uint32_t)delta.length;
    head[1] = rounds != 0 ? (uint32_t)best : 0;
    write_all(head, sizeof head);
    write_all(delta.data, delta.length);
    buffer_dispose(&delta);
    free(texts);
}

int main(int count, char **arguments) {
    encode_function encode = NULL;
    uint32_t sizes[3];

    if (count >= 2 && strcmp(arguments[1], "fossil") == 0)
        encode = fossil_encode;
    if (count >= 2 && strcmp(arguments[1], "xdelta3") == 0)
        encode = vcdiff_encode;
    if (encode == NULL) {
        fputs("usage: delta_pairs fossil|xdelta3 [ROUNDS]\n", stderr);
        return 2;
    }
    while (fread(sizes, sizeof sizes, 1, stdin) == 1)
        answer_pair(encode, sizes, count >= 3 ? strtoul(arguments[2], NULL, 10) : 0);
    return 0;
}
