/*
 * The keys that encrypt the secrets of apps in a store, and the form that they have there:
 *
 *   enc:1:<base64 of nonce (12 bytes), encrypted secret, tag (16 bytes)>
 *
 * AES-256-GCM. The associated data are the app's id, a zero byte and the name of the field, so that a value that was
 * moved to another app or field cannot be opened.
 *
 *   app_parse (from a store) --keyring_open--> secret            secret --keyring_seal--> store_create, store_update
 *
 * The first key encrypts, all of them decrypt. A keyring does not change after keyring_create; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/aes_gcm.h"
#include "base/buffer.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"
#include "config/config.h"

#define SECRET_MAX_BYTES 255
#define SEALED_PREFIX "enc:"
#define SEALED_VERSION SEALED_PREFIX "1:"
#define SEALED_MAX_BYTES (sizeof SEALED_VERSION - 1 + BASE64_LENGTH(SECRET_MAX_BYTES + AES_GCM_OVERHEAD))

struct secret_keyring;

/*
 * Reads the keys of CURLEW_SECRETS_KEY, else those of app_manager.secrets.key_file. True with `*keyring` NULL if
 * neither is set. False with an error that names the setting, and never shows a key.
 */
bool keyring_create(const struct config *config, struct secret_keyring **keyring, struct error *error);
/* NULL is accepted. */
void keyring_destroy(struct secret_keyring *keyring);

/* Warns if other users of this machine can read the file that the keys are from. `keyring` may be NULL. */
void keyring_warn_of_file(const struct secret_keyring *keyring);

/* True if a text of a store is in the encrypted form, or in a later one. */
static inline bool secret_is_sealed(struct slice text) {
    return slice_starts_with(text, SLICE(SEALED_PREFIX));
}

/* Encrypts a secret of at most SECRET_MAX_BYTES with the first key. Returns the length. */
size_t keyring_seal(const struct secret_keyring *keyring, struct slice id, struct slice field, struct slice secret,
                    char sealed[SEALED_MAX_BYTES]);

/*
 * Decrypts. `secret` is set to bytes in `memory`; `first` (may be NULL): by the first key. False with an error if no
 * key opens it; `keyring` may be NULL.
 */
bool keyring_open(const struct secret_keyring *keyring, struct slice id, struct slice field, struct slice sealed,
                  char memory[SECRET_MAX_BYTES], struct slice *secret, bool *first, struct error *error);

/* The same for bytes of any length; `label` says what they are. Appends to `sealed`. */
void keyring_seal_bytes(const struct secret_keyring *keyring, struct slice label, struct slice bytes,
                        struct buffer *sealed);
/* False if no key opens them, or if there is no memory; `keyring` may be NULL. Appends to `bytes`. */
bool keyring_open_bytes(const struct secret_keyring *keyring, struct slice label, struct slice sealed,
                        struct buffer *bytes);

/* For tests: reads keys from a text. NULL with an error that calls the text `source`. */
struct secret_keyring *keyring_parse(struct slice text, const char *source, struct error *error);
