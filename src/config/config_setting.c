#include "config/config_setting.h"

#include <string.h>

#include "config/config_table.h"
#include "config/config_value.h"

/* True if the path, or a section around it, is accepted without effect. */
static bool path_is_accepted(const char *path) {
    for (size_t i = 0; i < config_accepted_path_count; i++) {
        const char *accepted = config_accepted_paths[i];
        size_t length = strcspn(accepted, "*");

        if (strncmp(path, accepted, length) != 0)
            continue;
        if (accepted[length] == '*' || path[length] == '\0' || path[length] == '.')
            return true;
    }
    return false;
}

bool config_setting_check(const char *path, const json_t *value, struct error *error) {
    struct config config = {0};
    struct buffer right = {0}, wrong = {0};

    for (size_t i = 0; i < config_row_count; i++) {
        const struct config_row *row = &config_rows[i];
        bool valid;

        if (row->path == NULL || strcmp(row->path, path) != 0)
            continue;
        valid = config_value_from_json(&config, row, value);
        config_value_clear(&config, row);
        if (valid)
            return true;
        config_value_describe(row, &right);
        config_value_describe_json(value, &wrong);
        error_set(error, "%s must be %.*s, not %.*s", path, SLICE_ARGS(buffer_slice(&right)),
                  SLICE_ARGS(buffer_slice(&wrong)));
        buffer_dispose(&right);
        buffer_dispose(&wrong);
        return false;
    }
    return path_is_accepted(path) || error_set(error, "%s is not a setting of this server", path);
}
