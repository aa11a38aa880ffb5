#include "config/config_known_secret.h"

#include <stdio.h>
#include <string.h>

/* From examples of this project, Sockudo, soketi and Laravel. They are public, so no comparison in constant time. */
static const char *const known_secrets[] = {"app-secret", "bench-secret", "demo-secret", "my-app-secret",
                                            "my-secret",  "secret",       "test-secret", "your-app-secret"};

static bool is_known_secret(const char *secret) {
    for (size_t i = 0; i < sizeof known_secrets / sizeof known_secrets[0]; i++)
        if (strcmp(secret, known_secrets[i]) == 0)
            return true;
    return false;
}

void config_report_known_secrets(const struct config *config, struct config_report *report) {
    const json_t *apps = config->app_manager.array_apps;

    for (size_t i = 0; i < json_array_size(apps); i++) {
        const json_t *app = json_array_get(apps, i);
        const json_t *id = json_object_get(app, "id");
        const char *secret = json_string_value(json_object_get(app, "secret"));
        char digits[24];

        snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
        if (secret != NULL && is_known_secret(secret))
            config_report_warning(report,
                                  "app \"%s\": its secret is publicly known from examples, so anyone can publish and "
                                  "sign in its name; set another one, such as the output of `openssl rand -hex 32`",
                                  json_is_string(id) ? json_string_value(id) : digits);
    }
}
