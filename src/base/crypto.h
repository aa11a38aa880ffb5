/*
 * Digests, signatures and random numbers, on top of OpenSSL's libcrypto.
 *
 * Every subscription to a private channel and every API request is signed with an app's secret, so the part of the HMAC
 * that depends on the key is computed once per app and copied for each use.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define HMAC_SHA256_HEX 64
#define HMAC_SHA256_BYTES 32
#define SHA256_HEX 64
#define MD5_HEX 32

/* The two SHA-256 states that an HMAC starts from (RFC 2104: the key with the inner and the outer pad). Immutable after
 * hmac_key_init. */
struct hmac_key {
    uint32_t inner[8];
    uint32_t outer[8];
};

/* Computes the states for `secret`, which is not kept. */
void hmac_key_init(struct hmac_key *key, struct slice secret);

/* Writes the HMAC-SHA256 of the concatenated parts as 64 lower-case hexadecimal digits, without a zero byte. Any
 * thread.
 */
void hmac_sha256_hex(const struct hmac_key *key, const struct slice *parts, size_t count, char hex[HMAC_SHA256_HEX]);

/* Writes the HMAC-SHA256 of `text` with a key that is used once. `digest` may be where `secret` is. Any thread. */
void hmac_sha256(struct slice secret, struct slice text, char digest[HMAC_SHA256_BYTES]);

/* Writes the SHA-256 of `text` as 64 lower-case hexadecimal digits, without a zero byte. Any thread. */
void sha256_hex(struct slice text, char hex[SHA256_HEX]);

/* Writes the MD5 of `text` as 32 lower-case hexadecimal digits, without a zero byte. The HTTP API requires it
 * (body_md5); security does not depend on it. Any thread. */
void md5_hex(struct slice text, char hex[MD5_HEX]);

/* The same for a text that comes in pieces. md5_end may be called again, and then writes the same. */
struct md5_stream;
struct md5_stream *md5_begin(void);
void md5_add(struct md5_stream *stream, struct slice piece);
void md5_end(struct md5_stream *stream, char hex[MD5_HEX]);
/* NULL is ignored. */
void md5_free(struct md5_stream *stream);

/* Writes the SHA-1 of `text` in base64, 28 bytes without a zero byte, for the WebSocket handshake (RFC 6455 section
 * 4.2.2). Any thread. */
void sha1_base64(struct slice text, char base64[28]);

/* The bytes of base64 for that many bytes: with padding, without line ends (RFC 4648 section 4). */
#define BASE64_LENGTH(bytes) (((bytes) + 2) / 3 * 4)

/* Writes `bytes` in base64, without a zero byte. Any thread. */
void base64_encode(struct slice bytes, char *text);

/* Decodes base64 with padding and without anything else in it into `bytes`, which has room for three quarters of the
 * text. False if it is not base64. Any thread. */
bool base64_decode(struct slice text, unsigned char *bytes, size_t *length);

/* Compares in a time that depends only on the lengths, so that an attacker cannot guess a signature byte by byte. */
bool equal_in_constant_time(struct slice a, struct slice b);

/* Fills `data` with unpredictable bytes from the system's random generator; ends the process on failure. Any thread. */
void random_bytes(void *data, size_t length);
