#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "server/server_internal.h"

static void reload_apps(struct server *server, const struct config *config) {
    struct app_changes changes;
    struct error error;

    if (app_manager_has_store(server->apps))
        log_info("server", "the apps are in a store, so they are not read from the configuration");
    else if (app_manager_reload(server->apps, config, &changes, &error))
        log_info("server", "apps reloaded: %u added, %u changed, %u removed%s", changes.added, changes.changed,
                 changes.removed, changes.held != 0 ? "; the removal of the others is held" : "");
    else
        log_error("server", "nothing was changed: %s", error.text);
}

/* Says what else has changed in the configuration, so that nobody takes it for applied. */
static void warn_of_restarts(const struct config *before, const struct config *after) {
    struct buffer keys = {0};

    config_list_restarts(before, after, &keys);
    if (keys.length > 0)
        log_warning("server", "these settings have changed and need a restart: %.*s", SLICE_ARGS(buffer_slice(&keys)));
    buffer_dispose(&keys);
}

/* True if the file that was read at the start is not there any more. Without this check, a file that is being replaced
 * would count as one without apps. */
static bool is_file_missing(const char *before, const char *now) {
    return before != NULL && (now == NULL || strcmp(before, now) != 0) && access(before, F_OK) != 0;
}

void server_reload(struct server *server, const char *config_file) {
    struct config_report report = {0};
    struct config config;
    struct error error;

    log_info("server", "SIGHUP: reading the apps and the certificate again");
    if (!config_load(&config, config_file, &report, &error)) {
        config_report_log(&report);
        log_error("server", "nothing was changed: the configuration has the errors above");
    } else if (config.app_manager.driver != server->config.app_manager.driver) {
        /* The file's list of apps is not the one in use. */
        log_error("server", "nothing was changed: app_manager.driver has changed, which needs a restart");
        config_dispose(&config);
    } else if (is_file_missing(server->config.file, config.file)) {
        log_error("server", "nothing was changed: the configuration file %s is not there any more",
                  server->config.file);
        config_dispose(&config);
    } else {
        config_report_log(&report);
        warn_of_restarts(&server->config, &config);
        server_tls_reload(&server->tls, &config, server->tickets, &server->reclaimer);
        reload_apps(server, &config);
        config_dispose(&config);
    }
    config_report_dispose(&report);
}
