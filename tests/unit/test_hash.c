#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"

/* SipHash-1-3 of the bytes 1, 8, 15, ... with a zero key: the results of CPython's hash() with PYTHONHASHSEED=0. */
static const struct {
    size_t length;
    uint64_t hash;
} vectors[] = {
    {1, 0x44bc103b1f8540edu},  {2, 0xb238744ea7a5a1d0u},  {3, 0x58c04bf1747a31b8u},  {4, 0x2427d2b30edc6058u},
    {5, 0x63b01940e2c889f5u},  {6, 0x59628e596094307du},  {7, 0xb41012aeee05c7d4u},  {8, 0xd22d9341176d0728u},
    {9, 0x4ec42971d570753bu},  {10, 0x55a2916dca97788cu}, {11, 0x81f8af19b2ff26b2u}, {12, 0xa1a02b08c8ebdfdcu},
    {13, 0xa8ac01ec1bdd3cbbu}, {14, 0xe8f7b093bd3ad4a8u}, {15, 0x566f711d32f59152u}, {16, 0x7e6bfb8bf1d36ac4u},
    {17, 0xe11516de8399dc83u}, {18, 0xc69b303c30dba756u}, {19, 0x45748664892af7bdu},
};

static void before_a_key_is_drawn_it_is_siphash_1_3_with_a_key_of_zeros(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char *text = malloc(vectors[i].length);
        assert_non_null(text);
        for (size_t at = 0; at < vectors[i].length; at++)
            text[at] = (char)(at * 7 + 1);
        assert_int_equal(hash_bytes((struct slice){text, vectors[i].length}), vectors[i].hash);
        free(text);
    }
}

static void a_drawn_key_changes_every_hash_and_then_stays(void **state) {
    uint64_t before = hash_bytes(SLICE("presence-room")), first, second;

    (void)state;
    hash_seed();
    first = hash_bytes(SLICE("presence-room"));
    assert_int_equal(hash_bytes(SLICE("presence-room")), first);
    assert_int_not_equal(first, before);
    hash_seed();
    second = hash_bytes(SLICE("presence-room"));
    assert_int_not_equal(second, first);
    assert_int_equal(hash_bytes(SLICE("presence-room")), second);
}

static void the_place_in_memory_does_not_matter(void **state) {
    char room[64];
    uint64_t wanted = hash_bytes(SLICE("a name of 28 bytes in memory"));

    (void)state;
    for (size_t offset = 0; offset < 16; offset++) {
        memcpy(room + offset, "a name of 28 bytes in memory", 28);
        assert_int_equal(hash_bytes((struct slice){room + offset, 28}), wanted);
    }
}

static void texts_that_differ_in_zero_bytes_at_the_end_differ(void **state) {
    static const char zeros[32];

    (void)state;
    for (size_t a = 0; a < sizeof zeros; a++)
        for (size_t b = 0; b < a; b++)
            assert_int_not_equal(hash_bytes((struct slice){zeros, a}), hash_bytes((struct slice){zeros, b}));
    assert_int_equal(hash_bytes((struct slice){NULL, 0}), hash_bytes((struct slice){zeros, 0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_a_key_is_drawn_it_is_siphash_1_3_with_a_key_of_zeros),
        cmocka_unit_test(a_drawn_key_changes_every_hash_and_then_stays),
        cmocka_unit_test(the_place_in_memory_does_not_matter),
        cmocka_unit_test(texts_that_differ_in_zero_bytes_at_the_end_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
