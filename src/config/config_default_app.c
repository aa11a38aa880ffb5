#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "config/config_app_field.h"
#include "config/config_loader.h"
#include "config/config_value.h"

#define PREFIX "SOCKUDO_DEFAULT_APP_"

enum variable_type { VARIABLE_TEXT, VARIABLE_FLAG, VARIABLE_NUMBER, VARIABLE_LIST };

/* The variables of the app in the environment, and the fields that they set; the first three are required. A later row
 * takes precedence. */
static const struct {
    const char *variable;
    const char *field;
    enum variable_type type;
} variables[] = {
    {PREFIX "ID", "id", VARIABLE_TEXT},
    {PREFIX "KEY", "key", VARIABLE_TEXT},
    {PREFIX "SECRET", "secret", VARIABLE_TEXT},
    {PREFIX "ENABLED", "enabled", VARIABLE_FLAG},
    {PREFIX "MAX_CONNECTIONS", "max_connections", VARIABLE_NUMBER},
    {PREFIX "MAX_CLIENT_EVENTS_PER_SECOND", "max_client_events_per_second", VARIABLE_NUMBER},
    {PREFIX "MAX_READ_REQUESTS_PER_SECOND", "max_read_requests_per_second", VARIABLE_NUMBER},
    {PREFIX "MAX_BACKEND_EVENTS_PER_SECOND", "max_backend_events_per_second", VARIABLE_NUMBER},
    {PREFIX "MAX_PRESENCE_MEMBERS_PER_CHANNEL", "max_presence_members_per_channel", VARIABLE_NUMBER},
    {PREFIX "MAX_PRESENCE_MEMBER_SIZE_IN_KB", "max_presence_member_size_in_kb", VARIABLE_NUMBER},
    {PREFIX "MAX_CHANNEL_NAME_LENGTH", "max_channel_name_length", VARIABLE_NUMBER},
    {PREFIX "MAX_EVENT_CHANNELS_AT_ONCE", "max_event_channels_at_once", VARIABLE_NUMBER},
    {PREFIX "MAX_EVENT_NAME_LENGTH", "max_event_name_length", VARIABLE_NUMBER},
    {PREFIX "MAX_EVENT_PAYLOAD_IN_KB", "max_event_payload_in_kb", VARIABLE_NUMBER},
    {PREFIX "MAX_EVENT_BATCH_SIZE", "max_event_batch_size", VARIABLE_NUMBER},
    {PREFIX "ENABLE_USER_AUTHENTICATION", "enable_user_authentication", VARIABLE_FLAG},
    {PREFIX "ENABLE_WATCHLIST_EVENTS", "enable_watchlist_events", VARIABLE_FLAG},
    {PREFIX "ALLOWED_ORIGINS", "allowed_origins", VARIABLE_LIST},
    {"SOCKUDO_ENABLE_CLIENT_MESSAGES", "enable_client_messages", VARIABLE_FLAG},
    {PREFIX "ENABLE_CLIENT_MESSAGES", "enable_client_messages", VARIABLE_FLAG},
};

#define REQUIRED 3
#define VARIABLE_COUNT (sizeof variables / sizeof variables[0])

/* The value from text; NULL if it is not valid. */
static json_t *field_value(enum variable_type type, const char *text) {
    struct slice trimmed = config_trim(slice_of(text));
    unsigned long long number;
    bool flag;

    switch (type) {
    case VARIABLE_TEXT:
        return json_string(text);
    case VARIABLE_FLAG:
        return config_flag_from_text(trimmed, &flag) ? json_boolean(flag) : NULL;
    case VARIABLE_NUMBER:
        if (slice_equal(trimmed, SLICE("-1"))) /* "no limit" of other servers */
            return json_integer(0);
        return slice_to_number(trimmed, UINT32_MAX, &number) ? json_integer((json_int_t)number) : NULL;
    case VARIABLE_LIST:
        return config_json_list(text);
    }
    return NULL;
}

static const char *field_description(enum variable_type type) {
    static const char *const descriptions[] = {
        [VARIABLE_TEXT] = "UTF-8 text",
        [VARIABLE_FLAG] = "true or false",
        [VARIABLE_NUMBER] = "a whole number from 0 to 4294967295",
        [VARIABLE_LIST] = "origins separated by commas, in UTF-8",
    };

    return descriptions[type];
}

/* The row of a field; VARIABLE_COUNT if there is none. */
static size_t find_field(struct slice name) {
    size_t i = 0;

    while (i < VARIABLE_COUNT && !slice_equal(slice_of(variables[i].field), name))
        i++;
    return i;
}

bool config_app_field_known(struct slice name) {
    return find_field(name) < VARIABLE_COUNT;
}

bool config_app_field_is_text(struct slice name) {
    size_t row = find_field(name);

    return row < VARIABLE_COUNT && variables[row].type == VARIABLE_TEXT;
}

json_t *config_app_field_value(struct slice name, const char *text) {
    size_t row = find_field(name);

    return row < VARIABLE_COUNT ? field_value(variables[row].type, text) : NULL;
}

/* The field's value; NULL with a warning if the variable is not valid. */
static json_t *variable_value(struct config_loader *loader, size_t index, const char *text) {
    json_t *value = field_value(variables[index].type, text);

    if (value == NULL)
        config_report_warning(loader->report, "the environment variable %s must be %s; it is ignored",
                              variables[index].variable, field_description(variables[index].type));
    return value;
}

/* True if an app can be made. Warns if only some of its variables are set. */
static bool complete_app(struct config_loader *loader) {
    const char *missing = NULL, *present = NULL;

    for (size_t i = 0; i < VARIABLE_COUNT; i++) {
        bool is_set = config_environment(variables[i].variable) != NULL;

        if (!is_set && i < REQUIRED && missing == NULL)
            missing = variables[i].variable;
        /* Client messages are often allowed in general, with or without an app in the environment. */
        if (is_set && present == NULL && strncmp(variables[i].variable, PREFIX, strlen(PREFIX)) == 0)
            present = variables[i].variable;
    }
    if (missing != NULL && present != NULL)
        config_report_warning(loader->report,
                              "the environment variable %s is set but %s is not, so there is no app from the "
                              "environment: it takes " PREFIX "ID, _KEY and _SECRET",
                              present, missing);
    return missing == NULL;
}

static json_t *app_from_environment(struct config_loader *loader) {
    json_t *app;

    if (!complete_app(loader))
        return NULL;
    app = json_object();
    for (size_t i = 0; i < VARIABLE_COUNT; i++) {
        const char *text = config_environment(variables[i].variable);
        json_t *value = text != NULL ? variable_value(loader, i, text) : NULL;

        if (value != NULL)
            json_object_set_new(app, variables[i].field, value);
    }
    for (size_t i = 0; i < REQUIRED; i++) {
        if (json_object_get(app, variables[i].field) == NULL) {
            json_decref(app);
            return NULL;
        }
    }
    return app;
}

/* Whether the app has this id, as a text or as an integer. */
static bool has_id(const json_t *app, const char *id) {
    const json_t *other = json_object_get(app, "id");
    char digits[24];

    snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(other));
    return strcmp(id, json_is_integer(other) ? digits : json_is_string(other) ? json_string_value(other) : "") == 0;
}

/* Puts the app into the list. Takes over the reference. */
static void put_app(json_t *apps, json_t *app) {
    const char *id = json_string_value(json_object_get(app, "id"));

    for (size_t i = 0; i < json_array_size(apps); i++) {
        if (has_id(json_array_get(apps, i), id)) {
            json_array_set_new(apps, i, app);
            return;
        }
    }
    json_array_append_new(apps, app);
}

bool config_app_field_reads(struct slice variable) {
    for (size_t i = 0; i < VARIABLE_COUNT; i++)
        if (slice_equal(slice_of(variables[i].variable), variable))
            return true;
    return false;
}

void config_load_default_app(struct config_loader *loader) {
    struct config *config = loader->config;
    json_t *app = app_from_environment(loader);

    if (config->app_manager.skip_inline_apps || !config->app_manager.register_inline_apps)
        json_array_clear(config->app_manager.array_apps);
    if (app != NULL)
        put_app(config->app_manager.array_apps, app);
    if (loader->file != NULL || json_array_size(config->app_manager.array_apps) > 0 ||
        config->app_manager.driver != CONFIG_DRIVER_MEMORY || config_is_production(config))
        return;
    json_array_append_new(config->app_manager.array_apps,
                          json_pack("{s:s, s:s, s:s, s:b}", "id", "1", "key", "app-key", "secret", "app-secret",
                                    "enable_client_messages", 1));
    config_report_warning(loader->report,
                          "no app is configured, so there is a demo app with a publicly known secret: id 1, "
                          "key app-key; put apps under app_manager.array.apps, and set mode to production on the "
                          "internet");
}
