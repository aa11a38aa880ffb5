#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "channel/delta/fossil.h"
#include "delta_cases.h"
#include "fossil_decoder.h"
#include "harness.h"

#define NO_LIMIT SIZE_MAX / 2

/* Encodes, checks with the decoder that the target comes out, and returns the size. */
static size_t round_trip(struct slice base, struct slice target) {
    struct buffer delta = {0}, decoded = {0};
    const char *fault;
    size_t size;

    assert_true(fossil_encode(base, target, NO_LIMIT, &delta, NULL));
    fault = fossil_decode(base, buffer_slice(&delta), &decoded);
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

    assert_true(fossil_encode(base, target, NO_LIMIT, &delta, NULL));
    if (!slice_equal(buffer_slice(&delta), expected))
        fail_msg("%.*s instead of %.*s", SLICE_ARGS(delta), SLICE_ARGS(expected));
    buffer_dispose(&delta);
    round_trip(base, target);
}

/* The delta was seen on the wire of another server. */
static void a_changed_digit_is_one_copy_and_one_literal(void **state) {
    (void)state;
    assert_delta(SLICE("{\"event\":\"e\",\"channel\":\"small\",\"data\":\"x1\"}"),
                 SLICE("{\"event\":\"e\",\"channel\":\"small\",\"data\":\"x2\"}"), SLICE("g\nd@0,3:2\"}2hhzlG;"));
}

static void empty_and_equal_texts_have_deltas(void **state) {
    (void)state;
    assert_delta(SLICE(""), SLICE(""), SLICE("0\n0;"));
    assert_delta((struct slice){0}, (struct slice){0}, SLICE("0\n0;"));
    assert_delta(SLICE("anything"), SLICE(""), SLICE("0\n0;"));
    assert_delta(SLICE(""), SLICE("ab"), SLICE("2\n2:ab1XOW00;"));
    assert_delta(SLICE("a"), SLICE("a"), SLICE("1\n1:a1X0000;"));
    assert_delta(SLICE("\0\0\0\0\0\0\0\0"), SLICE("\0\0\0\0\0\0\0\0"), SLICE("8\n8@0,0;"));
}

/* A copy costs four bytes or more, a literal two more than it has. A copy between literals makes one literal two. */
static void a_copy_is_used_where_it_saves_bytes(void **state) {
    (void)state;
    assert_delta(SLICE("ab"), SLICE("ab"), SLICE("2\n2:ab1XOW00;"));
    assert_delta(SLICE("abcd"), SLICE("abcd"), SLICE("4\n4@0,1XObD_;"));
    assert_delta(SLICE("__abcdef__"), SLICE("~~~abcdef~~~"), SLICE("C\nC:~~~abcdef~~~17O654;"));
    assert_delta(SLICE("__abcdefg__"), SLICE("~~~abcdefg~~~"), SLICE("D\n3:~~~7@2,3:~~~35IM54;"));
}

static void the_delta_is_shorter_than_the_limit_or_there_is_none(void **state) {
    (void)state;
    assert_limit_holds(fossil_encode, round_trip);
}

static void a_tick_costs_little_and_allocates_nothing(void **state) {
    (void)state;
    assert_tick_is_cheap(fossil_encode, round_trip, 30, 60);
}

static void an_entry_more_in_a_document_costs_about_the_entry(void **state) {
    struct buffer base = {0}, target = {0};

    (void)state;
    buffer_append_byte(&base, '[');
    for (unsigned i = 0; i < 20000; i++)
        buffer_appendf(&base, "{\"id\":%u,\"name\":\"player %u\",\"score\":%u},", i, i * 7919 % 20011,
                       i * 104729 % 9973);
    buffer_append(&target, buffer_slice(&base));
    buffer_append_string(&target, "{\"id\":20000,\"name\":\"player 4711\",\"score\":12}]");
    base.data[base.length - 1] = ']';
    assert_in_range(round_trip(buffer_slice(&base), buffer_slice(&target)), 10, 70);
    buffer_dispose(&base);
    buffer_dispose(&target);
}

static unsigned next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*seed >> 33);
}

/* `edits` times a piece of the text is replaced by new bytes, or by a piece from elsewhere. */
static void edit_text(struct buffer *text, unsigned edits, uint64_t *seed) {
    while (edits-- != 0) {
        struct buffer next = {0};
        size_t at = next_random(seed) % (text->length + 1), gone = next_random(seed) % 20;
        size_t from = next_random(seed) % (text->length + 1), length = next_random(seed) % 60;

        gone = gone < text->length - at ? gone : text->length - at;
        length = length < text->length - from ? length : text->length - from;
        buffer_append_bytes(&next, text->data, at);
        if (next_random(seed) % 2 == 0)
            buffer_append_bytes(&next, text->data + from, length);
        for (unsigned i = next_random(seed) % 8; i != 0; i--)
            buffer_append_byte(&next, (char)next_random(seed));
        buffer_append_bytes(&next, text->data + at + gone, text->length - at - gone);
        buffer_dispose(text);
        *text = next;
    }
}

static void edited_texts_of_all_lengths_come_out_again(void **state) {
    uint64_t seed = 13;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        struct buffer base = {0}, target = {0};
        unsigned letters = 1 + next_random(&seed) % 40;
        for (unsigned i = next_random(&seed) % (round % 100 == 0 ? 20000 : 500); i != 0; i--)
            buffer_append_byte(&base, (char)(next_random(&seed) % letters));
        buffer_append(&target, buffer_slice(&base));
        edit_text(&target, next_random(&seed) % 10, &seed);
        round_trip(buffer_slice(&base), buffer_slice(&target));
        round_trip(buffer_slice(&target), buffer_slice(&base));
        buffer_dispose(&base);
        buffer_dispose(&target);
    }
}

static void the_decoder_of_the_tests_takes_no_broken_delta(void **state) {
    static const char *const broken[] = {
        "",
        "g",
        "g\n",
        "g\n;",
        "g\nd@0,3:2\"}",
        "g\nd@0,3:2\"}2hhzlH;",
        "g\nd@0,2:2\"2hhzlG;",
        "g\nd@0;",
        "g\nd@5,3:2\"}2hhzlG;",
        "f\nd@0,3:2\"}2hhzlG;",
        "g\nd@0,3:2\"}2hhzlG;x",
        "0g\nd@0,3:2\"}2hhzlG;",
    };
    struct buffer decoded = {0};

    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++)
        assert_non_null(fossil_decode(SLICE("{\"event\":\"e\",\"channel\":\"small\",\"data\":\"x1\"}"),
                                      slice_of(broken[i]), &decoded));
    buffer_dispose(&decoded);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_digit_is_one_copy_and_one_literal),
        cmocka_unit_test(empty_and_equal_texts_have_deltas),
        cmocka_unit_test(a_copy_is_used_where_it_saves_bytes),
        cmocka_unit_test(the_delta_is_shorter_than_the_limit_or_there_is_none),
        cmocka_unit_test(a_tick_costs_little_and_allocates_nothing),
        cmocka_unit_test(an_entry_more_in_a_document_costs_about_the_entry),
        cmocka_unit_test(edited_texts_of_all_lengths_come_out_again),
        cmocka_unit_test(the_decoder_of_the_tests_takes_no_broken_delta),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
