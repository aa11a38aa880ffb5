#include "config/config_secret_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/secret_text.h"

/* "file:/path" and the URL "file:///path" are the same. */
static const char *path_of(const char *value) {
    const char *path = value + strlen("file:");

    return strncmp(path, "///", 3) == 0 ? path + 2 : path;
}

/* The secret in the file, a new reference; NULL with an error. */
static json_t *secret_of_file(const char *path, struct error *error) {
    struct buffer text = {0};
    json_t *secret = NULL;

    errno = 0;
    if (path[0] != '/') {
        error_set(error, "file:%s does not name a file by an absolute path, such as file:/run/secrets/app", path);
    } else if (!secret_read_file(path, &text)) {
        error_set(error, "the file %s cannot be read: %s", path, errno != 0 ? strerror(errno) : "it is too long");
    } else {
        while (text.length > 0 && (text.data[text.length - 1] == '\n' || text.data[text.length - 1] == '\r'))
            text.length--;
        secret = json_stringn(text.data, text.length);
        if (text.length == 0)
            error_set(error, "the file %s is empty", path);
        else if (secret == NULL)
            error_set(error, "the file %s holds no text", path);
        if (text.length == 0) {
            json_decref(secret);
            secret = NULL;
        }
    }
    secret_buffer_dispose(&text);
    return secret;
}

static void replace_secret_file(struct config_loader *loader, json_t *app, const char *name) {
    const char *value = json_string_value(json_object_get(app, name));
    const json_t *id = json_object_get(app, "id");
    struct error error;
    json_t *secret;
    char digits[24];

    if (value == NULL || strncmp(value, "file:", strlen("file:")) != 0)
        return;
    secret = secret_of_file(path_of(value), &error);
    if (secret != NULL) {
        json_object_set_new(app, name, secret);
        return;
    }
    snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
    config_report_warning(loader->report, "app \"%s\": %s: %s", json_is_string(id) ? json_string_value(id) : digits,
                          name, error.text);
    json_object_del(app, name);
}

void config_read_secret_files(struct config_loader *loader) {
    json_t *app;
    size_t i;

    json_array_foreach(loader->config->app_manager.array_apps, i, app) {
        replace_secret_file(loader, app, "secret");
        replace_secret_file(loader, app, "previous_secret");
    }
}
