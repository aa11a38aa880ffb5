#include "base/aes_gcm.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"

/* OpenSSL accepts no NULL data, not even without a length. */
static const unsigned char *bytes_of(struct slice text) {
    return (const unsigned char *)(text.length != 0 ? text.data : "");
}

void aes_gcm_seal(const unsigned char key[AES_GCM_KEY_BYTES], struct slice associated, struct slice text,
                  unsigned char *sealed) {
    unsigned char *nonce = sealed, *body = nonce + AES_GCM_NONCE_BYTES, *tag = body + text.length;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int length;

    random_bytes(nonce, AES_GCM_NONCE_BYTES);
    /* Each of these fails only without memory, or in an OpenSSL without AES. */
    if (context == NULL || EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) != 1 ||
        EVP_EncryptUpdate(context, NULL, &length, bytes_of(associated), (int)associated.length) != 1 ||
        EVP_EncryptUpdate(context, body, &length, bytes_of(text), (int)text.length) != 1 ||
        EVP_EncryptFinal_ex(context, tag, &length) != 1 ||
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, AES_GCM_TAG_BYTES, tag) != 1)
        abort();
    EVP_CIPHER_CTX_free(context);
}

bool aes_gcm_open(const unsigned char key[AES_GCM_KEY_BYTES], struct slice associated, struct slice sealed,
                  char *text) {
    const unsigned char *nonce = bytes_of(sealed), *body = nonce + AES_GCM_NONCE_BYTES;
    unsigned char tag[AES_GCM_TAG_BYTES];
    EVP_CIPHER_CTX *context;
    int length = 0, rest = 0;
    size_t size;
    bool good;

    if (sealed.length < AES_GCM_OVERHEAD)
        return false;
    size = sealed.length - AES_GCM_OVERHEAD;
    memcpy(tag, body + size, sizeof tag);
    context = EVP_CIPHER_CTX_new();
    good = context != NULL && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
           EVP_DecryptUpdate(context, NULL, &length, bytes_of(associated), (int)associated.length) == 1 &&
           EVP_DecryptUpdate(context, (unsigned char *)text, &length, body, (int)size) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, AES_GCM_TAG_BYTES, tag) == 1 &&
           EVP_DecryptFinal_ex(context, (unsigned char *)text + length, &rest) == 1;
    EVP_CIPHER_CTX_free(context);
    if (!good && size != 0)
        explicit_bzero(text, size);
    return good;
}
