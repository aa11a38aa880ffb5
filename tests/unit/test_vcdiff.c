#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "channel/delta/vcdiff.h"
#include "delta_cases.h"
#include "harness.h"
#include "vcdiff_decoder.h"

#define NO_LIMIT SIZE_MAX / 2

/* Encodes, checks with the decoder that the target comes out, and returns the size. */
static size_t round_trip(struct slice base, struct slice target) {
    struct buffer delta = {0}, decoded = {0};
    const char *fault;
    size_t size;

    assert_true(vcdiff_encode(base, target, NO_LIMIT, &delta, NULL));
    fault = vcdiff_decode(base, buffer_slice(&delta), &decoded);
    if (fault != NULL)
        fail_msg("%s", fault);
    assert_true(slice_equal(buffer_slice(&decoded), target));
    size = delta.length;
    buffer_dispose(&delta);
    buffer_dispose(&decoded);
    return size;
}

static void assert_delta(struct slice base, struct slice target, struct slice expected) {
    struct buffer delta = {0};

    assert_true(vcdiff_encode(base, target, NO_LIMIT, &delta, NULL));
    assert_int_equal(delta.length, expected.length);
    assert_memory_equal(delta.data, expected.data, expected.length);
    buffer_dispose(&delta);
    round_trip(base, target);
}

/* The delta of the command xdelta3 -n -A -S none. */
static void a_changed_digit_is_one_copy_and_one_add(void **state) {
    (void)state;
    assert_delta(SLICE("{\"event\":\"e\",\"channel\":\"small\",\"data\":\"x1\"}"),
                 SLICE("{\"event\":\"e\",\"channel\":\"small\",\"data\":\"x2\"}"),
                 SLICE("\xd6\xc3\xc4\0\0\x01\x28\0\x0c\x2b\0\x03\x03\x01\x32\x22\x7d\x13\x28\x04\0"));
}

static void empty_and_equal_texts_have_deltas(void **state) {
    (void)state;
    round_trip(SLICE(""), SLICE(""));
    round_trip((struct slice){0}, (struct slice){0});
    round_trip(SLICE("anything"), SLICE(""));
    assert_delta(SLICE(""), SLICE("ab"), SLICE("\xd6\xc3\xc4\0\0\0\x08\x02\0\x02\x01\0ab\x03"));
    assert_delta(SLICE("abcde"), SLICE("abcde"), SLICE("\xd6\xc3\xc4\0\0\x01\x05\0\x07\x05\0\0\x01\x01\x15\0"));
}

/* Without a base, with a copy that overlaps itself: one ADD and one COPY. */
static void repeated_bytes_are_copied_from_the_target(void **state) {
    char all_equal[1000];

    (void)state;
    memset(all_equal, 'a', sizeof all_equal);
    assert_in_range(round_trip(SLICE(""), (struct slice){all_equal, sizeof all_equal}), 15, 20);
}

static unsigned next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*seed >> 33);
}

/* Pieces of 4 to 7 bytes from everywhere with literals of 0 to 5 between them: every opcode that joins an ADD and a
 * COPY, with addresses in every mode. */
static void all_opcodes_and_address_modes_decode(void **state) {
    uint64_t seed = 5;
    char base[3000];

    (void)state;
    for (size_t i = 0; i < sizeof base; i++)
        base[i] = (char)next_random(&seed);
    for (unsigned round = 0; round < 300; round++) {
        struct buffer target = {0};
        size_t last = 0;
        for (unsigned piece = 0; piece < 200; piece++) {
            size_t from = next_random(&seed) % 4 == 0 ? last : next_random(&seed) % (sizeof base - 40);
            size_t length = next_random(&seed) % 16 == 0 ? 20 : 4 + next_random(&seed) % 4;
            if (next_random(&seed) % 4 == 0)
                from = last + 8 < sizeof base - 40 ? last + 8 : 0;
            buffer_append_bytes(&target, base + from, length);
            last = from;
            for (unsigned i = next_random(&seed) % 6; i != 0; i--)
                buffer_append_byte(&target, (char)next_random(&seed));
            if (next_random(&seed) % 32 == 0) {
                buffer_reserve(&target, target.length); /* it is appended to itself */
                buffer_append_bytes(&target, target.data + target.length / 2, target.length / 8);
            }
        }
        round_trip((struct slice){base, sizeof base}, buffer_slice(&target));
        buffer_dispose(&target);
    }
}

/* Numbers of one to four bytes. */
static void texts_of_all_sizes_decode(void **state) {
    static const size_t sizes[] = {1, 17, 18, 19, 127, 128, 300, 16383, 16384, 70000, 1048576, 2100000};
    size_t largest = sizes[sizeof sizes / sizeof sizes[0] - 1];
    char *base = malloc(largest), *target = malloc(largest);
    uint64_t seed = 3;

    (void)state;
    for (size_t i = 0; i < largest; i++) {
        base[i] = (char)next_random(&seed);
        target[i] = (char)next_random(&seed);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        assert_in_range(round_trip((struct slice){base, sizes[i]}, (struct slice){target, sizes[i]}), sizes[i],
                        sizes[i] + 30);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i], half = size / 2;
        memcpy(target + half, base, size - half);
        round_trip((struct slice){base, size}, (struct slice){target, size});
        round_trip((struct slice){base, size / 7}, (struct slice){target, size});
    }
    free(base);
    free(target);
}

static void the_delta_is_shorter_than_the_limit_or_there_is_none(void **state) {
    (void)state;
    assert_limit_holds(vcdiff_encode, round_trip);
}

static void a_tick_costs_little_and_allocates_nothing(void **state) {
    (void)state;
    assert_tick_is_cheap(vcdiff_encode, round_trip, 20, 45);
}

/* A window of 2 bytes from a base of 5: each change of it is wrong. */
static void the_decoder_of_the_tests_takes_no_broken_delta(void **state) {
    static const struct slice broken[] = {
        SLICE_INIT(""),
        SLICE_INIT("\xd6\xc3\xc4\x53\0"),                                     /* another version */
        SLICE_INIT("\xd6\xc3\xc4\0\x04\0\x08\x02\0\x02\x01\0ab\x03"),         /* an application header */
        SLICE_INIT("\xd6\xc3\xc4\0\0\x04\x0c\x02\0\x02\x01\0\0\0\0\0ab\x03"), /* a checksum */
        SLICE_INIT("\xd6\xc3\xc4\0\0\x02\x02\0\x07\x05\0\0\x01\x01\x15\0"),   /* VCD_TARGET */
        SLICE_INIT("\xd6\xc3\xc4\0\0\0\x08\x02\x01\x02\x01\0ab\x03"),         /* compressed data */
        SLICE_INIT("\xd6\xc3\xc4\0\0\0\x08\x03\0\x02\x01\0ab\x03"),           /* too few bytes */
        SLICE_INIT("\xd6\xc3\xc4\0\0\0\x08\x02\0\x02\x01\0ab\x02"),           /* data left */
        SLICE_INIT("\xd6\xc3\xc4\0\0\0\x08\x02\0\x02\x01\0ab"),               /* a part is missing */
        SLICE_INIT("\xd6\xc3\xc4\0\0\x01\x06\0\x07\x05\0\0\x01\x01\x15\0"),   /* a segment beyond the base */
        SLICE_INIT("\xd6\xc3\xc4\0\0\x01\x05\0\x07\x05\0\0\x01\x01\x15\x05"), /* an address beyond it */
        SLICE_INIT("\xd6\xc3\xc4\0\0\x01\x05\0\x0b\x05\0\0\x05\x01\x13\x90\x80\x80\0\0"), /* a copy beyond the window */
    };
    struct buffer decoded = {0};

    (void)state;
    assert_null(vcdiff_decode(SLICE("abcde"), SLICE("\xd6\xc3\xc4\0\0\x01\x05\0\x07\x05\0\0\x01\x01\x15\0"), &decoded));
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_non_null(vcdiff_decode(SLICE("abcde"), broken[i], &decoded));
    buffer_dispose(&decoded);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_digit_is_one_copy_and_one_add),
        cmocka_unit_test(empty_and_equal_texts_have_deltas),
        cmocka_unit_test(repeated_bytes_are_copied_from_the_target),
        cmocka_unit_test(all_opcodes_and_address_modes_decode),
        cmocka_unit_test(texts_of_all_sizes_decode),
        cmocka_unit_test(the_delta_is_shorter_than_the_limit_or_there_is_none),
        cmocka_unit_test(a_tick_costs_little_and_allocates_nothing),
        cmocka_unit_test(the_decoder_of_the_tests_takes_no_broken_delta),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
