#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/number_text.h"

static void assert_text(const char *token, const char *wanted) {
    struct buffer out = {0};

    buffer_append(&out, SLICE("<"));
    assert_true(number_text_append(&out, slice_of(token)));
    if (strcmp(buffer_string(&out) + 1, wanted) != 0)
        fail_msg("%s gives %s, not %s", token, buffer_string(&out) + 1, wanted);
    buffer_dispose(&out);
}

static void assert_no_text(struct slice token) {
    struct buffer out = {0};

    assert_false(number_text_append(&out, token));
    assert_int_equal(out.length, 0);
    buffer_dispose(&out);
}

static void whole_numbers_keep_their_digits(void **state) {
    (void)state;
    assert_text("0", "0");
    assert_text("501", "501");
    assert_text("-7", "-7");
    assert_text("9007199254740993", "9007199254740993");
    assert_text("18446744073709551615", "18446744073709551615");
    assert_text("-9223372036854775808", "-9223372036854775808");
}

static void other_numbers_have_the_fewest_digits(void **state) {
    (void)state;
    assert_text("1.50", "1.5");
    assert_text("15e-1", "1.5");
    assert_text("0.80", "0.8");
    assert_text("5.0", "5.0");
    assert_text("1e3", "1000.0");
    assert_text("1E+3", "1000.0");
    assert_text("-0.10", "-0.1");
    assert_text("0.1", "0.1");
    assert_text("0.30000000000000004", "0.30000000000000004");
    assert_text("123456.789", "123456.789");
    assert_text("1.7976931348623157e308", "1.7976931348623157e308");
    assert_text("5e-324", "5e-324");
    assert_text("18446744073709551616", "1.8446744073709552e19");
    assert_text("-9223372036854775809", "-9.223372036854776e18");
    assert_text("100000000000000000000000", "1e23");
}

static void exponents_begin_where_they_shorten(void **state) {
    (void)state;
    assert_text("1e15", "1000000000000000.0");
    assert_text("1e16", "1e16");
    assert_text("1e+21", "1e21");
    assert_text("12.5e20", "1.25e21");
    assert_text("0.00001", "0.00001");
    assert_text("0.000012", "0.000012");
    assert_text("0.000001", "1e-6");
    assert_text("15e-8", "1.5e-7");
}

static void zeros_are_told_apart(void **state) {
    (void)state;
    assert_text("0.0", "0.0");
    assert_text("0e9", "0.0");
    assert_text("-0", "-0.0");
    assert_text("-0.0", "-0.0");
    assert_text("1e-999", "0.0");
}

static void what_is_too_large_or_too_long_has_no_text(void **state) {
    char digits[NUMBER_TEXT_TOKEN_MAX + 1];

    (void)state;
    assert_no_text(SLICE("1e309"));
    assert_no_text(SLICE("-1e99999"));
    assert_no_text(SLICE(""));
    memset(digits, '0', sizeof digits);
    memcpy(digits, "0.1", 3);
    assert_no_text((struct slice){digits, sizeof digits});
    digits[NUMBER_TEXT_TOKEN_MAX] = '\0';
    assert_text(digits, "0.1");
}

/* Doubles of all sizes: the text gives the same double again, fits into its room, and has no digit too many. */
static void texts_give_the_same_number_again(void **state) {
    uint64_t bits = 0x9E3779B97F4A7C15;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct buffer out = {0};
        char token[40], shorter[40];
        double number;

        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&number, &bits, sizeof number);
        if (number - number != 0) /* not finite */
            continue;
        snprintf(token, sizeof token, "%.17e", number);
        assert_true(number_text_append(&out, slice_of(token)));
        assert_true(out.length <= NUMBER_TEXT_MAX);
        assert_true(strtod(buffer_string(&out), NULL) == number);
        snprintf(shorter, sizeof shorter, "%.14e", number);
        if (strtod(shorter, NULL) != number) { /* 16 or 17 digits are needed */
            snprintf(shorter, sizeof shorter, "%.15e", number);
            if (strtod(shorter, NULL) == number)
                assert_true(out.length <= strlen(shorter) + 3); /* 0.000x in place of xe-04 */
        }
        buffer_dispose(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_keep_their_digits),
        cmocka_unit_test(other_numbers_have_the_fewest_digits),
        cmocka_unit_test(exponents_begin_where_they_shorten),
        cmocka_unit_test(zeros_are_told_apart),
        cmocka_unit_test(what_is_too_large_or_too_long_has_no_text),
        cmocka_unit_test(texts_give_the_same_number_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
