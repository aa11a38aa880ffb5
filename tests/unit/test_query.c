#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/query.h"

#define MANY (10 * QUERY_INLINE + 1)

static void assert_text(struct slice text, const char *wanted, size_t length) {
    if (!slice_equal(text, (struct slice){wanted, length}))
        fail_msg("\"%.*s\", not \"%.*s\"", SLICE_ARGS(text), (int)length, wanted);
}

static void assert_decoded(const char *encoded, const char *wanted) {
    struct slice source = slice_of(encoded);
    char *copy = malloc(source.length + 1);
    struct buffer out = {0};

    assert_non_null(copy);
    memcpy(copy, encoded, source.length);
    copy = realloc(copy, source.length != 0 ? source.length
                                            : 1); /* exact size, so that AddressSanitizer detects a read past its end */
    assert_non_null(copy);
    buffer_append_string(&out, "kept:");
    percent_decode((struct slice){copy, source.length}, &out);
    assert_text(slice_skip(buffer_slice(&out), 5), wanted, strlen(wanted));
    buffer_dispose(&out);
    free(copy);
}

/* Parses and compares with `wanted`: pairs of key and value, terminated by NULL. */
static void assert_query(const char *source, const char *const *wanted) {
    struct query query;
    size_t i = 0;

    query_parse(&query, slice_of(source));
    for (; wanted[2 * i] != NULL; i++) {
        assert_true(i < query.count);
        assert_text(query.parameters[i].key, wanted[2 * i], strlen(wanted[2 * i]));
        assert_text(query.parameters[i].value, wanted[2 * i + 1], strlen(wanted[2 * i + 1]));
    }
    assert_int_equal(query.count, i);
    query_dispose(&query);
}

static void every_byte_decodes_in_both_cases_of_hex(void **state) {
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        for (int i = 0; i < 2; i++) {
            char encoded[8];
            struct buffer out = {0};
            snprintf(encoded, sizeof encoded, i == 0 ? "%%%02x" : "%%%02X", byte);
            percent_decode(slice_of(encoded), &out);
            assert_int_equal(out.length, 1);
            assert_int_equal((unsigned char)out.data[0], byte);
            buffer_dispose(&out);
        }
    }
}

static void a_percent_without_two_hex_digits_is_itself(void **state) {
    (void)state;
    assert_decoded("", "");
    assert_decoded("%", "%");
    assert_decoded("%%", "%%");
    assert_decoded("%4", "%4");
    assert_decoded("a%4", "a%4");
    assert_decoded("%zz", "%zz");
    assert_decoded("%4g", "%4g");
    assert_decoded("%g4", "%g4");
    assert_decoded("100%", "100%");
    assert_decoded("%%41", "%A");
    assert_decoded("%4%41", "%4A");
}

static void decoding_happens_once_and_leaves_plus_alone(void **state) {
    (void)state;
    assert_decoded("%2541", "%41");
    assert_decoded("a+b%2Bc", "a+b+c");
    assert_decoded("caf%C3%A9", "caf\xC3\xA9");
    assert_decoded("a%26b%3Dc", "a&b=c");
}

static void parameters_come_in_their_order(void **state) {
    (void)state;
    assert_query("", (const char *[]){NULL});
    assert_query("a=1", (const char *[]){"a", "1", NULL});
    assert_query("b=2&a=1&b=3", (const char *[]){"b", "2", "a", "1", "b", "3", NULL});
    assert_query("Auth_Key=x", (const char *[]){"Auth_Key", "x", NULL});
}

static void odd_shapes_are_read_as_they_stand(void **state) {
    (void)state;
    assert_query("a", (const char *[]){"a", "", NULL});
    assert_query("a=", (const char *[]){"a", "", NULL});
    assert_query("=v", (const char *[]){"", "v", NULL});
    assert_query("=", (const char *[]){"", "", NULL});
    assert_query("a=b=c", (const char *[]){"a", "b=c", NULL});
    assert_query("&&a=1&&b=2&", (const char *[]){"a", "1", "b", "2", NULL});
    assert_query("a=x?y", (const char *[]){"a", "x?y", NULL});
}

static void separators_are_found_before_decoding(void **state) {
    (void)state;
    assert_query("a%3Db=c%26d", (const char *[]){"a=b", "c&d", NULL});
    assert_query("a+b=c+d", (const char *[]){"a+b", "c+d", NULL});
    assert_query("%61=%62&c=%6", (const char *[]){"a", "b", "c", "%6", NULL});
}

static void what_was_decoded_first_stays_while_the_rest_is_decoded(void **state) {
    struct buffer source = {0};
    struct query query;

    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        buffer_appendf(&source, "%sk%%30%u=%%41%%42%%43%%44%u", i != 0 ? "&" : "", i, i);
    query_parse(&query, buffer_slice(&source));
    assert_int_equal(query.count, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        char key[16], value[16];
        snprintf(key, sizeof key, "k0%u", i);
        snprintf(value, sizeof value, "ABCD%u", i);
        assert_text(query.parameters[i].key, key, strlen(key));
        assert_text(query.parameters[i].value, value, strlen(value));
    }
    query_dispose(&query);
    buffer_dispose(&source);
}

static void a_query_as_large_as_a_head_is_parsed(void **state) {
    struct buffer source = {0};
    struct query query;
    struct slice value;

    (void)state;
    for (unsigned i = 0; i < 8192; i++)
        buffer_append(&source, SLICE("k&"));
    buffer_append(&source, SLICE("last=%31"));
    query_parse(&query, buffer_slice(&source));
    assert_int_equal(query.count, 8193);
    assert_true(query_find(&query, SLICE("last"), &value));
    assert_text(value, "1", 1);
    query_dispose(&query);
    buffer_dispose(&source);
}

static void the_last_of_a_name_counts_in_any_case(void **state) {
    struct query query;
    struct slice value;

    (void)state;
    query_parse(&query, SLICE("auth_key=1&other=2&AUTH_Key=3&%61uth_version=1.0"));
    assert_true(query_find(&query, SLICE("auth_key"), &value));
    assert_text(value, "3", 1);
    assert_true(query_find(&query, SLICE("OTHER"), &value));
    assert_text(value, "2", 1);
    assert_true(query_find(&query, SLICE("auth_version"), &value));
    assert_text(value, "1.0", 3);
    assert_false(query_find(&query, SLICE("auth"), &value));
    assert_false(query_find(&query, SLICE("auth_keys"), &value));
    assert_false(query_find(&query, SLICE(""), &value));
    query_dispose(&query);
}

static void no_query_at_all_has_no_parameters(void **state) {
    struct query query;
    struct slice value;

    (void)state;
    query_parse(&query, (struct slice){NULL, 0});
    assert_int_equal(query.count, 0);
    assert_false(query_find(&query, SLICE("a"), &value));
    query_dispose(&query);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_decodes_in_both_cases_of_hex),
        cmocka_unit_test(a_percent_without_two_hex_digits_is_itself),
        cmocka_unit_test(decoding_happens_once_and_leaves_plus_alone),
        cmocka_unit_test(parameters_come_in_their_order),
        cmocka_unit_test(odd_shapes_are_read_as_they_stand),
        cmocka_unit_test(separators_are_found_before_decoding),
        cmocka_unit_test(what_was_decoded_first_stays_while_the_rest_is_decoded),
        cmocka_unit_test(a_query_as_large_as_a_head_is_parsed),
        cmocka_unit_test(the_last_of_a_name_counts_in_any_case),
        cmocka_unit_test(no_query_at_all_has_no_parameters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
