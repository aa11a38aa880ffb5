/* Values by the type of their column: what is written is what section 6 of native_protocol_v4.spec shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "store/scylladb/cql/cql_value.h"

#define BYTES(text) ((struct slice){(text), sizeof(text) - 1})

static struct buffer out;

static int set_up(void **state) {
    (void)state;
    out = (struct buffer){0};
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    buffer_dispose(&out);
    return 0;
}

static void assert_number_is(uint16_t type, uint32_t number, struct slice expected) {
    out.length = 0;
    if (!cql_append_number_value(&out, type, number) || !slice_equal(buffer_slice(&out), expected))
        fail_msg("%u as type %#x has %zu other bytes", number, type, out.length);
}

static void assert_number_refused(uint16_t type, uint32_t number) {
    out.length = 0;
    if (cql_append_number_value(&out, type, number) || out.length != 0)
        fail_msg("%u as type %#x is written", number, type);
}

static void assert_reads(uint16_t type, struct slice value, int64_t expected) {
    int64_t number = 0;

    if (!cql_number_of(type, value, &number) || number != expected)
        fail_msg("type %#x reads as %lld", type, (long long)number);
}

static void assert_unreadable(uint16_t type, struct slice value) {
    int64_t number;

    if (cql_number_of(type, value, &number))
        fail_msg("type %#x reads as %lld", type, (long long)number);
}

/* --- names --- */

static void types_have_the_names_of_the_schema(void **state) {
    static const struct {
        const char *name;
        uint16_t type, element;
    } cases[] = {
        {"text", CQL_TYPE_VARCHAR, 0},
        {"varint", CQL_TYPE_VARINT, 0},
        {"set<ascii>", CQL_TYPE_SET, CQL_TYPE_ASCII},
        {"frozen<list<text>>", CQL_TYPE_LIST, CQL_TYPE_VARCHAR},
        {"list<frozen<list<text>>>", CQL_TYPE_LIST, CQL_TYPE_CUSTOM},
        {"map<text, text>", CQL_TYPE_CUSTOM, 0},
        {"vector<float, 3>", CQL_TYPE_CUSTOM, 0},
        {"list<", CQL_TYPE_CUSTOM, 0},
        {"list<>", CQL_TYPE_LIST, CQL_TYPE_CUSTOM},
        {"frozen<", CQL_TYPE_CUSTOM, 0},
        {"", CQL_TYPE_CUSTOM, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint16_t type, element;
        cql_type_from_name(slice_of(cases[i].name), &type, &element);
        if (type != cases[i].type || element != cases[i].element)
            fail_msg("%s is %#x of %#x", cases[i].name, type, element);
    }
}

/* --- numbers --- */

static void a_number_is_written_as_its_type_has_it(void **state) {
    (void)state;
    assert_number_is(CQL_TYPE_TINYINT, 127, BYTES("\x7F"));
    assert_number_is(CQL_TYPE_SMALLINT, 300, BYTES("\x01\x2C"));
    assert_number_is(CQL_TYPE_INT, 300, BYTES("\0\0\x01\x2C"));
    assert_number_is(CQL_TYPE_BIGINT, 4294967295, BYTES("\0\0\0\0\xFF\xFF\xFF\xFF"));
    assert_number_is(CQL_TYPE_FLOAT, 1, BYTES("\x3F\x80\0\0"));
    assert_number_is(CQL_TYPE_DOUBLE, 1, BYTES("\x3F\xF0\0\0\0\0\0\0"));
    assert_number_is(CQL_TYPE_VARCHAR, 4294967295, BYTES("4294967295"));
    assert_number_is(CQL_TYPE_ASCII, 0, BYTES("0"));
}

static void a_varint_has_the_fewest_bytes_that_keep_the_sign(void **state) {
    (void)state;
    assert_number_is(CQL_TYPE_VARINT, 0, BYTES("\0"));
    assert_number_is(CQL_TYPE_VARINT, 127, BYTES("\x7F"));
    assert_number_is(CQL_TYPE_VARINT, 128, BYTES("\0\x80"));
    assert_number_is(CQL_TYPE_VARINT, 32767, BYTES("\x7F\xFF"));
    assert_number_is(CQL_TYPE_VARINT, 32768, BYTES("\0\x80\0"));
    assert_number_is(CQL_TYPE_VARINT, 2147483648, BYTES("\0\x80\0\0\0"));
    assert_number_is(CQL_TYPE_VARINT, 4294967295, BYTES("\0\xFF\xFF\xFF\xFF"));
}

static void the_largest_number_is_minus_one_where_32_bits_have_a_sign(void **state) {
    (void)state;
    assert_number_is(CQL_TYPE_INT, 4294967295, BYTES("\xFF\xFF\xFF\xFF"));
    assert_number_is(CQL_TYPE_SMALLINT, 4294967295, BYTES("\xFF\xFF"));
    assert_number_is(CQL_TYPE_TINYINT, 4294967295, BYTES("\xFF"));
}

static void what_a_type_cannot_hold_is_refused(void **state) {
    static const uint16_t others[] = {CQL_TYPE_BLOB, CQL_TYPE_UUID, CQL_TYPE_COUNTER, CQL_TYPE_TIMESTAMP,
                                      CQL_TYPE_LIST, CQL_TYPE_MAP,  CQL_TYPE_BOOLEAN, CQL_TYPE_CUSTOM};

    (void)state;
    assert_number_refused(CQL_TYPE_TINYINT, 128);
    assert_number_refused(CQL_TYPE_SMALLINT, 32768);
    assert_number_refused(CQL_TYPE_SMALLINT, 65535);
    assert_number_refused(CQL_TYPE_SMALLINT, 2147483648);
    assert_number_refused(CQL_TYPE_FLOAT, 16777217);
    assert_number_refused(CQL_TYPE_FLOAT, 4294967295);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_number_refused(others[i], 0);
}

static void numbers_of_every_type_come_back(void **state) {
    static const uint16_t types[] = {CQL_TYPE_TINYINT, CQL_TYPE_SMALLINT, CQL_TYPE_INT,  CQL_TYPE_BIGINT,
                                     CQL_TYPE_VARINT,  CQL_TYPE_DOUBLE,   CQL_TYPE_FLOAT};

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        for (unsigned bit = 0; bit < 32; bit++) {
            uint32_t number = UINT32_C(1) << bit;
            int64_t again;
            out.length = 0;
            if (!cql_append_number_value(&out, types[i], number))
                continue;
            assert_true(cql_number_of(types[i], buffer_slice(&out), &again));
            assert_int_equal((uint32_t)again, number);
        }
    }
}

static void a_value_that_is_no_whole_number_of_its_type_is_unreadable(void **state) {
    (void)state;
    assert_reads(CQL_TYPE_VARINT, BYTES("\xFF"), -1);
    assert_reads(CQL_TYPE_VARINT, BYTES("\x80\0\0\0\0\0\0\0"), INT64_MIN);
    assert_reads(CQL_TYPE_SMALLINT, BYTES("\xFF\xFE"), -2);
    assert_reads(CQL_TYPE_FLOAT, BYTES("\xC0\x00\0\0"), -2);
    assert_unreadable(CQL_TYPE_VARINT, BYTES(""));
    assert_unreadable(CQL_TYPE_VARINT, BYTES("\x01\0\0\0\0\0\0\0\0"));
    assert_unreadable(CQL_TYPE_INT, BYTES("\0\0\x01"));
    assert_unreadable(CQL_TYPE_INT, BYTES(""));
    assert_unreadable(CQL_TYPE_BIGINT, BYTES("\0\0\0\x01"));
    assert_unreadable(CQL_TYPE_FLOAT, BYTES("\x3F\0\0\0"));            /* 0.5 */
    assert_unreadable(CQL_TYPE_FLOAT, BYTES("\x7F\xC0\0\0"));          /* not a number */
    assert_unreadable(CQL_TYPE_DOUBLE, BYTES("\x7F\xF0\0\0\0\0\0\0")); /* infinity */
    assert_unreadable(CQL_TYPE_DOUBLE, BYTES("\x3F\x80\0\0"));         /* a float */
    assert_unreadable(CQL_TYPE_FLOAT, BYTES("\x3F\xF0\0\0\0\0\0\0\0"));
    assert_unreadable(CQL_TYPE_VARCHAR, BYTES("1"));
}

/* --- flags and texts --- */

static void a_flag_is_written_as_its_type_has_it(void **state) {
    static const uint16_t never[] = {CQL_TYPE_FLOAT, CQL_TYPE_DOUBLE, CQL_TYPE_BLOB, CQL_TYPE_LIST};
    static const struct {
        uint16_t type;
        struct slice yes;
    } cases[] = {{CQL_TYPE_BOOLEAN, BYTES("\x01")},
                 {CQL_TYPE_TINYINT, BYTES("\x01")},
                 {CQL_TYPE_INT, BYTES("\0\0\0\x01")},
                 {CQL_TYPE_VARCHAR, BYTES("true")}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        out.length = 0;
        assert_true(cql_append_flag_value(&out, cases[i].type, true));
        assert_true(slice_equal(buffer_slice(&out), cases[i].yes));
    }
    out.length = 0;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        assert_false(cql_append_flag_value(&out, never[i], true));
    assert_int_equal(out.length, 0);
}

static void a_text_is_written_where_it_reads_the_same_again(void **state) {
    static const char uuid[] = "0123abcd-4567-89ef-0123-456789abcdef";
    static const char *const none[] = {"",
                                       "0123ABCD-4567-89ef-0123-456789abcdef",
                                       "0123abcd4567-89ef-0123-456789abcdef-",
                                       "0123abcd-4567-89ef-0123-456789abcdeg",
                                       "0123abcd-4567-89ef-0123-456789abcde",
                                       "------------------------------------"};
    char text[CQL_UUID_TEXT];

    (void)state;
    assert_true(cql_append_text_value(&out, CQL_TYPE_UUID, slice_of(uuid)));
    assert_true(
        slice_equal(buffer_slice(&out), BYTES("\x01\x23\xAB\xCD\x45\x67\x89\xEF\x01\x23\x45\x67\x89\xAB\xCD\xEF")));
    assert_true(cql_uuid_text(buffer_slice(&out), text));
    assert_string_equal(text, uuid);
    assert_false(cql_uuid_text(BYTES("\x01"), text));
    out.length = 0;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(cql_append_text_value(&out, CQL_TYPE_TIMEUUID, slice_of(none[i])));
    assert_false(cql_append_text_value(&out, CQL_TYPE_ASCII, SLICE("\xC3\xA4")));
    assert_false(cql_append_text_value(&out, CQL_TYPE_INT, SLICE("1")));
    assert_int_equal(out.length, 0);
    assert_true(cql_append_text_value(&out, CQL_TYPE_VARCHAR, SLICE("\xC3\xA4")));
    assert_true(cql_append_text_value(&out, CQL_TYPE_BLOB, SLICE("b")));
    assert_true(slice_equal(buffer_slice(&out), SLICE("\xC3\xA4"
                                                      "b")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_have_the_names_of_the_schema),
        cmocka_unit_test_setup_teardown(a_number_is_written_as_its_type_has_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_varint_has_the_fewest_bytes_that_keep_the_sign, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_largest_number_is_minus_one_where_32_bits_have_a_sign, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_type_cannot_hold_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_of_every_type_come_back, set_up, tear_down),
        cmocka_unit_test(a_value_that_is_no_whole_number_of_its_type_is_unreadable),
        cmocka_unit_test_setup_teardown(a_flag_is_written_as_its_type_has_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_text_is_written_where_it_reads_the_same_again, set_up, tear_down),
    };

    return cmocka_run_group_tests_name("cql_value", tests, NULL, NULL);
}
