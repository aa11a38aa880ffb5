/*
 * The low-level digest functions, deprecated since OpenSSL 3. Their replacement, EVP, looks up the algorithm and
 * allocates a context for every digest; that costs more than hashing a typical request, and this code runs for every
 * signed request and subscription. The macro disables the deprecation warnings in this file only.
 */
#define OPENSSL_API_COMPAT 10101

#include "base/crypto.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/md5.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"

#define BLOCK SHA256_CBLOCK

static void write_hex(const unsigned char *bytes, size_t count, char *hex) {
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
}

/* Computes the SHA-256 state after one block: the key, padded with zeros, each byte xored with `pad`. */
static void pad_state(const unsigned char key[BLOCK], unsigned char pad, uint32_t state[8]) {
    unsigned char block[BLOCK];
    SHA256_CTX context;

    for (size_t i = 0; i < BLOCK; i++)
        block[i] = key[i] ^ pad;
    SHA256_Init(&context);
    SHA256_Update(&context, block, sizeof block);
    for (size_t i = 0; i < 8; i++)
        state[i] = context.h[i];
    OPENSSL_cleanse(block, sizeof block);
    OPENSSL_cleanse(&context, sizeof context);
}

/* Sets up a digest that has processed one block and has this state. The buffer of the context is empty, so it needs no
 * value. */
static void digest_resume(SHA256_CTX *context, const uint32_t state[8]) {
    for (size_t i = 0; i < 8; i++)
        context->h[i] = state[i];
    context->Nl = 8 * BLOCK;
    context->Nh = context->num = 0;
    context->md_len = SHA256_DIGEST_LENGTH;
}

void hmac_key_init(struct hmac_key *key, struct slice secret) {
    unsigned char block[BLOCK] = {0};
    SHA256_CTX context;

    if (secret.length > BLOCK) {
        SHA256_Init(&context);
        SHA256_Update(&context, secret.data, secret.length);
        SHA256_Final(block, &context);
    } else if (secret.length != 0) {
        memcpy(block, secret.data, secret.length);
    }
    pad_state(block, 0x36, key->inner);
    pad_state(block, 0x5C, key->outer);
    OPENSSL_cleanse(block, sizeof block);
}

static void hmac_digest(const struct hmac_key *key, const struct slice *parts, size_t count,
                        unsigned char digest[SHA256_DIGEST_LENGTH]) {
    SHA256_CTX context;

    digest_resume(&context, key->inner);
    for (size_t i = 0; i < count; i++)
        if (parts[i].length != 0)
            SHA256_Update(&context, parts[i].data, parts[i].length);
    SHA256_Final(digest, &context);
    digest_resume(&context, key->outer);
    SHA256_Update(&context, digest, SHA256_DIGEST_LENGTH);
    SHA256_Final(digest, &context);
}

void hmac_sha256_hex(const struct hmac_key *key, const struct slice *parts, size_t count, char hex[HMAC_SHA256_HEX]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];

    hmac_digest(key, parts, count, digest);
    write_hex(digest, sizeof digest, hex);
}

void hmac_sha256(struct slice secret, struct slice text, char digest[HMAC_SHA256_BYTES]) {
    struct hmac_key key;

    hmac_key_init(&key, secret);
    hmac_digest(&key, &text, 1, (unsigned char *)digest);
    OPENSSL_cleanse(&key, sizeof key);
}

void sha256_hex(struct slice text, char hex[SHA256_HEX]) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX context;

    SHA256_Init(&context);
    if (text.length != 0)
        SHA256_Update(&context, text.data, text.length);
    SHA256_Final(digest, &context);
    write_hex(digest, sizeof digest, hex);
}

void md5_hex(struct slice text, char hex[MD5_HEX]) {
    unsigned char digest[MD5_DIGEST_LENGTH];
    MD5_CTX context;

    MD5_Init(&context);
    if (text.length != 0)
        MD5_Update(&context, text.data, text.length);
    MD5_Final(digest, &context);
    write_hex(digest, sizeof digest, hex);
}

struct md5_stream {
    MD5_CTX context;
    bool ended;
    char hex[MD5_HEX];
};

struct md5_stream *md5_begin(void) {
    struct md5_stream *stream = alloc(sizeof *stream);

    MD5_Init(&stream->context);
    stream->ended = false;
    return stream;
}

void md5_add(struct md5_stream *stream, struct slice piece) {
    if (piece.length != 0)
        MD5_Update(&stream->context, piece.data, piece.length);
}

void md5_end(struct md5_stream *stream, char hex[MD5_HEX]) {
    unsigned char digest[MD5_DIGEST_LENGTH];

    if (!stream->ended) {
        MD5_Final(digest, &stream->context);
        write_hex(digest, sizeof digest, stream->hex);
    }
    stream->ended = true;
    memcpy(hex, stream->hex, MD5_HEX);
}

void md5_free(struct md5_stream *stream) {
    free(stream);
}

void sha1_base64(struct slice text, char base64[28]) {
    unsigned char digest[SHA_DIGEST_LENGTH];
    unsigned char encoded[29]; /* EVP_EncodeBlock adds a zero byte */
    SHA_CTX context;

    SHA1_Init(&context);
    if (text.length != 0)
        SHA1_Update(&context, text.data, text.length);
    SHA1_Final(digest, &context);
    EVP_EncodeBlock(encoded, digest, sizeof digest);
    memcpy(base64, encoded, 28);
}

void base64_encode(struct slice bytes, char *text) {
    const unsigned char *at = (const unsigned char *)bytes.data;
    unsigned char group[5]; /* EVP_EncodeBlock adds a zero byte */

    for (size_t i = 0; i < bytes.length; i += 3, text += 4) {
        EVP_EncodeBlock(group, at + i, bytes.length - i < 3 ? (int)(bytes.length - i) : 3);
        memcpy(text, group, 4);
    }
}

bool base64_decode(struct slice text, unsigned char *bytes, size_t *length) {
    size_t padding = 0;

    while (padding < 2 && padding < text.length && text.data[text.length - 1 - padding] == '=')
        padding++;
    if (text.length % 4 != 0)
        return false;
    *length = text.length / 4 * 3 - padding;
    for (size_t i = 0; i < text.length; i += 4) {
        size_t count = i + 4 == text.length ? 3 - padding : 3;
        unsigned char group[3];
        char again[4];
        /* The library skips blanks and ignores bits that do not count; what it made of them is not the same again. */
        if (EVP_DecodeBlock(group, (const unsigned char *)text.data + i, 4) != 3)
            return false;
        base64_encode((struct slice){(const char *)group, count}, again);
        if (memcmp(again, text.data + i, sizeof again) != 0)
            return false;
        memcpy(bytes, group, count);
        bytes += count;
    }
    return true;
}

/* CRYPTO_memcmp compares 16 bytes at once, but any other number byte by byte. */
#define COMPARED_AT_ONCE 16

bool equal_in_constant_time(struct slice a, struct slice b) {
    int difference = 0;

    if (a.length != b.length)
        return false;
    for (; a.length > COMPARED_AT_ONCE; a = slice_skip(a, COMPARED_AT_ONCE), b = slice_skip(b, COMPARED_AT_ONCE))
        difference |= CRYPTO_memcmp(a.data, b.data, COMPARED_AT_ONCE);
    if (a.length != 0)
        difference |= CRYPTO_memcmp(a.data, b.data, a.length);
    return difference == 0;
}

void random_bytes(void *data, size_t length) {
    char *at = data;

    while (length != 0) {
        ssize_t count = getrandom(at, length, 0);
        if (count > 0) {
            at += count;
            length -= (size_t)count;
        } else if (errno != EINTR) {
            fprintf(stderr, "curlew: the system gave no random bytes: %s\n", strerror(errno));
            abort();
        }
    }
}
