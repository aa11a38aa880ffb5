#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"
#include "config/config_known_secret.h"
#include "config/config_table.h"
#include "config/config_value.h"

#define LEAST_POOL 2
#define MOST_POOL 10

void config_dispose(struct config *config) {
    for (size_t i = 0; i < config_row_count; i++)
        config_value_clear(config, &config_rows[i]);
    free(config->file);
    *config = (struct config){0};
}

bool config_supported(const struct config *config, struct config_report *report) {
    if (config_is_production(config))
        config_report_known_secrets(config, report);
    if (config->admin.token != NULL && !config_has_admin_api(config))
        config_report_warning(report,
                              "CURLEW_ADMIN_TOKEN is set, but the memory driver has nothing to administer: its "
                              "apps are those of the configuration");
    if (!config->ssl.enabled || (config->ssl.cert_path[0] != '\0' && config->ssl.key_path[0] != '\0'))
        return true;
    config_report_error(report,
                        "ssl.enabled needs ssl.cert_path and ssl.key_path, PEM files (the environment variables are "
                        "SSL_CERT_PATH and SSL_KEY_PATH)");
    return false;
}

/* ScyllaDB's settings have two keys each; the later row is the one of the documentation. */
static bool has_later_row(size_t index) {
    for (size_t i = index + 1; i < config_row_count; i++)
        if (config_rows[i].offset == config_rows[index].offset)
            return true;
    return false;
}

void config_list_restarts(const struct config *before, const struct config *after, struct buffer *keys) {
    unsigned reloaded = CONFIG_RELOADED | CONFIG_WITHOUT_EFFECT;

    if (after->app_manager.driver == CONFIG_DRIVER_MEMORY)
        reloaded |= CONFIG_APP_DEFAULT;
    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];

        if (row->path == NULL || (row->flags & reloaded) != 0 || config_value_equal(before, after, row) ||
            has_later_row(i))
            continue;
        if (row->offset == offsetof(struct config, instance.process_id) && before->instance.drawn &&
            after->instance.drawn)
            continue;
        buffer_appendf(keys, "%s%s", keys->length > 0 ? ", " : "", row->path);
    }
}

bool config_is_production(const struct config *config) {
    return slice_equal_ignoring_case(slice_of(config->mode), SLICE("production"));
}

bool config_webhooks_enabled(const struct config *config) {
    return !slice_equal_ignoring_case(slice_of(config->queue.driver), SLICE("none"));
}

bool config_has_admin_api(const struct config *config) {
    return config->admin.token != NULL &&
           (config->app_manager.driver != CONFIG_DRIVER_MEMORY || config_has_adapter(config));
}

bool config_has_adapter(const struct config *config) {
    return strcmp(config->adapter.driver, "local") != 0;
}

uint32_t config_max_message_bytes(const struct config *config) {
    uint64_t payload = (uint64_t)config->websocket_max_payload_kb * 1024;

    return payload < config->websocket.max_message_size ? (uint32_t)payload : config->websocket.max_message_size;
}

struct log_settings config_log_settings(const struct config *config) {
    return (struct log_settings){
        .format = config->logging.format,
        .level = config->logging.level,
        .colors = config->logging.colors_enabled,
        .include_target = config->logging.include_target,
    };
}

/* One bound of the pool, in order of precedence: the driver's own, the common one, the single size, the default. */
static uint32_t pool_size(const struct config *config, const struct config_sql *sql, struct config_number own,
                          struct config_number common, uint32_t fallback) {
    if (sql != NULL && own.set)
        return own.value;
    if (config->database_pooling.enabled && common.set)
        return common.value;
    if (sql != NULL && sql->connection_pool_size.set)
        return sql->connection_pool_size.value;
    return fallback;
}

bool config_pool_sizes(const struct config *config, const struct config_sql *sql, uint32_t *min, uint32_t *max,
                       struct error *error) {
    const struct config_number unset = {0};
    const char *section = sql == NULL                         ? "database_pooling"
                          : sql == &config->database.postgres ? "database.postgres"
                                                              : "database.mysql";
    const char *prefix = sql == NULL ? "" : "pool_";

    *min = pool_size(config, sql, sql != NULL ? sql->pool_min : unset, config->database_pooling.min, LEAST_POOL);
    *max = pool_size(config, sql, sql != NULL ? sql->pool_max : unset, config->database_pooling.max, MOST_POOL);
    if (*max == 0)
        return error_set(error, "%s.%smax is 0: a pool needs at least one connection", section, prefix);
    if (*min > *max)
        return error_set(
            error,
            "%s.%smin is %u, above %s.%smax, which is %u (the driver's own settings take precedence over "
            "database_pooling, which takes precedence over connection_pool_size, and that over the defaults 2 and 10)",
            section, prefix, *min, section, prefix, *max);
    return true;
}
