#include "config/config_known_secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define STRING_OF(number) #number
#define TEXT_OF(number) STRING_OF(number)

/*
 * From the documentation and examples of this project, Sockudo, soketi, laravel-websockets, Reverb and Pusher, in lower
 * case and with `-` for `_`. They are public, so no comparison in constant time.
 */
static const char *const known_secrets[] = {
    "7ad3773142a6692b25b8",
    "a-secret-of-your-own",
    "app-secret",
    "bench-secret",
    "change-me",
    "changeme",
    "default-secret",
    "demo-app-secret",
    "demo-secret",
    "example-secret",
    "keep this on your servers",
    "laravel-websockets-app-secret",
    "local-app-secret",
    "local-secret",
    "my-app-secret",
    "my-secret",
    "password",
    "pusher-app-secret",
    "pusher-secret",
    "replace-with-app-secret",
    "reverb-app-secret",
    "reverb-secret",
    "secret",
    "secret1",
    "shop-secret",
    "sockudo-secret",
    "soketi-secret",
    "some-app-secret",
    "some-secret",
    "test-app-secret",
    "test-secret",
    "testing-reverb-secret",
    "your-app-secret",
    "your-production-app-secret",
    "your-pusher-app-secret",
    "your-pusher-secret",
    "your-reverb-app-secret",
    "your-secret",
};

static bool is_same_secret(struct slice secret, const char *known) {
    if (secret.length != strlen(known))
        return false;
    for (size_t i = 0; i < secret.length; i++) {
        char byte = secret.data[i] == '_' ? '-' : secret.data[i];
        if ((byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte) != known[i])
            return false;
    }
    return true;
}

bool config_secret_is_known(struct slice secret) {
    for (size_t i = 0; i < sizeof known_secrets / sizeof known_secrets[0]; i++)
        if (is_same_secret(secret, known_secrets[i]))
            return true;
    return false;
}

const char *config_secret_danger(struct slice secret) {
    if (config_secret_is_known(secret))
        return "its secret is publicly known from examples, so anyone can publish and sign in its name; set another "
               "one, such as the output of `openssl rand -hex 32`";
    if (secret.length < CONFIG_SECRET_SHORTEST)
        return "its secret has fewer than " TEXT_OF(CONFIG_SECRET_SHORTEST) " characters, so it can be found by trying; "
               "set another one, such as the output of `openssl rand -hex 32`";
    return NULL;
}

const char *config_previous_secret_danger(struct slice secret, uint64_t until_s) {
    if (until_s <= clock_wall_ms() / 1000 || !config_secret_is_known(secret))
        return NULL;
    return "its previous secret is publicly known from examples and still accepted, so anyone can publish and sign in "
           "its name; remove previous_secret, or end it with `curlew apps rotate-secret --revoke-previous`";
}

/* A number of seconds, as JSON number or as text; 0 if it is neither. */
static uint64_t seconds_of(const json_t *value) {
    if (json_is_string(value))
        return strtoull(json_string_value(value), NULL, 10);
    return json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
}

/* The secrets of an app that are texts: those that are digits only are in no example. */
static const char *app_danger(const json_t *app) {
    const char *secret = json_string_value(json_object_get(app, "secret"));
    const char *previous = json_string_value(json_object_get(app, "previous_secret"));

    if (secret != NULL && config_secret_is_known(slice_of(secret)))
        return config_secret_danger(slice_of(secret));
    if (previous == NULL)
        return NULL;
    return config_previous_secret_danger(slice_of(previous), seconds_of(json_object_get(app, "previous_secret_until")));
}

void config_report_known_secrets(const struct config *config, struct config_report *report) {
    const json_t *apps = config->app_manager.array_apps;

    for (size_t i = 0; i < json_array_size(apps); i++) {
        const json_t *app = json_array_get(apps, i);
        const json_t *id = json_object_get(app, "id");
        const char *danger = app_danger(app);
        char digits[24];

        snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
        if (danger != NULL)
            config_report_warning(report, "app \"%s\": %s", json_is_string(id) ? json_string_value(id) : digits,
                                  danger);
    }
}
