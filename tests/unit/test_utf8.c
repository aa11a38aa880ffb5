#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

struct sequence {
    const char *bytes;
    size_t length;
    bool valid;
};

#define GOOD(literal)                                                                                                  \
    { literal, sizeof(literal) - 1, true }
#define BAD(literal)                                                                                                   \
    { literal, sizeof(literal) - 1, false }

/* The bounds of the table in RFC 3629: the first and last sequence of each row, and those just outside. */
static const struct sequence edges[] = {
    GOOD(""),
    GOOD("\0"),
    GOOD("\x7F"),
    BAD("\x80"),
    BAD("\xBF"),
    BAD("\xC0\x80"),
    BAD("\xC1\xBF"),
    GOOD("\xC2\x80"),
    BAD("\xC2\x7F"),
    BAD("\xC2\xC0"),
    GOOD("\xDF\xBF"),
    BAD("\xDF"),
    BAD("\xE0\x80\x80"),
    BAD("\xE0\x9F\xBF"),
    GOOD("\xE0\xA0\x80"),
    GOOD("\xE0\xBF\xBF"),
    BAD("\xE0\xA0"),
    BAD("\xE0\xA0\x7F"),
    BAD("\xE0\xC0\x80"),
    GOOD("\xE1\x80\x80"),
    GOOD("\xEC\xBF\xBF"),
    GOOD("\xED\x80\x80"),
    GOOD("\xED\x9F\xBF"),
    BAD("\xED\xA0\x80"),
    BAD("\xED\xAF\xBF\xED\xB0\x80"),
    BAD("\xED\xBF\xBF"),
    GOOD("\xEE\x80\x80"),
    GOOD("\xEF\xBF\xBF"),
    BAD("\xF0\x80\x80\x80"),
    BAD("\xF0\x8F\xBF\xBF"),
    GOOD("\xF0\x90\x80\x80"),
    GOOD("\xF0\xBF\xBF\xBF"),
    BAD("\xF0\x90\x80"),
    BAD("\xF0\x90\x80\x7F"),
    BAD("\xF0\x90\xC0\x80"),
    GOOD("\xF1\x80\x80\x80"),
    GOOD("\xF3\xBF\xBF\xBF"),
    GOOD("\xF4\x80\x80\x80"),
    GOOD("\xF4\x8F\xBF\xBF"),
    BAD("\xF4\x90\x80\x80"),
    BAD("\xF5\x80\x80\x80"),
    BAD("\xF8\x88\x80\x80\x80"),
    BAD("\xFC\x84\x80\x80\x80\x80"),
    BAD("\xFE"),
    BAD("\xFF"),
    GOOD("\xEF\xBB\xBF"),
};

/* Validates a copy of exact size, so that AddressSanitizer detects a read past its end. */
static bool valid(const char *bytes, size_t length) {
    char *copy = malloc(length != 0 ? length : 1);
    bool result;

    assert_non_null(copy);
    memcpy(copy, bytes, length);
    result = utf8_valid((struct slice){copy, length});
    free(copy);
    return result;
}

static void every_edge_of_the_table_is_judged_right(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        if (valid(edges[i].bytes, edges[i].length) != edges[i].valid)
            fail_msg("edge %zu", i);
}

static void the_place_in_the_text_does_not_matter(void **state) {
    char text[80];

    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        for (size_t before = 0; before < 40; before++)
            for (size_t after = 0; after < 20; after++) {
                memset(text, 'a', sizeof text);
                memcpy(text + before, edges[i].bytes, edges[i].length);
                if (valid(text, before + edges[i].length + after) != edges[i].valid)
                    fail_msg("edge %zu with %zu bytes before and %zu after", i, before, after);
            }
}

/* A text in pieces: malformed at the first byte that no character can have there, and complete at whole characters. */
static void a_text_in_pieces_is_judged_at_the_first_wrong_byte(void **state) {
    static const struct {
        const char *text;
        size_t length;
        size_t wrong; /* position of the byte that is refused; `length`: none */
        bool complete;
    } texts[] = {
        {"a\xC3\xA9\xF0\x9F\x98\x80z", 8, 8, true},
        {"ab\xE2\x82", 4, 4, false},
        {"ab\xE2\x82\x28", 5, 4, false},
        {"\xED\xA0\x80", 3, 1, false},
        {"\xF4\x8F\xBF\xBF\xF4\x90", 6, 5, false},
        {"\xC3\xA9\x80", 3, 2, false},
        {"0123456789abcdef\xC1\xBF", 18, 16, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (size_t step = 1; step <= texts[i].length; step++) {
            struct utf8_state progress = {0};
            size_t at = 0;
            bool good = true;

            for (; good && at < texts[i].length; at += step) {
                size_t length = texts[i].length - at < step ? texts[i].length - at : step;
                good = utf8_continue(&progress, (struct slice){texts[i].text + at, length});
                assert_int_equal(good, texts[i].wrong >= at + length);
            }
            if (good)
                assert_int_equal(progress.left == 0, texts[i].complete);
        }
}

static void every_code_point_but_the_surrogates_is_valid(void **state) {
    (void)state;
    for (uint32_t code = 0; code < 0x200000; code++) {
        unsigned char bytes[4];
        size_t length;
        bool wanted = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
        if (code < 0x80) {
            bytes[0] = (unsigned char)code;
            length = 1;
        } else {
            length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
            for (size_t i = length; i-- > 1;)
                bytes[i] = (unsigned char)(0x80 | (code >> 6 * (length - 1 - i) & 0x3F));
            bytes[0] = (unsigned char)((0xF00 >> length & 0xFF) | code >> 6 * (length - 1));
        }
        if (utf8_valid((struct slice){(const char *)bytes, length}) != wanted)
            fail_msg("U+%04X", code);
    }
}

static void an_overlong_form_is_refused_for_every_code_point(void **state) {
    (void)state;
    for (uint32_t code = 0; code < 0x10000; code++) {
        unsigned char bytes[4] = {0xF0, (unsigned char)(0x80 | code >> 12), (unsigned char)(0x80 | (code >> 6 & 0x3F)),
                                  (unsigned char)(0x80 | (code & 0x3F))};
        assert_false(utf8_valid((struct slice){(const char *)bytes, 4}));
        bytes[1] = (unsigned char)(0xE0 | code >> 12);
        if (code < 0x800)
            assert_false(utf8_valid((struct slice){(const char *)bytes + 1, 3}));
        bytes[2] = (unsigned char)(0xC0 | code >> 6);
        if (code < 0x80)
            assert_false(utf8_valid((struct slice){(const char *)bytes + 2, 2}));
    }
}

static void what_belongs_to_no_character_is_mended(void **state) {
    char text[] = "a\xFF\xC3\xA9\xC3z\xE2\x82", edge[8];

    (void)state;
    utf8_mend(text);
    assert_string_equal(text, "a?\xC3\xA9?z??");
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        snprintf(edge, sizeof edge, "%s", edges[i].bytes);
        utf8_mend(edge);
        assert_true(valid(edge, strlen(edge)));
        if (edges[i].valid)
            assert_string_equal(edge, edges[i].bytes);
    }
}

static void text_cut_inside_a_character_is_invalid(void **state) {
    static const char text[] = "na\xC3\xAFve \xE2\x82\xAC 100, \xF0\x9F\x98\x80 and the rest";
    bool boundary;

    (void)state;
    for (size_t length = 0; length < sizeof text; length++) {
        boundary = ((unsigned char)text[length] & 0xC0) != 0x80;
        assert_int_equal(valid(text, length), boundary);
    }
}

static void no_text_at_all_is_valid(void **state) {
    (void)state;
    assert_true(utf8_valid((struct slice){NULL, 0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_edge_of_the_table_is_judged_right),
        cmocka_unit_test(the_place_in_the_text_does_not_matter),
        cmocka_unit_test(a_text_in_pieces_is_judged_at_the_first_wrong_byte),
        cmocka_unit_test(every_code_point_but_the_surrogates_is_valid),
        cmocka_unit_test(an_overlong_form_is_refused_for_every_code_point),
        cmocka_unit_test(what_belongs_to_no_character_is_mended),
        cmocka_unit_test(text_cut_inside_a_character_is_invalid),
        cmocka_unit_test(no_text_at_all_is_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
