#include "session/session_internal.h"

bool signature_valid(const struct app *app, struct slice auth, const struct slice *parts, size_t count,
                     const char **why) {
    size_t key_length = auth.length - HMAC_SHA256_HEX - 1;
    char expected[HMAC_SHA256_HEX];

    if (auth.length <= HMAC_SHA256_HEX + 1 || auth.data[key_length] != ':') {
        *why = "`auth` must be the app's key, a colon and 64 hexadecimal digits";
        return false;
    }
    if (!slice_equal((struct slice){auth.data, key_length}, app->key)) {
        *why = "the key in `auth` is not the key of this app";
        return false;
    }
    hmac_sha256_hex(&app->hmac, parts, count, expected);
    if (!equal_in_constant_time((struct slice){expected, sizeof expected}, slice_skip(auth, key_length + 1))) {
        *why = "the signature in `auth` does not match: is it made with this app's secret, for this socket id?";
        return false;
    }
    return true;
}
