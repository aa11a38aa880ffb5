/*
 * AES-256-GCM (NIST SP 800-38D), on top of OpenSSL: encryption that notices any change of the text, or of the
 * associated data, which is not part of it. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

#define AES_GCM_KEY_BYTES 32
#define AES_GCM_NONCE_BYTES 12
#define AES_GCM_TAG_BYTES 16
/* By how much a sealed text is longer. */
#define AES_GCM_OVERHEAD (AES_GCM_NONCE_BYTES + AES_GCM_TAG_BYTES)

/* Encrypts `text` into `sealed`, which has room for AES_GCM_OVERHEAD bytes more: a fresh nonce, the encrypted bytes,
 * the tag. */
void aes_gcm_seal(const unsigned char key[AES_GCM_KEY_BYTES], struct slice associated, struct slice text,
                  unsigned char *sealed);

/* Decrypts into `text`, which has room for AES_GCM_OVERHEAD bytes less. False, with nothing in `text`, if it is not
 * what was sealed with this key and this associated data. */
bool aes_gcm_open(const unsigned char key[AES_GCM_KEY_BYTES], struct slice associated, struct slice sealed, char *text);
