/*
 * Any JSON as an app's record: what is accepted is written out and read again as the same app, from the configuration
 * and from a store; what is refused says why.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/app_defaults.h"
#include "app/app.h"
#include "app/delta_pattern.h"

#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            abort();                                                                                                   \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void see_warning(void *context, const char *text) {
    (void)context;
    MUST(strncmp(text, "app \"", 5) == 0);
}

static void check_record(const struct app *app) {
    MUST(app_name_valid(app->id) && app_name_valid(app->key));
    MUST(app->secret.length >= 1 && app->secret.length <= 255);
    for (size_t i = 0; i < app->allowed_origin_count; i++)
        MUST(app->allowed_origins[i].length > 0);
    for (size_t i = 0; i < app->webhook_count; i++)
        MUST((app->webhooks[i].url.data == NULL) != (app->webhooks[i].lambda_function.data == NULL));
    for (size_t i = 0; i < app->delta_setting_count; i++)
        MUST(app->delta_settings[i].pattern.length > 0);
    for (size_t i = 0; i < app->delta_name_count; i++)
        MUST(app_delta_find(app, app->delta_settings[i].pattern) == &app->delta_settings[i]);
    app_delta_find(app, app->key);
}

static void check_round_trip(const json_t *record, enum app_source source) {
    struct app_defaults defaults;
    struct error error = {0};
    struct app *app, *again;
    json_t *written;

    app_defaults_of_100(&defaults);
    app = app_parse(record, &defaults, source, see_warning, NULL, &error);
    if (app == NULL) {
        MUST(error.text[0] != '\0');
        return;
    }
    check_record(app);
    if (source == APP_FROM_STORE &&
        (slice_starts_with(app->secret, SLICE("file:")) || slice_starts_with(app->previous_secret, SLICE("file:")))) {
        app_unref(app); /* a new one may not look like this */
        return;
    }
    written = app_to_json(app);
    again = app_parse(written, &defaults, APP_FROM_CONFIGURATION, see_warning, NULL, &error);
    MUST(again != NULL && app_equal(app, again) && app->set == again->set);
    MUST(app->webhook_count == again->webhook_count && app->delta_setting_count == again->delta_setting_count);
    app_unref(again);
    json_decref(written);
    app_unref(app);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *record = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);

    if (record == NULL)
        return 0;
    check_round_trip(record, APP_FROM_CONFIGURATION);
    check_round_trip(record, APP_FROM_STORE);
    json_decref(record);
    return 0;
}
