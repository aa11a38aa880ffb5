#include "app/check.h"

#include <stdlib.h>

#include "app/app.h"
#include "base/alloc.h"
#include "config/config.h"

static void add_warning(void *context, const char *text) {
    config_report_warning(context, "%s", text);
}

/* The first app that has the id or key stays; a later one is broken. */
static bool clashes(struct app *const *apps, size_t count, const struct app *app, struct config_report *report) {
    for (size_t i = 0; i < count; i++) {
        if (slice_equal(apps[i]->id, app->id)) {
            config_report_error(report, "app \"%s\": id is taken by another app in the list", app->id.data);
            return true;
        }
        if (slice_equal(apps[i]->key, app->key)) {
            config_report_error(report, "app \"%s\": key is taken by app \"%s\"", app->id.data, apps[i]->id.data);
            return true;
        }
    }
    return false;
}

/* How many apps are fine. */
static size_t check_apps(const struct config *config, struct config_report *report) {
    const json_t *list = config->app_manager.array_apps;
    struct app **apps = alloc_zero((json_array_size(list) + 1) * sizeof *apps);
    struct app_defaults defaults;
    size_t count = 0;

    app_defaults_from_config(&defaults, config);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct error error;
        struct app *app =
            app_parse(json_array_get(list, i), &defaults, APP_FROM_CONFIGURATION, add_warning, report, &error);

        if (app == NULL)
            config_report_error(report, "app_manager.array.apps[%zu]: %s", i, error.text);
        else if (clashes(apps, count, app, report))
            app_unref(app);
        else
            apps[count++] = app;
    }
    for (size_t i = 0; i < count; i++)
        app_unref(apps[i]);
    free(apps);
    return count;
}

int check_configuration(const char *file, bool verbose, FILE *out) {
    struct config_report report = {0};
    struct config config;
    size_t apps = 0;
    bool loaded = false;
    int code = 2;

    if (config_load(&config, file, &report, NULL)) {
        loaded = true;
        code = config_supported(&config, &report) ? 0 : 2;
        apps = check_apps(&config, &report);
        if (code == 0 && report.errors.count > 0)
            code = 1;
    }
    config_report_print(&report, verbose, out);
    if (code == 0)
        fprintf(out, "ok: %s, %zu app%s\n", config.file != NULL ? config.file : "no configuration file", apps,
                apps == 1 ? "" : "s");
    if (loaded)
        config_dispose(&config);
    config_report_dispose(&report);
    return code;
}
