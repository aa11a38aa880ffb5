#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "config/config_loader.h"
#include "config/config_value.h"

const char *config_environment(const char *name) {
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/*
 * True for NAME_PORT=tcp://10.0.0.1:3306: Kubernetes sets such variables for its services, and a service may be called
 * "metrics" or "database-mysql".
 */
static bool is_of_service(struct slice name, const char *value) {
    return slice_ends_with(name, SLICE("_PORT")) && strncmp(value, "tcp://", 6) == 0;
}

/* `name` is a part of the row's list: static, but not terminated. */
static void load_variable(struct config_loader *loader, size_t index, struct slice name) {
    const struct config_row *row = &config_rows[index];
    char *variable = alloc_copy(name.data, name.length);
    const char *value = config_environment(variable);
    struct buffer right = {0};

    if (value == NULL || is_of_service(name, value)) {
        free(variable);
        return;
    }
    if ((row->flags & CONFIG_WITHOUT_EFFECT) != 0)
        config_report_accepted(loader->report, "%s", variable);
    if (config_value_from_text(loader->config, row, value)) {
        /* The whole list names the source. */
        loader->sources[index] = row->variables;
    } else {
        config_value_describe(row, &right);
        config_value_suggest(row, config_trim(slice_of(value)), &right);
        if ((row->flags & CONFIG_FATAL_VARIABLE) != 0)
            config_report_error(loader->report, "the environment variable %s must be %.*s", variable,
                                SLICE_ARGS(buffer_slice(&right)));
        else
            config_report_warning(loader->report,
                                  "the environment variable %s must be %.*s%s is ignored, and the earlier value stays",
                                  variable, SLICE_ARGS(buffer_slice(&right)),
                                  slice_ends_with(buffer_slice(&right), SLICE("?")) ? " It" : "; it");
        buffer_dispose(&right);
    }
    free(variable);
}

static void load_variables(struct config_loader *loader, size_t index) {
    const char *rest = config_rows[index].variables;

    while (rest != NULL && *rest != '\0') {
        struct slice name = {rest, strcspn(rest, " ")};

        load_variable(loader, index, name);
        rest += name.length;
        rest += strspn(rest, " ");
    }
}

static const struct config_row *log_level_row(void) {
    for (size_t i = 0; i < config_row_count; i++)
        if (config_rows[i].offset == offsetof(struct config, logging.level))
            return &config_rows[i];
    return NULL;
}

/*
 * RUST_LOG is a list of directives, "warn,server=debug": the level for everything is the one without a target, else
 * the first target's. False if it holds none.
 */
static bool level_from_rust_log(struct config *config, const char *text) {
    const struct config_row *row = log_level_row();
    bool found = false;

    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        struct slice directive = config_trim((struct slice){text, length});
        const char *equals = memchr(directive.data, '=', directive.length);
        struct slice level = equals != NULL ? slice_skip(directive, (size_t)(equals + 1 - directive.data)) : directive;

        if (level.length > 0 && (equals == NULL || !found)) {
            char *word = alloc_copy(level.data, level.length);
            bool good = config_value_from_text(config, row, word);

            free(word);
            if (good && equals == NULL)
                return true;
            found = found || good;
        }
        text += length;
        text += *text == ',';
    }
    return found;
}

static void load_log_level(struct config_loader *loader) {
    struct config *config = loader->config;
    const char *rust_log = config_environment("RUST_LOG");
    size_t row = (size_t)(log_level_row() - config_rows);

    if (loader->sources[row] != NULL) /* LOG_LEVEL is set */
        return;
    if (rust_log != NULL && level_from_rust_log(config, rust_log))
        return;
    if (rust_log != NULL)
        config_report_warning(loader->report,
                              "the environment variable RUST_LOG names no level (error, warn, info, "
                              "debug); it is ignored");
    if (config->debug)
        config->logging.level = LOG_DEBUG;
}

static void check_admin_token(struct config_loader *loader) {
    struct config *config = loader->config;

    if (config->admin.token == NULL || strlen(config->admin.token) >= CONFIG_ADMIN_TOKEN_MIN)
        return;
    config_report_warning(loader->report,
                          "the environment variable CURLEW_ADMIN_TOKEN must have %d characters or more; it is ignored, "
                          "and the admin API stays off",
                          CONFIG_ADMIN_TOKEN_MIN);
    free(config->admin.token);
    config->admin.token = NULL;
}

/* Warns of soketi's variables, which have no effect here. */
static void warn_of_soketi(struct config_loader *loader) {
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++) {
        if (!slice_starts_with(slice_of(*variable), SLICE("SOKETI_")))
            continue;
        config_report_warning(loader->report,
                              "the environment variable %.*s and others that begin with SOKETI_ are not read; "
                              "`curlew convert soketi FILE --env FILE` turns them into settings of Curlew",
                              (int)strcspn(*variable, "="), *variable);
        return;
    }
}

void config_load_environment(struct config_loader *loader) {
    for (size_t i = 0; i < config_row_count; i++)
        load_variables(loader, i);
    load_log_level(loader);
    check_admin_token(loader);
    warn_of_soketi(loader);
}
