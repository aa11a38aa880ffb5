#include "cluster/nats/nats_key.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/secret_text.h"

#define ED25519_BYTES 32

/* The first five bits of a word are its kind: 18 is S, a seed, 20 is U, a user. */
#define KIND_SEED (18 << 3)
#define KIND_USER (20 << 3)

/* A seed: a byte for S and the upper bits of the kind, a byte with the lower ones, the seed itself and a CRC. */
#define SEED_BYTES (2 + ED25519_BYTES + 2)
#define KEY_BYTES (1 + ED25519_BYTES + 2)

static const char base32_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* CRC-16 with the polynomial 0x1021, as XMODEM has it. */
static uint16_t nkey_crc(const uint8_t *bytes, size_t length) {
    uint16_t crc = 0;

    for (size_t i = 0; i < length; i++) {
        crc ^= (uint16_t)(bytes[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

/* Decodes base32 without padding (RFC 4648 section 6); false if it is not `length` bytes of it. */
static bool base32_decode(struct slice text, uint8_t *bytes, size_t length) {
    uint32_t bits = 0;
    unsigned count = 0;
    size_t at = 0;

    if (text.length != (length * 8 + 4) / 5)
        return false;
    for (size_t i = 0; i < text.length; i++) {
        const char *digit = text.data[i] != 0 ? strchr(base32_digits, text.data[i]) : NULL;
        if (digit == NULL)
            return false;
        bits = bits << 5 | (uint32_t)(digit - base32_digits);
        count += 5;
        if (count >= 8 && at < length) {
            count -= 8;
            bytes[at++] = (uint8_t)(bits >> count);
        }
    }
    return at == length;
}

static void base32_encode(const uint8_t *bytes, size_t length, char *text) {
    uint32_t bits = 0;
    unsigned count = 0;

    for (size_t i = 0; i < length; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 5; count -= 5)
            *text++ = base32_digits[bits >> (count - 5) & 31];
    }
    if (count > 0)
        *text++ = base32_digits[bits << (5 - count) & 31];
    *text = 0;
}

static bool ed25519_public_key(const uint8_t *seed, uint8_t key[ED25519_BYTES]) {
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, ED25519_BYTES);
    size_t length = ED25519_BYTES;
    bool made = pair != NULL && EVP_PKEY_get_raw_public_key(pair, key, &length) == 1;

    EVP_PKEY_free(pair);
    return made;
}

bool nats_key_from_seed(struct slice seed, char key[NATS_KEY_LENGTH + 1]) {
    uint8_t bytes[SEED_BYTES], public_key[KEY_BYTES] = {KIND_USER};
    bool valid = base32_decode(seed, bytes, sizeof bytes) && bytes[0] == (KIND_SEED | KIND_USER >> 5) &&
                 bytes[1] == (uint8_t)(KIND_USER << 3);
    uint16_t crc;

    if (valid) {
        crc = nkey_crc(bytes, SEED_BYTES - 2);
        valid = bytes[SEED_BYTES - 2] == (uint8_t)crc && bytes[SEED_BYTES - 1] == crc >> 8 &&
                ed25519_public_key(bytes + 2, public_key + 1);
    }
    OPENSSL_cleanse(bytes, sizeof bytes);
    if (!valid)
        return false;
    crc = nkey_crc(public_key, KEY_BYTES - 2);
    public_key[KEY_BYTES - 2] = (uint8_t)crc;
    public_key[KEY_BYTES - 1] = (uint8_t)(crc >> 8);
    base32_encode(public_key, sizeof public_key, key);
    return true;
}

/* The first word that begins with SU: tools write a header and a footer around it. */
static struct slice find_seed(struct slice text) {
    while (text.length > 0) {
        size_t length = 0;
        while (length < text.length && (unsigned char)text.data[length] > ' ')
            length++;
        if (length > 2 && text.data[0] == 'S' && text.data[1] == 'U')
            return (struct slice){text.data, length};
        text = slice_skip(text, length < text.length ? length + 1 : length);
    }
    return text;
}

bool nats_key_from_file(const char *path, char key[NATS_KEY_LENGTH + 1], struct error *error) {
    struct buffer text = {0};
    bool found;

    if (!secret_read_file(path, &text))
        return error_set(error, "adapter.nats.nkey_seed_path %s: %s", path, strerror(errno));
    found = nats_key_from_seed(find_seed((struct slice){text.data, text.length}), key);
    secret_buffer_dispose(&text);
    return found || error_set(error,
                              "adapter.nats.nkey_seed_path %s: there is no seed of a user in it, which is a word of "
                              "58 letters and digits that begins with SU",
                              path);
}
