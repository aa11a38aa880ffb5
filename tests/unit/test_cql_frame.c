/* Frames of the CQL protocol: headers as nodes send them, results with all kinds of columns, and what is cut short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "store/scylladb/cql/cql_frame.h"

#define GLOBAL_TABLE 1u
#define MORE_PAGES 2u
#define NO_METADATA 4u

static struct cql_rows rows;
static struct error error;

static bool read_header(uint8_t version, uint8_t flags, uint32_t length, struct cql_header *header) {
    const uint8_t bytes[CQL_HEADER_BYTES] = {
        version,
        flags,
        0x12,
        0x34,
        CQL_OPCODE_RESULT,
        (uint8_t)(length >> 24),
        (uint8_t)(length >> 16),
        (uint8_t)(length >> 8),
        (uint8_t)length,
    };

    return cql_read_header(bytes, header, &error);
}

/* Reads a copy of just this size, so that a sanitizer notices who reads beyond it. */
static bool read_rows_of(const struct buffer *body, size_t length) {
    static uint8_t *copy;

    free(copy);
    copy = malloc(length + 1);
    assert_non_null(copy);
    memcpy(copy, body->data, length);
    return cql_read_rows((struct cql_reader){copy, copy + length, false}, &rows, &error);
}

static void append_head(struct buffer *out, uint32_t flags, uint32_t columns) {
    cql_append_int(out, flags);
    cql_append_int(out, columns);
    if ((flags & MORE_PAGES) != 0)
        cql_append_bytes(out, SLICE("page"));
    if ((flags & GLOBAL_TABLE) != 0) {
        cql_append_string(out, SLICE("keyspace"));
        cql_append_string(out, SLICE("table"));
    }
}

static void append_column(struct buffer *out, const char *name, uint16_t type) {
    cql_append_string(out, slice_of(name));
    cql_append_short(out, type);
}

static void assert_value(const char *expected) {
    struct slice value;

    assert_int_equal(cql_read_bytes(&rows.reader, &value), expected != NULL);
    if (expected != NULL)
        assert_true(slice_equal(value, slice_of(expected)));
}

/* --- headers --- */

static void a_request_bears_its_version_stream_and_length(void **state) {
    const uint8_t expected[] = {0x04, 0, 0x01, 0x02, CQL_OPCODE_QUERY, 0, 0, 0, 7, 0, 0, 0, 3, 'a', 'b', 'c'};
    struct buffer out = {0};

    (void)state;
    buffer_append_string(&out, "what was there");
    cql_begin_frame(&out, CQL_OPCODE_QUERY, 0x0102);
    cql_append_long_string(&out, SLICE("abc"));
    cql_end_frame(&out);
    assert_int_equal(out.length, sizeof expected);
    assert_memory_equal(out.data, expected, sizeof expected);
    buffer_dispose(&out);
}

static void an_answer_of_version_4_is_taken_apart(void **state) {
    struct cql_header header;

    (void)state;
    assert_true(read_header(0x84, 0x08, CQL_BODY_MAX_BYTES, &header));
    assert_int_equal(header.flags, 0x08);
    assert_int_equal(header.stream, 0x1234);
    assert_int_equal(header.opcode, CQL_OPCODE_RESULT);
    assert_int_equal(header.length, CQL_BODY_MAX_BYTES);
}

static void another_version_and_another_protocol_are_told_apart(void **state) {
    struct cql_header header;

    (void)state;
    assert_false(read_header(0x83, 0, 0, &header));
    assert_string_equal(error.text, "the node speaks version 3 of the CQL protocol, and not 4");
    assert_false(read_header(0x85, 0, 0, &header));
    assert_string_equal(error.text, "the node speaks version 5 of the CQL protocol, and not 4");
    assert_false(read_header('H', 'T', 0, &header));
    assert_string_equal(error.text, "the other side does not speak the CQL protocol");
}

static void what_is_compressed_or_too_long_is_refused(void **state) {
    struct cql_header header;

    (void)state;
    assert_false(read_header(0x84, 0x01, 0, &header));
    assert_string_equal(error.text, "a compressed answer, although compression was not negotiated");
    assert_false(read_header(0x84, 0, CQL_BODY_MAX_BYTES + 1, &header));
    assert_string_equal(error.text, "an answer of 16777217 bytes is too long");
    assert_false(read_header(0x84, 0, UINT32_C(1) << 31, &header));
    assert_string_equal(error.text, "an answer of 2147483648 bytes is too long");
}

static void tracing_warnings_and_payload_are_passed_over(void **state) {
    const uint8_t tracing[16] = {0};
    struct buffer body = {0};
    struct cql_reader reader;

    (void)state;
    buffer_append_bytes(&body, tracing, sizeof tracing);
    cql_append_short(&body, 2);
    cql_append_string(&body, SLICE("a warning"));
    cql_append_string(&body, SLICE(""));
    cql_append_short(&body, 2);
    cql_append_string(&body, SLICE("name"));
    cql_append_bytes(&body, SLICE("bytes"));
    cql_append_string(&body, SLICE("nothing"));
    cql_append_bytes(&body, (struct slice){NULL, 0});
    cql_append_int(&body, 42);
    reader = (struct cql_reader){(const uint8_t *)body.data, (const uint8_t *)body.data + body.length, false};
    cql_skip_extras(&reader, 0x02 | 0x04 | 0x08);
    assert_int_equal(cql_read_int(&reader), 42);
    assert_false(reader.failed);
    assert_ptr_equal(reader.at, reader.end);
    buffer_dispose(&body);
}

static void reading_beyond_the_end_gives_nothing_and_is_remembered(void **state) {
    const uint8_t bytes[] = {0, 0, 0, 9, 'x'};
    struct cql_reader reader = {bytes, bytes + sizeof bytes, false};
    struct slice value;

    (void)state;
    assert_false(cql_read_bytes(&reader, &value));
    assert_true(reader.failed);
    assert_int_equal(cql_read_int(&reader), 0);
    assert_int_equal(cql_read_byte(&reader), 0);
    assert_int_equal(cql_read_string(&reader).length, 0);
}

/* --- rows --- */

static void rows_are_read_with_their_columns_and_nulls(void **state) {
    struct buffer body = {0};

    (void)state;
    append_head(&body, GLOBAL_TABLE | MORE_PAGES, 2);
    append_column(&body, "id", CQL_TYPE_VARCHAR);
    append_column(&body, "origins", CQL_TYPE_SET);
    cql_append_short(&body, CQL_TYPE_ASCII);
    cql_append_int(&body, 2);
    cql_append_bytes(&body, SLICE("one"));
    cql_append_bytes(&body, (struct slice){NULL, 0});
    cql_append_bytes(&body, SLICE("two"));
    cql_append_bytes(&body, SLICE("-"));
    assert_true(read_rows_of(&body, body.length));
    assert_int_equal(rows.row_count, 2);
    assert_int_equal(rows.column_count, 2);
    assert_true(slice_equal(rows.columns[1].name, SLICE("origins")));
    assert_int_equal(rows.columns[0].type, CQL_TYPE_VARCHAR);
    assert_int_equal(rows.columns[1].type, CQL_TYPE_SET);
    assert_int_equal(rows.columns[1].element, CQL_TYPE_ASCII);
    assert_true(slice_equal(rows.paging_state, SLICE("page")));
    assert_value("one");
    assert_value(NULL);
    assert_value("two");
    assert_value("-");
    buffer_dispose(&body);
}

static void columns_of_any_type_are_passed_over(void **state) {
    struct buffer body = {0};

    (void)state;
    append_head(&body, 0, 5);
    for (unsigned i = 0; i < 5; i++) {
        static const uint16_t types[] = {CQL_TYPE_CUSTOM, CQL_TYPE_MAP, CQL_TYPE_UDT, CQL_TYPE_TUPLE, 0x0015};
        cql_append_string(&body, SLICE("keyspace"));
        cql_append_string(&body, SLICE("table"));
        append_column(&body, "a", types[i]);
        if (types[i] == CQL_TYPE_CUSTOM)
            cql_append_string(&body, SLICE("org.example.Type"));
        if (types[i] == CQL_TYPE_UDT) {
            cql_append_string(&body, SLICE("keyspace"));
            cql_append_string(&body, SLICE("type"));
        }
        if (types[i] == CQL_TYPE_UDT || types[i] == CQL_TYPE_TUPLE)
            cql_append_short(&body, 1);
        if (types[i] == CQL_TYPE_UDT)
            cql_append_string(&body, SLICE("field"));
        if (types[i] >= CQL_TYPE_LIST)
            cql_append_short(&body, CQL_TYPE_INT);
        if (types[i] == CQL_TYPE_MAP)
            cql_append_short(&body, CQL_TYPE_VARCHAR);
    }
    cql_append_int(&body, 1);
    for (unsigned i = 0; i < 5; i++)
        cql_append_bytes(&body, SLICE("v"));
    assert_true(read_rows_of(&body, body.length));
    for (unsigned i = 0; i < 5; i++)
        assert_value("v");
    buffer_dispose(&body);
}

static void an_answer_cut_anywhere_is_refused(void **state) {
    struct buffer body = {0};

    (void)state;
    append_head(&body, GLOBAL_TABLE | MORE_PAGES, 1);
    append_column(&body, "id", CQL_TYPE_LIST);
    cql_append_short(&body, CQL_TYPE_VARCHAR);
    cql_append_int(&body, 3);
    for (unsigned i = 0; i < 3; i++)
        cql_append_bytes(&body, SLICE("value"));
    assert_true(read_rows_of(&body, body.length));
    for (size_t length = 0; length < body.length; length++) {
        assert_false(read_rows_of(&body, length));
        assert_int_equal(rows.row_count, 0);
    }
    buffer_dispose(&body);
}

static void counts_that_nothing_stands_behind_are_refused(void **state) {
    static const struct {
        uint32_t flags, columns, row_count;
    } cases[] = {
        {GLOBAL_TABLE, 0, 1}, {GLOBAL_TABLE, 0, UINT32_MAX}, {GLOBAL_TABLE, UINT32_MAX, 0}, {GLOBAL_TABLE, 257, 0},
        {NO_METADATA, 1, 0},  {GLOBAL_TABLE, 1, UINT32_MAX}, {GLOBAL_TABLE, 1, 0x40000001},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buffer body = {0};
        append_head(&body, cases[i].flags, cases[i].columns);
        if (cases[i].columns == 1)
            append_column(&body, "id", CQL_TYPE_INT);
        cql_append_int(&body, cases[i].row_count);
        cql_append_bytes(&body, SLICE("v"));
        assert_false(read_rows_of(&body, body.length));
        buffer_dispose(&body);
    }
}

static void types_within_types_do_not_nest_without_end(void **state) {
    struct buffer body = {0};

    (void)state;
    append_head(&body, GLOBAL_TABLE, 1);
    append_column(&body, "id", CQL_TYPE_LIST);
    for (unsigned i = 0; i < 100000; i++)
        cql_append_short(&body, CQL_TYPE_LIST);
    assert_false(read_rows_of(&body, body.length));
    buffer_dispose(&body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_bears_its_version_stream_and_length),
        cmocka_unit_test(an_answer_of_version_4_is_taken_apart),
        cmocka_unit_test(another_version_and_another_protocol_are_told_apart),
        cmocka_unit_test(what_is_compressed_or_too_long_is_refused),
        cmocka_unit_test(tracing_warnings_and_payload_are_passed_over),
        cmocka_unit_test(reading_beyond_the_end_gives_nothing_and_is_remembered),
        cmocka_unit_test(rows_are_read_with_their_columns_and_nulls),
        cmocka_unit_test(columns_of_any_type_are_passed_over),
        cmocka_unit_test(an_answer_cut_anywhere_is_refused),
        cmocka_unit_test(counts_that_nothing_stands_behind_are_refused),
        cmocka_unit_test(types_within_types_do_not_nest_without_end),
    };

    return cmocka_run_group_tests_name("cql_frame", tests, NULL, NULL);
}
