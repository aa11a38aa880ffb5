/*
 * The secrets of an app: which of them made a signature, and how they are kept out of what is shown.
 *
 * After a rotation an app has two: the current one, and the previous one, which is accepted until
 * previous_secret_until by the wall clock. A record that is shown has neither.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/app.h"
#include "base/slice.h"

enum app_signer { APP_SIGNER_NONE, APP_SIGNER_CURRENT, APP_SIGNER_PREVIOUS };

/* True while the previous secret is accepted. */
static inline bool app_previous_secret_valid(const struct app *app, uint64_t now_s) {
    return app->previous_secret.length != 0 && now_s < app->previous_secret_until;
}

/*
 * Finds out which secret of the app made `signature`, 64 lower-case hexadecimal digits, of the concatenated parts. Each
 * is compared in constant time. `now_s` is the wall clock in seconds. Any thread.
 */
enum app_signer app_signer_of(const struct app *app, const struct slice *parts, size_t count, struct slice signature,
                              uint64_t now_s);

/* True if a secret of the app was plain text in the store that it is from. */
static inline bool app_has_plain_secret(const struct app *app) {
    uint32_t secrets = (1u << APP_SECRET | 1u << APP_PREVIOUS_SECRET) & app->set;

    return (secrets & ~app->sealed) != 0;
}

/* Removes the fields that are hidden from a record that is to be shown, and hides the secrets in its webhooks. */
void app_record_hide_secrets(json_t *record);

/* Removes the previous secret and its time: after a direct change of the secret nothing but the new one is valid. */
void app_record_forget_previous(json_t *record);

/* Sets both to those of the app, if it has them. */
void app_record_keep_previous(json_t *record, const struct app *app);
