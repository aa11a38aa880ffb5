#include "app_manager/seed_apps.h"

#include "base/buffer.h"
#include "base/log.h"

/* Appends the names of the fields in which the two differ. */
static void append_differences(struct buffer *out, const struct app *configured, const struct app *stored) {
    json_t *ours = app_to_json(configured), *theirs = app_to_json(stored);

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        const json_t *our = json_object_get(ours, app_fields[i].name);
        if (our != NULL && !json_equal(our, json_object_get(theirs, app_fields[i].name)))
            buffer_appendf(out, "%s%s", out->length != 0 ? ", " : "", app_fields[i].name);
    }
    json_decref(ours);
    json_decref(theirs);
}

static void compare_app(const struct app *configured, const struct app *stored, const char *driver) {
    struct buffer fields = {0};

    append_differences(&fields, configured, stored);
    if (fields.length != 0)
        log_warning("app", "app %s of the configuration differs from the one in the %s store, which counts, in: %.*s",
                    configured->id.data, driver, SLICE_ARGS(buffer_slice(&fields)));
    buffer_dispose(&fields);
}

static enum store_answer create_missing_app(const struct app *app, struct store_connection *connection,
                                            struct error *error) {
    enum store_answer answer = store_create(connection, app, error);

    if (answer == STORE_OK)
        log_info("app", "app %s of the configuration was created in the %s store", app->id.data,
                 connection->driver->name);
    else if (answer != STORE_ID_TAKEN) /* else another server has just created it */
        log_error("app", "app %s of the configuration could not be created in the %s store: %s", app->id.data,
                  connection->driver->name, error->text);
    return answer;
}

static enum store_answer seed_app(const struct app *app, struct store_connection *connection, struct error *error) {
    struct app *stored = NULL;
    enum store_answer answer = store_find_by_id(connection, app->id, &stored, error);

    if (answer == STORE_NOT_FOUND)
        return create_missing_app(app, connection, error);
    if (answer == STORE_OK)
        compare_app(app, stored, connection->driver->name);
    else
        log_error("app", "app %s of the configuration could not be looked up in the %s store: %s", app->id.data,
                  connection->driver->name, error->text);
    app_unref(stored);
    return answer;
}

bool seed_apps_create(const struct config *config, const struct app_defaults *defaults,
                      struct store_connection *connection, int cancel_fd, struct error *error) {
    enum store_answer answer = STORE_OK;
    const json_t *json;
    size_t i;

    json_array_foreach(config->app_manager.array_apps, i, json) {
        const struct deadline deadline = deadline_after(config->app_manager.lookup_timeout_ms, cancel_fd);
        struct app *app = app_parse(json, defaults, APP_FROM_CONFIGURATION, app_warn_to_log, NULL, error);

        store_begin(connection, &deadline);
        if (app == NULL)
            log_error("app", "%s", error->text);
        else
            answer = seed_app(app, connection, error);
        app_unref(app);
        if (answer == STORE_UNAVAILABLE)
            return false;
    }
    return true;
}
