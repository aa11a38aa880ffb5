/* Encrypted secrets of a store: what is sealed is opened by the right key, for the same app and field, and nothing else
 * is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app.h"
#include "app/secret_keyring.h"
#include "app_defaults.h"

/* 32 bytes each, in base64 */
#define KEY_A "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define KEY_B "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

static struct error error;

static struct secret_keyring *keys(const char *text) {
    struct secret_keyring *keyring = keyring_parse(slice_of(text), "the test", &error);

    if (keyring == NULL)
        fail_msg("%s", error.text);
    return keyring;
}

static bool opens(const struct secret_keyring *keyring, const char *id, const char *field, struct slice sealed,
                  const char *expected, bool by_first) {
    char memory[SECRET_MAX_BYTES];
    struct slice secret;
    bool first;

    if (!keyring_open(keyring, slice_of(id), slice_of(field), sealed, memory, &secret, &first, &error))
        return false;
    assert_true(slice_equal(secret, slice_of(expected)));
    assert_int_equal(first, by_first);
    return true;
}

/* NIST's test cases 13 and 14 of AES-GCM, in the submission of McGrew and Viega. */
static void the_cipher_is_aes_256_gcm(void **state) {
    static const unsigned char key[AES_GCM_KEY_BYTES];
    static const unsigned char sealed_block[] = {0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
                                                 0,    0xce, 0xa7, 0x40, 0x3d, 0x4d, 0x60, 0x6b, 0x6e, 0x07, 0x4e,
                                                 0xc5, 0xd3, 0xba, 0xf3, 0x9d, 0x18, 0xd0, 0xd1, 0xc8, 0xa7, 0x99,
                                                 0x99, 0x6b, 0xf0, 0x26, 0x5b, 0x98, 0xb5, 0xd4, 0x8a, 0xb9, 0x19};
    static const unsigned char sealed_nothing[] = {0,    0,    0,    0,    0,    0,    0,    0,    0,    0,
                                                   0,    0,    0x53, 0x0f, 0x8a, 0xfb, 0xc7, 0x45, 0x36, 0xb9,
                                                   0xa9, 0x63, 0xb4, 0xf1, 0xc4, 0xcb, 0x73, 0x8b};
    char text[16], zeros[16] = {0};

    (void)state;
    assert_true(aes_gcm_open(key, SLICE(""), (struct slice){(const char *)sealed_block, sizeof sealed_block}, text));
    assert_memory_equal(text, zeros, sizeof zeros);
    assert_true(
        aes_gcm_open(key, SLICE(""), (struct slice){(const char *)sealed_nothing, sizeof sealed_nothing}, text));
    assert_false(aes_gcm_open(key, SLICE("x"), (struct slice){(const char *)sealed_block, sizeof sealed_block}, text));
}

static void what_is_sealed_is_opened_for_the_same_app_and_field_only(void **state) {
    struct secret_keyring *keyring = keys(KEY_A), *other = keys(KEY_B);
    char sealed[SEALED_MAX_BYTES], again[SEALED_MAX_BYTES], secret[SECRET_MAX_BYTES + 1] = {0};

    (void)state;
    for (size_t length = 1; length <= SECRET_MAX_BYTES; length++) {
        struct slice text;
        memset(secret, 's', length);
        text = (struct slice){sealed, keyring_seal(keyring, SLICE("a"), SLICE("secret"), slice_of(secret), sealed)};
        assert_int_equal(text.length, 6 + (length + 28 + 2) / 3 * 4);
        assert_true(text.length <= (length <= 158 ? 255 : 512));
        assert_true(slice_starts_with(text, SLICE("enc:1:")));
        assert_true(opens(keyring, "a", "secret", text, secret, true));
        assert_false(opens(keyring, "b", "secret", text, secret, true));
        assert_false(opens(keyring, "a", "previous_secret", text, secret, true));
        assert_false(opens(other, "a", "secret", text, secret, true));
        assert_non_null(strstr(error.text, "no key opens it"));
        keyring_seal(keyring, SLICE("a"), SLICE("secret"), slice_of(secret), again);
        assert_memory_not_equal(sealed, again, text.length); /* a fresh nonce */
    }
    keyring_destroy(keyring);
    keyring_destroy(other);
}

static void a_change_of_any_byte_is_noticed(void **state) {
    struct secret_keyring *keyring = keys(KEY_A);
    char sealed[SEALED_MAX_BYTES];
    size_t length = keyring_seal(keyring, SLICE("a"), SLICE("secret"), SLICE("a secret"), sealed);

    (void)state;
    for (size_t i = 0; i < length; i++) {
        char byte = sealed[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            sealed[i] = (char)(byte ^ (char)(1 << bit));
            assert_false(opens(keyring, "a", "secret", (struct slice){sealed, length}, "", true));
        }
        sealed[i] = byte;
        assert_false(opens(keyring, "a", "secret", (struct slice){sealed, i}, "", true));
    }
    assert_true(opens(keyring, "a", "secret", (struct slice){sealed, length}, "a secret", true));
    assert_false(opens(NULL, "a", "secret", (struct slice){sealed, length}, "", true));
    assert_non_null(strstr(error.text, "there is no key"));
    sealed[4] = '2';
    assert_false(opens(keyring, "a", "secret", (struct slice){sealed, length}, "", true));
    assert_non_null(strstr(error.text, "this version does not know"));
    keyring_destroy(keyring);
}

static void the_first_key_encrypts_and_all_decrypt(void **state) {
    struct secret_keyring *old = keys("# the first\n" KEY_A "\n"), *both = keys("  " KEY_B "\r\n\n# old:\n" KEY_A),
                          *new = keys(KEY_B ",");
    char by_old[SEALED_MAX_BYTES], by_both[SEALED_MAX_BYTES];
    struct slice first = {by_old, keyring_seal(old, SLICE("a"), SLICE("secret"), SLICE("s"), by_old)};
    struct slice second = {by_both, keyring_seal(both, SLICE("a"), SLICE("secret"), SLICE("s"), by_both)};

    (void)state;
    assert_true(opens(both, "a", "secret", first, "s", false));
    assert_true(opens(both, "a", "secret", second, "s", true));
    assert_true(opens(new, "a", "secret", second, "s", true));
    assert_false(opens(new, "a", "secret", first, "s", true));
    assert_false(opens(old, "a", "secret", second, "s", true));
    keyring_destroy(old);
    keyring_destroy(both);
    keyring_destroy(new);
}

static void keys_that_are_none_are_refused_by_their_number_and_not_shown(void **state) {
    static const char *const texts[][2] = {
        {"", "the test holds no key"},
        {"# " KEY_A, "the test holds no key"},
        {KEY_A "\nAAAA", "the test: key number 2 is not 32 bytes in base64"},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "key number 1"},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA*", "key number 1"},
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", "key number 1"}, /* bits that do not count */
        {"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", "key number 1"},
        {"AAAAAAAAAAAAAAAAAAAAA=AAAAAAAAAAAAAAAAAAAAA=", "key number 1"},
    };
    struct buffer many = {0};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_null(keyring_parse(slice_of(texts[i][0]), "the test", &error));
        if (strstr(error.text, texts[i][1]) == NULL)
            fail_msg("%s: %s", texts[i][0], error.text);
        assert_null(strstr(error.text, "AAAA"));
    }
    for (size_t i = 0; i < 17; i++)
        buffer_append_string(&many, KEY_A "\n");
    assert_null(keyring_parse(buffer_slice(&many), "the test", &error));
    assert_non_null(strstr(error.text, "more than 16 keys"));
    buffer_dispose(&many);
}

static void the_variable_goes_before_the_file(void **state) {
    char path[] = "/tmp/curlew-keys-XXXXXX", broken[] = "AAAA", key[] = KEY_A;
    int fd = mkstemp(path);
    struct secret_keyring *keyring;
    struct config config = {0};

    (void)state;
    assert_true(write(fd, "nothing\n", 8) == 8);
    close(fd);
    assert_true(keyring_create(&config, &keyring, &error));
    assert_null(keyring);
    config.app_manager.secrets.key_file = path;
    assert_false(keyring_create(&config, &keyring, &error));
    assert_non_null(strstr(error.text, "app_manager.secrets.key_file /tmp/curlew-keys-"));
    config.app_manager.secrets.key = broken;
    assert_false(keyring_create(&config, &keyring, &error));
    assert_non_null(strstr(error.text, "CURLEW_SECRETS_KEY: key number 1"));
    config.app_manager.secrets.key = key;
    assert_true(keyring_create(&config, &keyring, &error));
    keyring_destroy(keyring);
    unlink(path);
    config.app_manager.secrets.key = NULL;
    assert_false(keyring_create(&config, &keyring, &error));
    assert_non_null(strstr(error.text, "cannot be read: No such file"));
}

static struct app *from_store(const char *secret, const char *previous, const struct secret_keyring *keyring) {
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s*}", "id", "a", "key", "k", "secret", secret, "previous_secret", previous);
    struct app_defaults defaults;
    struct app *app;

    app_defaults_of_100(&defaults);
    defaults.keyring = keyring;
    app = app_parse(json, &defaults, APP_FROM_STORE, NULL, NULL, &error);
    json_decref(json);
    return app;
}

static void a_record_of_a_store_is_read_with_its_secrets_open(void **state) {
    struct secret_keyring *keyring = keys(KEY_B " " KEY_A), *old = keys(KEY_A);
    char sealed[SEALED_MAX_BYTES + 1] = {0}, previous[SEALED_MAX_BYTES + 1] = {0};
    struct app *app;

    (void)state;
    keyring_seal(keyring, SLICE("a"), SLICE("secret"), SLICE("new"), sealed);
    keyring_seal(old, SLICE("a"), SLICE("previous_secret"), SLICE("old"), previous);
    app = from_store(sealed, previous, keyring);
    assert_non_null(app);
    assert_string_equal(app->secret.data, "new");
    assert_string_equal(app->previous_secret.data, "old");
    assert_int_equal(app->sealed, 1u << APP_SECRET | 1u << APP_PREVIOUS_SECRET);
    assert_true(app->sealed_by_old_key);
    app_unref(app);

    app = from_store("plain", NULL, keyring); /* as it is */
    assert_string_equal(app->secret.data, "plain");
    assert_int_equal(app->sealed, 0);
    app_unref(app);

    assert_null(from_store(sealed, NULL, NULL));
    assert_string_equal(error.text,
                        "app \"a\": secret is encrypted, and there is no key: set "
                        "app_manager.secrets.key_file or CURLEW_SECRETS_KEY");
    assert_null(from_store(sealed, NULL, old));
    assert_null(from_store("enc:", NULL, keyring));
    assert_null(from_store("enc:1:", NULL, keyring));
    assert_null(from_store(sealed, "enc:1:AAAA", keyring));
    assert_non_null(strstr(error.text, "app \"a\": previous_secret is encrypted, and"));
    keyring_destroy(keyring);
    keyring_destroy(old);
}

static void a_new_secret_does_not_look_like_an_encrypted_one_or_a_file(void **state) {
    static const char *const secrets[] = {"enc:1:AAAA", "enc:", "file:/run/secrets/x", "file:"};
    static const enum app_source sources[] = {APP_FROM_CONFIGURATION, APP_FROM_COMMAND};
    struct app_defaults defaults;

    (void)state;
    app_defaults_of_100(&defaults);
    for (size_t i = 0; i < 2 * sizeof secrets / sizeof secrets[0]; i++) {
        json_t *json = json_pack("{s:s, s:s, s:s}", "id", "a", "key", "k", "secret", secrets[i / 2]);
        assert_null(app_parse(json, &defaults, sources[i % 2], NULL, NULL, &error));
        assert_string_equal(error.text,
                            "app \"a\": secret may not begin with enc: or file:, which have a meaning of their own");
        json_decref(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cipher_is_aes_256_gcm),
        cmocka_unit_test(what_is_sealed_is_opened_for_the_same_app_and_field_only),
        cmocka_unit_test(a_change_of_any_byte_is_noticed),
        cmocka_unit_test(the_first_key_encrypts_and_all_decrypt),
        cmocka_unit_test(keys_that_are_none_are_refused_by_their_number_and_not_shown),
        cmocka_unit_test(the_variable_goes_before_the_file),
        cmocka_unit_test(a_record_of_a_store_is_read_with_its_secrets_open),
        cmocka_unit_test(a_new_secret_does_not_look_like_an_encrypted_one_or_a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
