/*
 * Digests and signatures, on top of OpenSSL's libcrypto.
 *
 * Every WebSocket subscription and every API request is signed with an app's secret, so the key's part of the HMAC is
 * computed once per app and copied for each use.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define HMAC_SHA256_HEX 64
#define MD5_HEX 32

/* The two SHA-256 states that an HMAC starts from (RFC 2104: the key's inner and outer pad). Immutable after init. */
struct hmac_key {
    uint32_t inner[8];
    uint32_t outer[8];
};

void hmac_key_init(struct hmac_key *key, struct slice secret);

/* HMAC-SHA256 of `parts` one after another, as 64 lower-case hexadecimal digits (no zero byte). Any thread. */
void hmac_sha256_hex(const struct hmac_key *key, const struct slice *parts, size_t count, char hex[HMAC_SHA256_HEX]);

/* MD5 of `text` as 32 lower-case hexadecimal digits: body_md5 of the HTTP API asks for it; it protects nothing here. */
void md5_hex(struct slice text, char hex[MD5_HEX]);

/* SHA-1 of `text` in base64 (28 bytes, no zero byte): the WebSocket handshake, RFC 6455 section 4.2.2. */
void sha1_base64(struct slice text, char base64[28]);

/* Compares in a time that depends on the lengths only. */
bool equal_in_constant_time(struct slice a, struct slice b);

/* Unpredictable bytes from the system's generator; failure is fatal. */
void random_bytes(void *data, size_t length);
