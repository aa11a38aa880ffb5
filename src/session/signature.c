#include "app/app_secret.h"
#include "base/clock.h"
#include "session/session_internal.h"

bool signature_valid(struct session *session, struct slice auth, const struct slice *parts, size_t count,
                     const char **why) {
    const struct app *app = session->app;
    size_t key_length = auth.length - HMAC_SHA256_HEX - 1;
    /* The time matters during a rotation only. */
    uint64_t now_s = app->previous_secret.length != 0 ? clock_wall_s() : 0;
    enum app_signer signer;

    if (auth.length <= HMAC_SHA256_HEX + 1 || auth.data[key_length] != ':') {
        *why = "`auth` must be the app's key, a colon and 64 hexadecimal digits";
        return false;
    }
    if (!slice_equal((struct slice){auth.data, key_length}, app->key)) {
        *why = "the key in `auth` is not the key of this app";
        return false;
    }
    signer = app_signer_of(app, parts, count, slice_skip(auth, key_length + 1), now_s);
    if (signer == APP_SIGNER_PREVIOUS)
        slot_previous_secret_seen(session->slot, session_worker(session), now_s, app->previous_secret_until);
    if (signer == APP_SIGNER_NONE) {
        *why = "the signature in `auth` does not match: is it made with this app's secret, for this socket id?";
        return false;
    }
    return true;
}
