/*
 * Any bytes as a file of keys, as the value of a column, and as base64. What is no key or no encrypted secret is
 * refused with a reason; nothing that was not sealed with the key is opened.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/secret_keyring.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_base64(struct slice text) {
    unsigned char *bytes = malloc(text.length / 4 * 3 + 1);
    char *again = malloc(text.length + 1);
    size_t length;

    MUST(bytes != NULL && again != NULL);
    if (base64_decode(text, bytes, &length)) {
        MUST(BASE64_LENGTH(length) == text.length);
        base64_encode((struct slice){(const char *)bytes, length}, again);
        MUST(text.length == 0 || memcmp(again, text.data, text.length) == 0);
    }
    free(bytes);
    free(again);
}

static void check_open(const struct secret_keyring *keyring, struct slice text) {
    char memory[SECRET_MAX_BYTES];
    struct error error = {0};
    struct slice secret;

    MUST(!keyring_open(keyring, SLICE("a"), SLICE("secret"), text, memory, &secret, NULL, &error));
    MUST(error.text[0] != '\0');
}

/* A secret of these bytes, and the same with one bit changed. */
static void check_seal(const struct secret_keyring *keyring, struct slice text) {
    char sealed[SEALED_MAX_BYTES], memory[SECRET_MAX_BYTES];
    struct slice secret = {text.data, text.length < SECRET_MAX_BYTES ? text.length : SECRET_MAX_BYTES}, opened;
    size_t length;

    if (secret.length == 0)
        return;
    length = keyring_seal(keyring, SLICE("a"), SLICE("secret"), secret, sealed);
    MUST(keyring_open(keyring, SLICE("a"), SLICE("secret"), (struct slice){sealed, length}, memory, &opened, NULL,
                      NULL));
    MUST(slice_equal(opened, secret));
    sealed[(unsigned char)text.data[0] % length] ^= 1;
    check_open(keyring, (struct slice){sealed, length});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct secret_keyring *fixed;
    struct slice text = {(const char *)data, size};
    struct secret_keyring *keyring;
    struct error error = {0};

    if (fixed == NULL)
        fixed = keyring_parse(SLICE("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="), "fixed", NULL);
    MUST(fixed != NULL);
    check_base64(text);
    check_open(fixed, text);
    check_seal(fixed, text);
    keyring = keyring_parse(text, "a file", &error);
    MUST(keyring != NULL || error.text[0] != '\0');
    if (keyring != NULL)
        check_seal(keyring, text);
    keyring_destroy(keyring);
    return 0;
}
