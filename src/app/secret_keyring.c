#include "app/secret_keyring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/secret_text.h"

#define KEYS_MAX 16
#define FILE_SETTING "app_manager.secrets.key_file"
#define VARIABLE "CURLEW_SECRETS_KEY"
/* An id has at most 255 bytes, the name of a field fewer than 32. */
#define ASSOCIATED_MAX_BYTES 300

struct secret_keyring {
    size_t count;
    char *file; /* NULL: the keys are from the environment */
    unsigned char keys[KEYS_MAX][AES_GCM_KEY_BYTES];
};

/* --- reading the keys --- */

static bool add_key(struct secret_keyring *keyring, struct slice word, const char *source, struct error *error) {
    unsigned char bytes[BASE64_LENGTH(AES_GCM_KEY_BYTES)];
    size_t length;
    bool good = word.length == BASE64_LENGTH(AES_GCM_KEY_BYTES) && base64_decode(word, bytes, &length) &&
                length == AES_GCM_KEY_BYTES;

    if (!good)
        return error_set(error,
                         "%s: key number %zu is not 32 bytes in base64, like the output of `openssl rand -base64 32`",
                         source, keyring->count + 1);
    if (keyring->count == KEYS_MAX)
        return error_set(error, "%s: there are more than %d keys", source, KEYS_MAX);
    memcpy(keyring->keys[keyring->count++], bytes, AES_GCM_KEY_BYTES);
    explicit_bzero(bytes, sizeof bytes);
    return true;
}

static bool is_between_keys(char byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n' || byte == ',';
}

struct secret_keyring *keyring_parse(struct slice text, const char *source, struct error *error) {
    struct secret_keyring *keyring = alloc_zero(sizeof *keyring);
    size_t at = 0;
    bool good = true;

    while (good && at < text.length) {
        size_t end = at;
        if (text.data[at] == '#') { /* a comment up to the end of the line */
            while (at < text.length && text.data[at] != '\n')
                at++;
            continue;
        }
        while (end < text.length && !is_between_keys(text.data[end]))
            end++;
        if (end != at)
            good = add_key(keyring, (struct slice){text.data + at, end - at}, source, error);
        at = end + 1;
    }
    if (good && keyring->count == 0)
        good = error_set(error, "%s holds no key: 32 bytes in base64, like the output of `openssl rand -base64 32`",
                         source);
    if (good)
        return keyring;
    keyring_destroy(keyring);
    return NULL;
}

static struct secret_keyring *read_key_file(const char *file, struct error *error) {
    struct secret_keyring *keyring = NULL;
    struct buffer text = {0}, source = {0};

    buffer_appendf(&source, FILE_SETTING " %s", file);
    errno = 0;
    if (secret_read_file(file, &text))
        keyring = keyring_parse(buffer_slice(&text), buffer_string(&source), error);
    else
        error_set(error, FILE_SETTING " %s cannot be read: %s", file, errno != 0 ? strerror(errno) : "it is too long");
    if (keyring != NULL)
        keyring->file = alloc_copy(file, strlen(file));
    secret_buffer_dispose(&text);
    buffer_dispose(&source);
    return keyring;
}

bool keyring_create(const struct config *config, struct secret_keyring **keyring, struct error *error) {
    const char *key = config->app_manager.secrets.key, *file = config->app_manager.secrets.key_file;

    *keyring = NULL;
    if (key != NULL && key[0] != '\0')
        *keyring = keyring_parse(slice_of(key), VARIABLE, error);
    else if (file != NULL && file[0] != '\0')
        *keyring = read_key_file(file, error);
    else
        return true;
    return *keyring != NULL;
}

void keyring_destroy(struct secret_keyring *keyring) {
    if (keyring == NULL)
        return;
    free(keyring->file);
    explicit_bzero(keyring, sizeof *keyring);
    free(keyring);
}

void keyring_warn_of_file(const struct secret_keyring *keyring) {
    struct stat status;

    if (keyring != NULL && keyring->file != NULL && stat(keyring->file, &status) == 0 &&
        (status.st_mode & S_IROTH) != 0)
        log_warning("app",
                    FILE_SETTING
                    " %s opens the secrets of all apps, and every user of this machine can read it: "
                    "chmod 600 it",
                    keyring->file);
}

/* --- sealing and opening --- */

static struct slice associated_data(struct slice id, struct slice field, char bytes[ASSOCIATED_MAX_BYTES]) {
    size_t length = id.length + 1 + field.length;

    if (length > ASSOCIATED_MAX_BYTES)
        abort(); /* ids are shorter: see app_name_valid */
    memcpy(bytes, id.data, id.length);
    bytes[id.length] = '\0';
    memcpy(bytes + id.length + 1, field.data, field.length);
    return (struct slice){bytes, length};
}

size_t keyring_seal(const struct secret_keyring *keyring, struct slice id, struct slice field, struct slice secret,
                    char sealed[SEALED_MAX_BYTES]) {
    const struct slice version = SLICE(SEALED_VERSION);
    unsigned char bytes[SECRET_MAX_BYTES + AES_GCM_OVERHEAD];
    size_t length = secret.length + AES_GCM_OVERHEAD;
    char associated[ASSOCIATED_MAX_BYTES];

    if (secret.length > SECRET_MAX_BYTES)
        abort(); /* records are checked before */
    aes_gcm_seal(keyring->keys[0], associated_data(id, field, associated), secret, bytes);
    memcpy(sealed, version.data, version.length);
    base64_encode((struct slice){(const char *)bytes, length}, sealed + version.length);
    return version.length + BASE64_LENGTH(length);
}

static bool refuse_sealed(struct slice field, const char *why, struct error *error) {
    return error_set(error, "%.*s is encrypted, and %s", SLICE_ARGS(field), why);
}

bool keyring_open(const struct secret_keyring *keyring, struct slice id, struct slice field, struct slice sealed,
                  char memory[SECRET_MAX_BYTES], struct slice *secret, bool *first, struct error *error) {
    const struct slice version = SLICE(SEALED_VERSION);
    unsigned char bytes[SECRET_MAX_BYTES + AES_GCM_OVERHEAD + 3];
    char associated[ASSOCIATED_MAX_BYTES];
    size_t length;

    if (keyring == NULL)
        return refuse_sealed(field, "there is no key: set " FILE_SETTING " or " VARIABLE, error);
    if (!slice_starts_with(sealed, version))
        return refuse_sealed(field, "in a form that this version does not know", error);
    if (sealed.length > SEALED_MAX_BYTES || !base64_decode(slice_skip(sealed, version.length), bytes, &length) ||
        length <= AES_GCM_OVERHEAD || length > SECRET_MAX_BYTES + AES_GCM_OVERHEAD)
        return refuse_sealed(field, "is not complete: what follows enc:1: is no base64 of this length", error);
    for (size_t i = 0; i < keyring->count; i++) {
        if (!aes_gcm_open(keyring->keys[i], associated_data(id, field, associated),
                          (struct slice){(const char *)bytes, length}, memory))
            continue;
        *secret = (struct slice){memory, length - AES_GCM_OVERHEAD};
        if (first != NULL)
            *first = i == 0;
        return true;
    }
    return refuse_sealed(field,
                         "no key opens it: none of " FILE_SETTING " or " VARIABLE
                         " is the one that encrypted it, or the value was changed or is from another app",
                         error);
}

void keyring_seal_bytes(const struct secret_keyring *keyring, struct slice label, struct slice bytes,
                        struct buffer *sealed) {
    buffer_reserve(sealed, bytes.length + AES_GCM_OVERHEAD);
    aes_gcm_seal(keyring->keys[0], label, bytes, (unsigned char *)sealed->data + sealed->length);
    sealed->length += bytes.length + AES_GCM_OVERHEAD;
}

bool keyring_open_bytes(const struct secret_keyring *keyring, struct slice label, struct slice sealed,
                        struct buffer *bytes) {
    if (keyring == NULL || sealed.length < AES_GCM_OVERHEAD || !buffer_try_reserve(bytes, sealed.length))
        return false;
    for (size_t i = 0; i < keyring->count; i++) {
        if (!aes_gcm_open(keyring->keys[i], label, sealed, bytes->data + bytes->length))
            continue;
        bytes->length += sealed.length - AES_GCM_OVERHEAD;
        return true;
    }
    return false;
}
