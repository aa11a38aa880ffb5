#include "server/check.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "app/app.h"
#include "config/config.h"
#include "server/check_adapter.h"
#include "server/check_security.h"
#include "server/check_store.h"
#include "server/server_tls.h"
#include "store/drivers.h"
#include "store/sqlite/sqlite_file.h"
#include "store/store.h"

const char check_no_app_warning[] =
    "there is no app yet, so no client can connect: add one to app_manager.array.apps and send SIGHUP, or start with "
    "SOCKUDO_DEFAULT_APP_ID, _KEY and _SECRET set";

/* An app of the configuration, for messages about it. */
struct checked_app {
    const struct config *config;
    struct config_report *report;
    size_t index;
};

/* Writes where the app is: "config.json: app_manager.array.apps[2]". */
static void append_app_place(const struct checked_app *checked, struct buffer *place) {
    const char *file = checked->config->file;

    buffer_appendf(place, "%s%sapp_manager.array.apps[%zu]", file != NULL ? file : "", file != NULL ? ": " : "",
                   checked->index);
}

static void report_app_error(const struct checked_app *checked, const char *text) {
    struct buffer place = {0};

    append_app_place(checked, &place);
    config_report_error(checked->report, "%s: %s", buffer_string(&place), text);
    buffer_dispose(&place);
}

static void report_app_warning(void *context, const char *text) {
    const struct checked_app *checked = context;
    struct buffer place = {0};

    append_app_place(checked, &place);
    config_report_warning(checked->report, "%s: %s", buffer_string(&place), text);
    buffer_dispose(&place);
}

/* The first app with an id or key counts; a later one with the same is broken. */
static bool apps_clash(const json_t *owners_by_id, const json_t *owners_by_key, const struct app *app,
                       struct error *error) {
    const json_t *owner = json_object_get(owners_by_key, app->key.data);

    if (json_object_get(owners_by_id, app->id.data) != NULL)
        error_set(error, "app \"%s\": another app in the list has this id", app->id.data);
    else if (owner != NULL)
        error_set(error, "app \"%s\": app \"%s\" has this key", app->id.data, json_string_value(owner));
    else
        return false;
    return true;
}

/* Tells of entries that have no effect because the server has no deltas. */
static void report_idle_deltas(struct checked_app *checked, const struct app *app) {
    if (app->delta_setting_count != 0 && !checked->config->delta_compression.enabled)
        report_app_warning(checked, "channel_delta_compression has no effect: delta_compression.enabled is false");
}

/* Returns the number of valid apps. */
static size_t check_apps(const struct config *config, struct config_report *report) {
    const json_t *list = config->app_manager.array_apps;
    json_t *by_id = json_object(), *by_key = json_object();
    struct app_defaults defaults;
    size_t count = 0;

    app_defaults_from_config(&defaults, config);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct checked_app checked = {config, report, i};
        struct error error;
        struct app *app =
            app_parse(json_array_get(list, i), &defaults, APP_FROM_CONFIGURATION, report_app_warning, &checked, &error);

        if (app == NULL || apps_clash(by_id, by_key, app, &error)) {
            report_app_error(&checked, error.text);
        } else {
            json_object_set_new(by_id, app->id.data, json_true());
            json_object_set_new(by_key, app->key.data, json_string(app->id.data));
            report_idle_deltas(&checked, app);
            count++;
        }
        app_unref(app);
    }
    json_decref(by_id);
    json_decref(by_key);
    return count;
}

static bool check_certificate(const struct config *config, struct config_report *report) {
    struct tls_context *tls;
    struct error error;
    bool good = server_tls_create(config, NULL, &tls, &error);

    if (!good)
        config_report_error(report, "%s", error.text);
    tls_context_destroy(tls);
    return good;
}

/* Lets the driver check its settings, without a request to the store; a strict check reads its apps, too. */
static bool check_store(const struct config *config, bool strict, struct config_report *report, size_t *apps) {
    const struct app_store_driver *driver = app_store_driver_of(config->app_manager.driver);
    struct app_defaults defaults;
    struct app_store *store;
    struct error error;

    if (config->app_manager.driver == CONFIG_DRIVER_MEMORY)
        return true;
    app_defaults_from_config(&defaults, config);
    store = store_open(driver, config, &defaults, &error);
    if (store == NULL) {
        config_report_error(report, "%s", error.text);
        return false;
    }
    if (strict)
        *apps = check_stored_apps(config, store, report);
    store_close(store);
    return true;
}

/* True if a start would come as far as listening. */
static bool can_start(const struct config *config, bool strict, struct config_report *report, size_t *stored) {
    bool supported = config_supported(config, report) && check_certificate(config, report);

    supported = check_adapter(config, report) && check_adapter_drivers(config, report) && supported;
    return check_store(config, strict, report, stored) && supported;
}

/* Tells of settings with which no message is ever sent as a delta, or none that was meant. */
static void check_deltas(const struct config *config, struct config_report *report) {
    struct slice path = slice_of(config->delta_compression.conflation_key_path);

    if (!config->delta_compression.enabled)
        return;
    if (config->delta_compression.full_message_interval == 0)
        config_report_warning(report,
                              "delta_compression.full_message_interval is 0, so every message is sent whole: "
                              "set it to 1 or more, or delta_compression.enabled to false");
    if (app_conflation_path_odd(path))
        config_report_warning(report,
                              "delta_compression.conflation_key_path finds nothing, so every message is sent whole: "
                              "it is 1 to %d names with dots between them",
                              APP_CONFLATION_NAMES_MAX);
    if (!config->tag_filtering.enable_tags && slice_starts_with(path, SLICE("tags.")))
        config_report_warning(report,
                              "delta_compression.conflation_key_path finds nothing in most channels: with "
                              "tag_filtering.enable_tags false, messages have no tags");
}

/* The folder of the file of apps has to be writable when the first query is made; the server starts without that. A
 * missing folder is an error of the store itself. */
static void check_sqlite_folder(const char *path, struct config_report *report) {
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];

    if (slash == NULL || slash == path)
        return;
    snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
    if (access(folder, W_OK | X_OK) != 0 && errno != ENOENT && errno != ENOTDIR)
        config_report_error(report, "database.sqlite.path %s: %s; this user has to be able to write in its folder",
                            path, strerror(errno));
}

/* What the server finds out when it opens the file. */
static void check_sqlite_file(const char *path, struct config_report *report) {
    struct error error;

    if (sqlite_explain_owner(path, &error))
        config_report_error(report, "%s", error.text);
    else if (sqlite_explain_readonly(path, &error))
        config_report_warning(report, "%s", error.text);
}

/* Reports what is found, and returns the exit code. */
static int check_loaded(const struct config *config, bool strict, struct config_report *report, size_t *apps) {
    size_t stored = 0;
    int code = can_start(config, strict, report, &stored) ? 0 : 2;

    *apps = check_apps(config, report);
    if (json_array_size(config->app_manager.array_apps) == 0 && config->app_manager.driver == CONFIG_DRIVER_MEMORY)
        config_report_warning(report, "%s", check_no_app_warning);
    if (config->app_manager.driver != CONFIG_DRIVER_MEMORY && strict)
        *apps = stored; /* those of the configuration are among them from the first start on */
    check_deltas(config, report);
    if (config->app_manager.driver == CONFIG_DRIVER_SQLITE) {
        check_sqlite_folder(config->database.sqlite.path, report);
        check_sqlite_file(config->database.sqlite.path, report);
    }
    check_security(config, report);
    return code == 0 && (report->errors.count > 0 || (strict && report->warnings.count + report->dangers.count > 0))
               ? 1
               : code;
}

static void print_good(const struct config *config, bool strict, size_t apps, FILE *out) {
    bool stored = config->app_manager.driver != CONFIG_DRIVER_MEMORY;

    fprintf(out, "ok: %s, %zu app%s", config->file != NULL ? config->file : "no configuration file", apps,
            apps == 1 ? "" : "s");
    if (stored && !strict)
        fprintf(out, "; those of the %s store are read with --strict only",
                app_store_driver_of(config->app_manager.driver)->name);
    fputc('\n', out);
}

int check_configuration(const char *file, bool verbose, bool strict, FILE *out) {
    struct config_report report = {0};
    struct config config;
    size_t apps = 0;
    bool loaded = config_load(&config, file, &report, NULL);
    int code = loaded ? check_loaded(&config, strict, &report, &apps) : 2;

    config_report_print(&report, verbose, out);
    if (code == 0)
        print_good(&config, strict, apps, out);
    else if (code == 1 && report.errors.count == 0)
        fprintf(out, "failed: %s has warnings, and --strict is given\n",
                config.file != NULL ? config.file : "the configuration");
    if (loaded)
        config_dispose(&config);
    config_report_dispose(&report);
    return code;
}
