#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/websocket_frame.h"

static const uint8_t opcodes[] = {WEBSOCKET_CONTINUATION, WEBSOCKET_TEXT, WEBSOCKET_BINARY,
                                  WEBSOCKET_CLOSE,        WEBSOCKET_PING, WEBSOCKET_PONG};

static bool compression; /* compression was negotiated */

/* Writes a client's header and returns its size. `form` is the number of length bytes: 0 (7 bits), 2 or 8. */
static size_t write_header(uint8_t *out, uint8_t first, size_t form, uint64_t length) {
    size_t at = 2;

    out[0] = first;
    out[1] = (uint8_t)(0x80 | (form == 0 ? length : form == 2 ? 126 : 127));
    for (size_t i = form; i-- > 0;)
        out[at++] = (uint8_t)(length >> 8 * i);
    memcpy(out + at, "\x11\x22\x33\x44", 4);
    return at + 4;
}

/* Parses a copy of exact size, so that AddressSanitizer detects a read past its end. */
static enum websocket_parse parse(const uint8_t *data, size_t length, struct websocket_frame *frame, const char **why) {
    uint8_t *copy = malloc(length != 0 ? length : 1);
    enum websocket_parse result;

    assert_non_null(copy);
    memcpy(copy, data, length);
    *why = NULL;
    result = websocket_frame_parse(copy, length, compression, frame, why);
    if ((result == WEBSOCKET_FRAME_BAD) != (*why != NULL))
        fail_msg("a reason comes with a bad frame, and only then");
    free(copy);
    return result;
}

static void assert_ready(uint8_t first, size_t form, uint64_t length) {
    struct websocket_frame frame;
    uint8_t header[16] = {0};
    const char *why;
    size_t size = write_header(header, first, form, length);

    for (size_t available = 0; available < size; available++)
        assert_int_equal(parse(header, available, &frame, &why), WEBSOCKET_FRAME_INCOMPLETE);
    for (size_t available = size; available <= sizeof header; available++) {
        assert_int_equal(parse(header, available, &frame, &why), WEBSOCKET_FRAME_READY);
        assert_int_equal(frame.opcode, first & 0x0F);
        assert_int_equal(frame.fin, first >> 7);
        assert_true(frame.length == length);
        assert_int_equal(frame.header_length, size);
        assert_memory_equal(frame.mask, "\x11\x22\x33\x44", 4);
    }
}

static void assert_bad(uint8_t first, size_t form, uint64_t length, const char *reason) {
    struct websocket_frame frame;
    uint8_t header[16];
    const char *why;
    size_t size = write_header(header, first, form, length);

    assert_int_equal(parse(header, size, &frame, &why), WEBSOCKET_FRAME_BAD);
    if (strstr(why, reason) == NULL)
        fail_msg("\"%s\" does not speak of \"%s\"", why, reason);
}

static void every_length_form_is_read_once_it_is_complete(void **state) {
    static const uint64_t two[] = {126, 127, 128, 255, 256, 65534, 65535};
    static const uint64_t eight[] = {65536,    65537, 1u << 20, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 62,
                                     INT64_MAX};

    (void)state;
    for (uint64_t length = 0; length <= 125; length++)
        assert_ready(0x81, 0, length);
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++)
        assert_ready(0x82, 2, two[i]);
    for (size_t i = 0; i < sizeof eight / sizeof eight[0]; i++)
        assert_ready(0x01, 8, eight[i]);
}

static void every_opcode_is_read_with_and_without_fin(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof opcodes; i++) {
        assert_ready(0x80 | opcodes[i], 0, 5);
        if (opcodes[i] < WEBSOCKET_CLOSE)
            assert_ready(opcodes[i], 0, 5);
    }
}

static void unknown_opcodes_are_refused(void **state) {
    (void)state;
    for (uint8_t opcode = 3; opcode < 16; opcode++)
        if (opcode < 8 || opcode > 10) {
            assert_bad(0x80 | opcode, 0, 1, "opcode");
            assert_bad(opcode, 0, 1, "opcode");
        }
}

static void reserved_bits_are_refused(void **state) {
    (void)state;
    for (uint8_t bits = 1; bits < 8; bits++)
        for (size_t i = 0; i < sizeof opcodes; i++)
            assert_bad((uint8_t)(0x80 | bits << 4 | opcodes[i]), 0, 1, "reserved");
}

static void with_compression_the_first_reserved_bit_may_be_set_where_a_message_begins(void **state) {
    struct websocket_frame frame;
    const char *why;

    (void)state;
    compression = true;
    for (size_t i = 0; i < sizeof opcodes; i++) {
        bool begins = opcodes[i] == WEBSOCKET_TEXT || opcodes[i] == WEBSOCKET_BINARY;
        if (begins)
            assert_ready(0xC0 | opcodes[i], 0, 5);
        else
            assert_bad(0xC0 | opcodes[i], 0, 5, "reserved");
        for (uint8_t bits = 1; bits < 8; bits++)
            if (bits != 4)
                assert_bad((uint8_t)(0x80 | bits << 4 | opcodes[i]), 0, 1, "reserved");
    }
    assert_int_equal(parse((const uint8_t *)"\xC1\x80\x00\x00\x00\x00", 6, &frame, &why), WEBSOCKET_FRAME_READY);
    assert_true(frame.compressed);
    assert_int_equal(parse((const uint8_t *)"\x81\x80\x00\x00\x00\x00", 6, &frame, &why), WEBSOCKET_FRAME_READY);
    assert_false(frame.compressed);
    compression = false;
}

static void a_written_header_is_read_back(void **state) {
    static const uint64_t lengths[] = {0, 1, 125, 126, 65535, 65536, UINT64_C(1) << 40};
    uint8_t header[WEBSOCKET_HEADER_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t length;
        size_t size = websocket_header_write(header, WEBSOCKET_TEXT, lengths[i]);
        assert_int_equal(websocket_header_read(header, &length), size);
        assert_true(length == lengths[i]);
    }
}

static void control_frames_are_whole_and_short(void **state) {
    (void)state;
    for (size_t i = 3; i < sizeof opcodes; i++) {
        assert_ready(0x80 | opcodes[i], 0, 0);
        assert_ready(0x80 | opcodes[i], 0, 125);
        assert_bad(opcodes[i], 0, 5, "fragmented");
        assert_bad(0x80 | opcodes[i], 2, 126, "125");
        assert_bad(0x80 | opcodes[i], 2, 5, "125");
        assert_bad(0x80 | opcodes[i], 8, 1u << 16, "125");
    }
}

static void a_length_that_has_a_shorter_form_is_refused(void **state) {
    (void)state;
    assert_bad(0x81, 2, 0, "shortest");
    assert_bad(0x81, 2, 125, "shortest");
    assert_bad(0x81, 8, 0, "shortest");
    assert_bad(0x81, 8, 125, "shortest");
    assert_bad(0x81, 8, 126, "shortest");
    assert_bad(0x81, 8, 65535, "shortest");
}

static void a_length_with_its_top_bit_set_is_refused(void **state) {
    (void)state;
    assert_bad(0x81, 8, UINT64_C(1) << 63, "top bit");
    assert_bad(0x81, 8, UINT64_MAX, "top bit");
}

static void what_the_first_two_bytes_give_away_is_not_waited_for(void **state) {
    struct websocket_frame frame;
    const char *why;

    (void)state;
    assert_int_equal(parse((const uint8_t *)"\x81\x05", 2, &frame, &why), WEBSOCKET_FRAME_BAD);
    assert_non_null(strstr(why, "mask"));
    assert_int_equal(parse((const uint8_t *)"\x81\x7F", 2, &frame, &why), WEBSOCKET_FRAME_BAD);
    assert_int_equal(parse((const uint8_t *)"\xC1\x85", 2, &frame, &why), WEBSOCKET_FRAME_BAD);
    assert_int_equal(parse((const uint8_t *)"\x83\x85", 2, &frame, &why), WEBSOCKET_FRAME_BAD);
    assert_int_equal(parse((const uint8_t *)"\x09\x85", 2, &frame, &why), WEBSOCKET_FRAME_BAD);
    assert_int_equal(parse((const uint8_t *)"\x89\xFE", 2, &frame, &why), WEBSOCKET_FRAME_BAD);
}

static void the_text_of_rfc_6455_unmasks(void **state) {
    uint8_t data[] = {0x7F, 0x9F, 0x4D, 0x51, 0x58}; /* section 5.7: a masked "Hello" */

    (void)state;
    websocket_unmask(data, sizeof data, (const uint8_t[]){0x37, 0xFA, 0x21, 0x3D}, 0);
    assert_memory_equal(data, "Hello", 5);
}

static void masking_matches_byte_by_byte_at_every_alignment_and_undoes_itself(void **state) {
    static const uint8_t mask[4] = {0x9D, 0x01, 0xFE, 0x72};
    uint8_t room[160], before[160];

    (void)state;
    for (size_t offset = 0; offset < 32; offset++)
        for (size_t length = 0; length <= 100; length++) {
            for (size_t i = 0; i < sizeof room; i++)
                room[i] = before[i] = (uint8_t)(i * 53 + length);
            websocket_unmask(room + offset, length, mask, 0);
            for (size_t i = 0; i < sizeof room; i++) {
                bool inside = i >= offset && i < offset + length;
                assert_int_equal(room[i], before[i] ^ (inside ? mask[(i - offset) % 4] : 0));
            }
            /* In two pieces. */
            websocket_unmask(room + offset, length / 3, mask, 0);
            websocket_unmask(room + offset + length / 3, length - length / 3, mask, length / 3);
            assert_memory_equal(room, before, sizeof room);
        }
}

static void a_written_header_is_as_short_as_it_can_be(void **state) {
    static const struct {
        uint64_t length;
        size_t size;
        uint8_t bytes[10];
    } rows[] = {
        {0, 2, {0x81, 0}},
        {125, 2, {0x81, 125}},
        {126, 4, {0x81, 126, 0, 126}},
        {65535, 4, {0x81, 126, 0xFF, 0xFF}},
        {65536, 10, {0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
        {INT64_MAX, 10, {0x81, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}},
    };
    uint8_t header[WEBSOCKET_HEADER_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(websocket_header_write(header, WEBSOCKET_TEXT, rows[i].length), rows[i].size);
        assert_memory_equal(header, rows[i].bytes, rows[i].size);
    }
    for (size_t i = 0; i < sizeof opcodes; i++) {
        websocket_header_write(header, (enum websocket_opcode)opcodes[i], 1);
        assert_int_equal(header[0], 0x80 | opcodes[i]);
    }
}

static void a_written_header_reads_back_once_it_is_masked(void **state) {
    struct websocket_frame frame;
    const char *why;

    (void)state;
    for (unsigned bit = 0; bit < 63; bit++)
        for (int around = -1; around <= 1; around++) {
            uint64_t length = (UINT64_C(1) << bit) + (uint64_t)(int64_t)around;
            uint8_t header[WEBSOCKET_HEADER_MAX + 4] = {0};
            size_t size = websocket_header_write(header, WEBSOCKET_TEXT, length);
            header[1] |= 0x80;
            assert_int_equal(parse(header, size + 4, &frame, &why), WEBSOCKET_FRAME_READY);
            assert_true(frame.length == length);
            assert_true(frame.fin);
            assert_int_equal(frame.header_length, size + 4);
        }
}

static void close_codes_are_those_that_may_travel(void **state) {
    (void)state;
    for (unsigned code = 0; code <= 70000; code++) {
        bool wanted = (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
                      (code >= 3000 && code <= 4999);
        assert_int_equal(websocket_close_code_valid(code), wanted);
    }
}

static void the_handshake_answers_as_in_rfc_6455(void **state) {
    char accept[28];

    (void)state;
    assert_true(websocket_accept_key(SLICE("dGhlIHNhbXBsZSBub25jZQ=="), accept)); /* section 1.3 */
    assert_memory_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof accept);
    assert_true(websocket_accept_key(SLICE("x3JJHMbDL1EzLkh9GBhXDw=="), accept));
    assert_memory_equal(accept, "HSmrc0sMlYUkAGmm5OPpG2HaGWk=", sizeof accept);
    assert_true(websocket_accept_key(SLICE("+/+/+/+/+/+/+/+/+/+/+w=="), accept));
}

static void a_key_that_is_not_16_bytes_in_base64_is_refused(void **state) {
    static const char *const keys[] = {
        "",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZQAA",
        "dGhlIHNhbXBsZSBub25jZQA=",
        "dGhlIHNhbXBsZSBub25jZ===",
        "dGhlIHNhbXBsZSBub25jZ Q==",
        "dGhlIHNhbXBs-SBub25jZQ==",
        "dGhlIHNhbXBs\xC3SBub25jZQ==",
        "dGhlIHNhbXBs=SBub25jZQ==",
        "dGhlIHNhbXBsZSBub25jZSBhbmQgbW9yZQ==",
    };
    char accept[28];

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (websocket_accept_key(slice_of(keys[i]), accept))
            fail_msg("%s", keys[i]);
    assert_false(websocket_accept_key((struct slice){NULL, 0}, accept));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length_form_is_read_once_it_is_complete),
        cmocka_unit_test(every_opcode_is_read_with_and_without_fin),
        cmocka_unit_test(unknown_opcodes_are_refused),
        cmocka_unit_test(reserved_bits_are_refused),
        cmocka_unit_test(with_compression_the_first_reserved_bit_may_be_set_where_a_message_begins),
        cmocka_unit_test(a_written_header_is_read_back),
        cmocka_unit_test(control_frames_are_whole_and_short),
        cmocka_unit_test(a_length_that_has_a_shorter_form_is_refused),
        cmocka_unit_test(a_length_with_its_top_bit_set_is_refused),
        cmocka_unit_test(what_the_first_two_bytes_give_away_is_not_waited_for),
        cmocka_unit_test(the_text_of_rfc_6455_unmasks),
        cmocka_unit_test(masking_matches_byte_by_byte_at_every_alignment_and_undoes_itself),
        cmocka_unit_test(a_written_header_is_as_short_as_it_can_be),
        cmocka_unit_test(a_written_header_reads_back_once_it_is_masked),
        cmocka_unit_test(close_codes_are_those_that_may_travel),
        cmocka_unit_test(the_handshake_answers_as_in_rfc_6455),
        cmocka_unit_test(a_key_that_is_not_16_bytes_in_base64_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
