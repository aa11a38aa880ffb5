#include "app/app_secret.h"

static bool is_signed_with(const struct hmac_key *key, const struct slice *parts, size_t count,
                           struct slice signature) {
    char expected[HMAC_SHA256_HEX];

    hmac_sha256_hex(key, parts, count, expected);
    return equal_in_constant_time(signature, (struct slice){expected, sizeof expected});
}

enum app_signer app_signer_of(const struct app *app, const struct slice *parts, size_t count, struct slice signature,
                              uint64_t now_s) {
    if (is_signed_with(&app->hmac, parts, count, signature))
        return APP_SIGNER_CURRENT;
    if (app_previous_secret_valid(app, now_s) && is_signed_with(&app->previous_hmac, parts, count, signature))
        return APP_SIGNER_PREVIOUS;
    return APP_SIGNER_NONE;
}

void app_record_hide_secrets(json_t *record) {
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (app_fields[i].hidden)
            json_object_del(record, app_fields[i].name);
    app_webhooks_hide_secrets(json_object_get(record, app_fields[APP_WEBHOOKS].name));
    app_webhooks_hide_secrets(json_object_get(json_object_get(record, app_fields[APP_POLICY].name), "webhooks"));
}

void app_record_forget_previous(json_t *record) {
    json_object_del(record, app_fields[APP_PREVIOUS_SECRET].name);
    json_object_del(record, app_fields[APP_PREVIOUS_SECRET_UNTIL].name);
}

void app_record_keep_previous(json_t *record, const struct app *app) {
    if (app_field_is_set(app, APP_PREVIOUS_SECRET))
        json_object_set_new(record, app_fields[APP_PREVIOUS_SECRET].name,
                            json_stringn(app->previous_secret.data, app->previous_secret.length));
    if (app_field_is_set(app, APP_PREVIOUS_SECRET_UNTIL))
        json_object_set_new(record, app_fields[APP_PREVIOUS_SECRET_UNTIL].name,
                            json_integer((json_int_t)app->previous_secret_until));
}
