/* permessage-deflate: acceptance and answers of offers, compression and decompression of messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "harness.h"
#include "net/deflate.h"

/* --- negotiation --- */

static void assert_answer(const char *offers, uint8_t window_bits, const char *expected) {
    struct deflate_agreement agreement;
    struct buffer answer = {0};
    const char *got = "declined";

    if (deflate_negotiate(slice_of(offers), window_bits, &agreement)) {
        deflate_append_answer(&answer, &agreement);
        buffer_append_byte(&answer, '\0');
        got = answer.data + strlen("Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover");
    }
    if (strcmp(got, expected) != 0)
        fail_msg("%s (%u bits): %s in place of %s", offers, window_bits, got, expected);
    buffer_dispose(&answer);
}

static void an_offer_is_accepted_with_what_it_asks_for(void **state) {
    (void)state;
    /* Without windows: each message alone, with the largest window. */
    assert_answer("permessage-deflate", 0, "; server_no_context_takeover\r\n");
    assert_answer("permessage-deflate; client_max_window_bits", 0, "; server_no_context_takeover\r\n");
    assert_answer("Permessage-Deflate;client_max_window_bits=10;client_no_context_takeover", 0,
                  "; server_no_context_takeover\r\n");
    assert_answer("permessage-deflate; server_no_context_takeover", 0, "; server_no_context_takeover\r\n");
    assert_answer("permessage-deflate; server_max_window_bits=15", 0,
                  "; server_no_context_takeover; server_max_window_bits=15\r\n");
    /* With a window for each connection. */
    assert_answer("permessage-deflate", 15, "\r\n");
    assert_answer("permessage-deflate", 9, "\r\n");
    assert_answer("permessage-deflate; server_max_window_bits=10", 15, "; server_max_window_bits=10\r\n");
    assert_answer("permessage-deflate; server_max_window_bits=\"12\"", 10, "; server_max_window_bits=10\r\n");
    assert_answer("permessage-deflate; server_no_context_takeover", 12, "; server_no_context_takeover\r\n");
    assert_answer("permessage-deflate; server_max_window_bits=9", 15, "; server_max_window_bits=9\r\n");
    assert_answer("permessage-deflate; server_no_context_takeover; server_max_window_bits=9", 15,
                  "; server_no_context_takeover; server_max_window_bits=9\r\n");
    assert_answer("permessage-deflate; server_no_context_takeover; server_max_window_bits=15", 12,
                  "; server_no_context_takeover; server_max_window_bits=15\r\n");
}

static void the_first_offer_that_can_be_accepted_counts(void **state) {
    (void)state;
    assert_answer("permessage-bzip2, permessage-deflate", 0, "; server_no_context_takeover\r\n");
    assert_answer("permessage-deflate; server_max_window_bits=8 , permessage-deflate; server_max_window_bits=11", 15,
                  "; server_max_window_bits=11\r\n");
    assert_answer("permessage-deflate; server_max_window_bits=10, permessage-deflate", 0,
                  "; server_no_context_takeover\r\n");
    assert_answer("x-own; a=\"b\"; c, permessage-deflate; mystery, permessage-deflate", 15, "\r\n");
}

static void what_is_not_understood_is_declined(void **state) {
    static const char *const offers[] = {
        "",
        ",",
        "permessage-bzip2",
        "permessage-deflate-2",
        "permessage-deflate; mystery",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=9x",
        "permessage-deflate; server_max_window_bits=99999999999999999999",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits=\"1 0\"",
        "permessage-deflate;",
        "permessage-deflate; ; client_max_window_bits",
        "\"permessage-deflate\"",
        "permessage-deflate client_max_window_bits",
    };

    (void)state;
    for (size_t i = 0; i < sizeof offers / sizeof offers[0]; i++)
        assert_answer(offers[i], 15, "declined");
    assert_answer("permessage-deflate; server_max_window_bits=14", 0, "declined");
}

/* --- messages --- */

static struct deflate_tools *tools;

static int set_up(void **state) {
    (void)state;
    tools = deflate_tools_create();
    return tools != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    deflate_tools_destroy(tools);
    return 0;
}

static struct slice random_text(char *text, size_t length, uint64_t *seed) {
    for (size_t i = 0; i < length; i++)
        text[i] = (char)('a' + harness_random(seed, i % 7 == 0 ? 26 : 3));
    return (struct slice){text, length};
}

static void a_message_comes_back_as_it_was(void **state) {
    static const size_t lengths[] = {0, 1, 31, 32, 1000, 16383, 16384, 16385, 70000, 1000000};
    char *text = malloc(1000000);
    uint64_t seed = 5;

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct slice message = random_text(text, lengths[i], &seed), compressed, back;
        assert_true(deflate_message(tools, NULL, message, &compressed));
        if (lengths[i] >= 1000)
            assert_true(compressed.length < lengths[i] * 2 / 3);
        assert_int_equal(inflate_message(tools, compressed, lengths[i], &back), INFLATE_OK);
        assert_true(slice_equal(back, message));
        if (lengths[i] != 0)
            assert_int_equal(inflate_message(tools, compressed, lengths[i] - 1, &back), INFLATE_TOO_LARGE);
    }
    free(text);
}

static void a_message_that_does_not_compress_comes_back_too(void **state) {
    char noise[5000];
    uint64_t seed = 11;
    struct slice compressed, back;

    (void)state;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)harness_random(&seed, 256);
    assert_true(deflate_message(tools, NULL, (struct slice){noise, sizeof noise}, &compressed));
    assert_int_equal(inflate_message(tools, compressed, sizeof noise, &back), INFLATE_OK);
    assert_true(slice_equal(back, (struct slice){noise, sizeof noise}));
}

static void alone_the_same_message_is_always_the_same(void **state) {
    struct slice message = SLICE("{\"event\":\"e\",\"channel\":\"my-channel\",\"data\":\"hello hello hello\"}"),
                 compressed;
    char first[200];
    size_t length;

    (void)state;
    assert_true(deflate_message(tools, NULL, message, &compressed));
    length = compressed.length;
    memcpy(first, compressed.data, length);
    assert_true(deflate_message(tools, NULL, message, &compressed));
    assert_true(slice_equal(compressed, (struct slice){first, length}));
}

/* Decompresses as a client with context takeover: one stream for all messages. */
static void in_a_window_what_was_sent_before_counts_for_every_size_of_it(void **state) {
    static const uint8_t tail[] = {0, 0, 0xFF, 0xFF};

    (void)state;
    for (uint8_t bits = DEFLATE_WINDOW_BITS_MIN; bits <= DEFLATE_WINDOW_BITS_MAX; bits++) {
        struct deflate_window *window = deflate_window_create(bits, false, NULL);
        z_stream client = {0};
        size_t lengths[20];
        uint64_t seed = 3;
        char text[200];
        struct slice message = random_text(text, sizeof text, &seed);

        assert_non_null(window);
        assert_int_equal(inflateInit2(&client, -bits), Z_OK);
        for (size_t i = 0; i < 20; i++) {
            struct slice compressed;
            char back[400];
            text[0] = (char)('A' + i);
            assert_true(deflate_message(tools, window, message, &compressed));
            lengths[i] = compressed.length;
            client.next_out = (Bytef *)back;
            client.avail_out = sizeof back;
            client.next_in = (Bytef *)(uintptr_t)compressed.data;
            client.avail_in = (uInt)compressed.length;
            assert_int_equal(inflate(&client, Z_SYNC_FLUSH), Z_OK);
            client.next_in = (Bytef *)(uintptr_t)tail;
            client.avail_in = sizeof tail;
            inflate(&client, Z_SYNC_FLUSH);
            assert_int_equal(sizeof back - client.avail_out, message.length);
            assert_memory_equal(back, message.data, message.length);
        }
        assert_true(lengths[19] < lengths[0] / 2);
        inflateEnd(&client);
        deflate_window_destroy(window);
    }
}

/* The client told the size of its window, and that it starts each message with an empty one. */
static void without_context_takeover_a_window_keeps_nothing_between_messages(void **state) {
    struct deflate_agreement agreement = {.window_bits = 9, .no_context = true};
    struct deflate_window *window = deflate_window_create(agreement.window_bits, agreement.no_context, NULL);
    char text[3000], first[4000];
    size_t first_length;
    uint64_t seed = 5;
    struct slice message = random_text(text, sizeof text, &seed), compressed;

    (void)state;
    assert_non_null(window);
    assert_true(deflate_message(tools, window, message, &compressed));
    first_length = compressed.length;
    memcpy(first, compressed.data, first_length);
    for (int i = 0; i < 3; i++) {
        char back[4000];
        z_stream client = {.next_out = (Bytef *)back, .avail_out = sizeof back};
        assert_true(deflate_message(tools, window, message, &compressed));
        assert_int_equal(compressed.length, first_length);
        assert_memory_equal(compressed.data, first, first_length);
        client.next_in = (Bytef *)(uintptr_t)compressed.data;
        client.avail_in = (uInt)compressed.length;
        assert_int_equal(inflateInit2(&client, -9), Z_OK);
        assert_int_equal(inflate(&client, Z_SYNC_FLUSH), Z_OK);
        assert_int_equal(sizeof back - client.avail_out, message.length);
        assert_memory_equal(back, message.data, message.length);
        inflateEnd(&client);
    }
    deflate_window_destroy(window);
}

static void a_bomb_is_given_up_at_the_limit(void **state) {
    size_t length = 50000000;
    char *zeros = calloc(1, length);
    struct slice compressed, back;
    char *bomb;

    (void)state;
    assert_true(deflate_message(tools, NULL, (struct slice){zeros, length}, &compressed));
    assert_true(compressed.length < length / 500);
    bomb = malloc(compressed.length);
    memcpy(bomb, compressed.data, compressed.length);
    compressed.data = bomb;
    for (size_t max = 1; max < 100000; max = max * 3 + 1) {
        assert_int_equal(inflate_message(tools, compressed, max, &back), INFLATE_TOO_LARGE);
        assert_int_equal(back.length, max + 1);
    }
    free(bomb);
    free(zeros);
}

static void assert_inflates(const char *bytes, size_t length, enum inflate_answer answer, const char *expected) {
    struct slice back;

    assert_int_equal(inflate_message(tools, (struct slice){bytes, length}, 1000, &back), answer);
    if (answer == INFLATE_OK) {
        assert_int_equal(back.length, strlen(expected));
        assert_memory_equal(back.data, expected, back.length);
    }
}

/* The examples of RFC 7692 section 7.2.3. */
static void the_examples_of_the_standard_are_understood(void **state) {
    (void)state;
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, INFLATE_OK, "Hello");
    assert_inflates("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11, INFLATE_OK, "Hello"); /* no compression */
    assert_inflates("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8, INFLATE_OK, "Hello");              /* BFINAL */
    assert_inflates("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13, INFLATE_OK, "Hello"); /* two blocks */
    assert_inflates("\x00", 1, INFLATE_OK, "");
}

static void what_is_no_deflate_data_or_not_all_of_it_is_told(void **state) {
    (void)state;
    assert_inflates("\xff\xff\xff\xff", 4, INFLATE_BAD, NULL);
    assert_inflates("hello", 5, INFLATE_BAD, NULL);
    assert_inflates("\xf2\x48\xcd\xc9", 4, INFLATE_BAD, NULL);               /* ends inside a block */
    assert_inflates("\x00\x05\x00\xfa\xff\x48\x65", 7, INFLATE_BAD, NULL);   /* ends inside a stored block */
    assert_inflates("\xf2\x00\x11\x00\x00", 5, INFLATE_BAD, NULL);           /* refers to data before the start */
    assert_inflates("\xf2\x48\xcd\xc9\xc9\x07\x00", 7, INFLATE_OK, "Hello"); /* errors leave no state behind */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_offer_is_accepted_with_what_it_asks_for),
        cmocka_unit_test(the_first_offer_that_can_be_accepted_counts),
        cmocka_unit_test(what_is_not_understood_is_declined),
        TEST(a_message_comes_back_as_it_was),
        TEST(a_message_that_does_not_compress_comes_back_too),
        TEST(alone_the_same_message_is_always_the_same),
        TEST(in_a_window_what_was_sent_before_counts_for_every_size_of_it),
        TEST(without_context_takeover_a_window_keeps_nothing_between_messages),
        TEST(a_bomb_is_given_up_at_the_limit),
        TEST(the_examples_of_the_standard_are_understood),
        TEST(what_is_no_deflate_data_or_not_all_of_it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
