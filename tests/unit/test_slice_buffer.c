#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/slice.h"

static const struct slice none = {NULL, 0};

static void slices_compare_by_bytes_and_length(void **state) {
    (void)state;
    assert_true(slice_equal(SLICE("abc"), slice_of("abc")));
    assert_false(slice_equal(SLICE("abc"), SLICE("abd")));
    assert_false(slice_equal(SLICE("abc"), SLICE("ab")));
    assert_false(slice_equal(SLICE("a\0b"), SLICE("a\0c")));
    assert_true(slice_equal(none, SLICE("")));
    assert_true(slice_equal(slice_of(NULL), none));
}

static void a_slice_knows_how_it_starts_and_ends(void **state) {
    (void)state;
    assert_true(slice_starts_with(SLICE("private-a"), SLICE("private-")));
    assert_true(slice_starts_with(SLICE("private-"), SLICE("private-")));
    assert_false(slice_starts_with(SLICE("private"), SLICE("private-")));
    assert_false(slice_starts_with(SLICE("Private-"), SLICE("private-")));
    assert_true(slice_starts_with(none, none));
    assert_true(slice_ends_with(SLICE("users/7/terminate"), SLICE("/terminate")));
    assert_false(slice_ends_with(SLICE("terminate"), SLICE("/terminate")));
    assert_false(slice_ends_with(SLICE("/terminat_"), SLICE("/terminate")));
    assert_true(slice_ends_with(SLICE("a"), none));
}

static void skipping_leaves_the_rest(void **state) {
    (void)state;
    assert_true(slice_equal(slice_skip(SLICE("abc"), 0), SLICE("abc")));
    assert_true(slice_equal(slice_skip(SLICE("abc"), 2), SLICE("c")));
    assert_int_equal(slice_skip(SLICE("abc"), 3).length, 0);
}

static void slices_are_ordered_by_their_bytes_and_then_by_length(void **state) {
    (void)state;
    assert_int_equal(slice_compare(SLICE("abc"), SLICE("abc")), 0);
    assert_true(slice_compare(SLICE("abc"), SLICE("abd")) < 0);
    assert_true(slice_compare(SLICE("b"), SLICE("abc")) > 0);
    assert_true(slice_compare(SLICE("ab"), SLICE("abc")) < 0);
    assert_true(slice_compare(SLICE("\xff"), SLICE("a")) > 0);
    assert_int_equal(slice_compare(none, SLICE("")), 0);
    assert_true(slice_compare(none, SLICE("a")) < 0);
}

static void trimming_takes_spaces_and_tabs_off_both_ends(void **state) {
    (void)state;
    assert_true(slice_equal(slice_trim(SLICE(" \t a b \t")), SLICE("a b")));
    assert_true(slice_equal(slice_trim(SLICE("a")), SLICE("a")));
    assert_true(slice_equal(slice_trim(SLICE("\na\r")), SLICE("\na\r")));
    assert_int_equal(slice_trim(SLICE(" \t ")).length, 0);
    assert_int_equal(slice_trim(none).length, 0);
}

static void case_is_ignored_for_ascii_letters_only(void **state) {
    (void)state;
    assert_true(slice_equal_ignoring_case(SLICE("Upgrade"), SLICE("uPGRADE")));
    assert_true(slice_equal_ignoring_case(none, SLICE("")));
    assert_false(slice_equal_ignoring_case(SLICE("a"), SLICE("aa")));
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            bool letters = (a | 0x20) >= 'a' && (a | 0x20) <= 'z';
            char left = (char)a, right = (char)b;
            bool wanted = a == b || (letters && (a ^ b) == 0x20);
            assert_int_equal(slice_equal_ignoring_case((struct slice){&left, 1}, (struct slice){&right, 1}), wanted);
        }
}

static void numbers_are_digits_up_to_the_maximum(void **state) {
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1.0",
                                      "0x1",
                                      "1e3",
                                      "\xEF",
                                      "101",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    unsigned long long number = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(slice_to_number(slice_of(bad[i]), 100, &number));
        assert_int_equal(number, 7);
    }
    assert_false(slice_to_number(SLICE("18446744073709551616"), UINT64_MAX, &number));
    assert_true(slice_to_number(SLICE("100"), 100, &number));
    assert_int_equal(number, 100);
    assert_true(slice_to_number(SLICE("000"), 100, &number));
    assert_int_equal(number, 0);
    assert_true(slice_to_number(SLICE("18446744073709551615"), UINT64_MAX, &number));
    assert_true(number == UINT64_MAX);
}

static void a_buffer_keeps_what_was_appended_while_it_grows(void **state) {
    struct buffer buffer = {0};

    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        buffer_append_byte(&buffer, (char)(i * 31));
    assert_int_equal(buffer.length, 10000);
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(buffer.data[i], (char)(i * 31));
    buffer_dispose(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.length, 0);
    assert_int_equal(buffer.capacity, 0);
    buffer_append_string(&buffer, "again");
    assert_true(slice_equal(buffer_slice(&buffer), SLICE("again")));
    buffer_dispose(&buffer);
    buffer_dispose(&buffer);
}

static void every_way_to_append_adds_its_text(void **state) {
    struct buffer buffer = {0};

    (void)state;
    buffer_append(&buffer, SLICE("a\0b"));
    buffer_append(&buffer, none);
    buffer_append_bytes(&buffer, NULL, 0);
    buffer_append_string(&buffer, "");
    buffer_append_byte(&buffer, '|');
    buffer_append_number(&buffer, 0);
    buffer_append_byte(&buffer, ' ');
    buffer_append_number(&buffer, 1234567890);
    buffer_append_byte(&buffer, ' ');
    buffer_append_number(&buffer, UINT64_MAX);
    buffer_appendf(&buffer, " %s-%03d", "x", 7);
    buffer_appendf(&buffer, "%s", "");
    assert_true(slice_equal(buffer_slice(&buffer), SLICE("a\0b|0 1234567890 18446744073709551615 x-007")));
    buffer_dispose(&buffer);
}

static void formatted_text_of_every_length_is_whole(void **state) {
    char text[300];

    (void)state;
    memset(text, 'x', sizeof text);
    for (int length = 0; length < 300; length++) {
        struct buffer buffer = {0};
        buffer_append_byte(&buffer, '<');
        buffer_appendf(&buffer, "%.*s", length, text);
        buffer_append_byte(&buffer, '>');
        assert_int_equal(buffer.length, length + 2);
        assert_int_equal(buffer.data[length], length == 0 ? '<' : 'x');
        assert_int_equal(buffer.data[length + 1], '>');
        buffer_dispose(&buffer);
    }
}

static void a_buffer_is_a_string_at_any_length(void **state) {
    struct buffer buffer = {0};

    (void)state;
    assert_string_equal(buffer_string(&buffer), "");
    for (unsigned i = 0; i < 200; i++) { /* fills each capacity to its last byte */
        assert_int_equal(strlen(buffer_string(&buffer)), i);
        assert_int_equal(buffer.length, i);
        buffer_append_byte(&buffer, 'x');
    }
    buffer_dispose(&buffer);
}

static void room_that_cannot_be_had_leaves_the_buffer_as_it_was(void **state) {
    struct buffer buffer = {0};
    struct buffer before;

    (void)state;
    buffer_append_string(&buffer, "kept");
    before = buffer;
    assert_false(buffer_try_reserve(&buffer, SIZE_MAX));
    assert_false(buffer_try_reserve(&buffer, SIZE_MAX - 4));
    assert_false(buffer_try_reserve(&buffer, SIZE_MAX / 2));
    assert_memory_equal(&buffer, &before, sizeof buffer);
    assert_true(slice_equal(buffer_slice(&buffer), SLICE("kept")));
    assert_true(buffer_try_reserve(&buffer, 1000));
    assert_true(buffer.capacity >= 1004);
    assert_true(slice_equal(buffer_slice(&buffer), SLICE("kept")));
    buffer_dispose(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare_by_bytes_and_length),
        cmocka_unit_test(a_slice_knows_how_it_starts_and_ends),
        cmocka_unit_test(skipping_leaves_the_rest),
        cmocka_unit_test(slices_are_ordered_by_their_bytes_and_then_by_length),
        cmocka_unit_test(trimming_takes_spaces_and_tabs_off_both_ends),
        cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(numbers_are_digits_up_to_the_maximum),
        cmocka_unit_test(a_buffer_keeps_what_was_appended_while_it_grows),
        cmocka_unit_test(every_way_to_append_adds_its_text),
        cmocka_unit_test(formatted_text_of_every_length_is_whole),
        cmocka_unit_test(a_buffer_is_a_string_at_any_length),
        cmocka_unit_test(room_that_cannot_be_had_leaves_the_buffer_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
