#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/crypto.h"

static void assert_hmac(struct slice secret, struct slice text, const char *wanted) {
    struct hmac_key key;
    char hex[HMAC_SHA256_HEX];

    hmac_key_init(&key, secret);
    hmac_sha256_hex(&key, &text, 1, hex);
    assert_memory_equal(hex, wanted, strlen(wanted));
}

static void hmac_gives_the_digests_of_rfc_4231(void **state) {
    char key[131], data[152];

    (void)state;
    memset(key, 0x0B, 20);
    assert_hmac((struct slice){key, 20}, SLICE("Hi There"),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    assert_hmac(SLICE("Jefe"), SLICE("what do ya want for nothing?"),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xAA, 20);
    memset(data, 0xDD, 50);
    assert_hmac((struct slice){key, 20}, (struct slice){data, 50},
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    for (int i = 0; i < 25; i++)
        key[i] = (char)(i + 1);
    memset(data, 0xCD, 50);
    assert_hmac((struct slice){key, 25}, (struct slice){data, 50},
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    memset(key, 0x0C, 20);
    assert_hmac((struct slice){key, 20}, SLICE("Test With Truncation"), "a3b6167473100ee06e0c796c2955552b");
    memset(key, 0xAA, 131);
    assert_hmac((struct slice){key, 131}, SLICE("Test Using Larger Than Block-Size Key - Hash Key First"),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    assert_hmac((struct slice){key, 131},
                SLICE("This is a test using a larger than block-size key and a larger than block-size data. "
                      "The key needs to be hashed before being used by the HMAC algorithm."),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void hmac_agrees_with_openssl_for_every_length_of_key_and_text(void **state) {
    unsigned char bytes[200], digest[EVP_MAX_MD_SIZE];
    unsigned digest_length;
    char hex[HMAC_SHA256_HEX], wanted[HMAC_SHA256_HEX + 1];
    struct hmac_key key;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 5);
    for (size_t key_length = 0; key_length <= 130; key_length++) {
        hmac_key_init(&key, (struct slice){(const char *)bytes, key_length});
        for (size_t length = 0; length < sizeof bytes; length++) {
            struct slice text = {(const char *)bytes, length};
            HMAC(EVP_sha256(), bytes, (int)key_length, bytes, length, digest, &digest_length);
            for (size_t i = 0; i < digest_length; i++)
                snprintf(wanted + 2 * i, 3, "%02x", digest[i]);
            hmac_sha256_hex(&key, &text, 1, hex);
            assert_memory_equal(hex, wanted, sizeof hex);
        }
    }
}

static void a_text_in_parts_signs_like_the_text_in_one(void **state) {
    struct slice text =
        SLICE("POST\n/apps/1/events\nauth_key=key&auth_timestamp=1700000000&auth_version=1.0&body_md5=0");
    char whole[HMAC_SHA256_HEX], hex[HMAC_SHA256_HEX];
    struct hmac_key key;

    (void)state;
    hmac_key_init(&key, SLICE("secret"));
    hmac_sha256_hex(&key, &text, 1, whole);
    for (size_t cut = 0; cut <= text.length; cut++) {
        struct slice parts[] = {{text.data, cut}, {NULL, 0}, slice_skip(text, cut)};
        hmac_sha256_hex(&key, parts, 3, hex);
        assert_memory_equal(hex, whole, sizeof hex);
    }
}

static void the_protocols_example_signature_comes_out(void **state) {
    /* The example of Pusher's documentation of private channels: app key 278d425bdf160c739803, this secret. */
    struct slice parts[] = {SLICE("1234.1234"), SLICE(":"), SLICE("private-foobar")};
    char hex[HMAC_SHA256_HEX];
    struct hmac_key key;

    (void)state;
    hmac_key_init(&key, SLICE("7ad3773142a6692b25b8"));
    hmac_sha256_hex(&key, parts, 3, hex);
    assert_memory_equal(hex, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4", sizeof hex);
}

static void md5_gives_the_digests_of_rfc_1321(void **state) {
    static const struct {
        const char *text, *digest;
    } vectors[] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "d174ab98d277d9f5a5611c2c9f419d9f"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a"},
    };
    char hex[MD5_HEX];

    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        md5_hex(slice_of(vectors[i].text), hex);
        assert_memory_equal(hex, vectors[i].digest, sizeof hex);
    }
}

static void sha1_comes_in_base64(void **state) {
    char base64[28];

    (void)state;
    sha1_base64((struct slice){NULL, 0}, base64);
    assert_memory_equal(base64, "2jmj7l5rSw0yVb/vlWAYkK/YBwk=", sizeof base64);
    sha1_base64(SLICE("abc"), base64); /* a9993e36 4706816a ba3e2571 7850c26c 9cd0d89d, FIPS 180-1 */
    assert_memory_equal(base64, "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", sizeof base64);
}

static void a_comparison_sees_every_bit(void **state) {
    char a[64], b[64];

    (void)state;
    memset(a, 'x', sizeof a);
    memcpy(b, a, sizeof b);
    assert_true(equal_in_constant_time((struct slice){a, 64}, (struct slice){b, 64}));
    assert_false(equal_in_constant_time((struct slice){a, 64}, (struct slice){b, 63}));
    assert_true(equal_in_constant_time((struct slice){NULL, 0}, (struct slice){NULL, 0}));
    for (size_t length = 1; length <= sizeof b; length++) {
        assert_true(equal_in_constant_time((struct slice){a, length}, (struct slice){b, length}));
        for (size_t i = 0; i < 8 * length; i++) {
            b[i / 8] = (char)(b[i / 8] ^ 1 << i % 8);
            assert_false(equal_in_constant_time((struct slice){a, length}, (struct slice){b, length}));
            b[i / 8] = (char)(b[i / 8] ^ 1 << i % 8);
        }
    }
}

static void random_bytes_fill_all_and_never_repeat(void **state) {
    unsigned char seen[64][16], large[5000];
    unsigned set = 0;

    (void)state;
    for (size_t i = 0; i < 64; i++) {
        random_bytes(seen[i], sizeof seen[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(seen[i], seen[j], sizeof seen[i]);
    }
    memset(large, 0, sizeof large);
    random_bytes(large, sizeof large);
    for (size_t at = 0; at < sizeof large; at += 50) { /* 50 zeros in a row mean that this part was not written */
        unsigned char any = 0;
        for (size_t i = 0; i < 50; i++)
            any |= large[at + i];
        assert_int_not_equal(any, 0);
    }
    for (size_t i = 0; i < sizeof large; i++)
        set += (unsigned)__builtin_popcount(large[i]);
    assert_in_range(set, 19000, 21000); /* 20000 +- 10 standard deviations */
    random_bytes(large, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hmac_gives_the_digests_of_rfc_4231),
        cmocka_unit_test(hmac_agrees_with_openssl_for_every_length_of_key_and_text),
        cmocka_unit_test(a_text_in_parts_signs_like_the_text_in_one),
        cmocka_unit_test(the_protocols_example_signature_comes_out),
        cmocka_unit_test(md5_gives_the_digests_of_rfc_1321),
        cmocka_unit_test(sha1_comes_in_base64),
        cmocka_unit_test(a_comparison_sees_every_bit),
        cmocka_unit_test(random_bytes_fill_all_and_never_repeat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
