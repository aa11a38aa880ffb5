#include "config/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/json_fault.h"
#include "base/json_load.h"
#include "base/text_position.h"
#include "base/utf8.h"
#include "config/config_value.h"
#include "config/toml.h"

#define DEFAULT_TOML "config/config.toml"
#define DEFAULT_JSON "config/config.json"

/* Reads the whole file; false with errno set. */
static bool read_config_file(const char *file, struct buffer *text) {
    FILE *stream = fopen(file, "rbe");
    size_t count;
    bool good;
    int reason;

    if (stream == NULL)
        return false;
    do {
        if (!buffer_try_reserve(text, 16384)) {
            fclose(stream);
            errno = ENOMEM;
            return false;
        }
        count = fread(text->data + text->length, 1, text->capacity - text->length, stream);
        text->length += count;
    } while (count > 0);
    good = !ferror(stream);
    reason = errno;
    fclose(stream);
    errno = reason;
    return good;
}

/* Names the fault; else what jansson says, without the bytes that it quotes: they may be half a secret. */
static void report_json_fault(struct config_loader *loader, struct slice text, json_error_t *problem) {
    char *near = strstr(problem->text, " near ");
    struct text_position position;
    struct error error;

    if (near != NULL)
        *near = '\0';
    if (json_find_fault(text, &position, &error))
        config_report_error(loader->report, "%s:%zu:%zu: this is not JSON: %s", loader->file, position.line,
                            position.column, error.text);
    else
        config_report_error(loader->report, "%s:%d:%d: this is not JSON: %s", loader->file, problem->line,
                            problem->column, problem->text);
}

static json_t *parse_json_file(struct config_loader *loader, struct slice text) {
    json_error_t problem;
    json_t *root = json_load_text(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &problem);

    if (config_trim(text).length == 0)
        config_report_error(loader->report, "%s: the file is empty; it must contain one JSON object", loader->file);
    else if (root == NULL)
        report_json_fault(loader, text, &problem);
    else if (!json_is_object(root))
        config_report_error(loader->report, "%s: the file must contain one JSON object", loader->file);
    if (json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

static json_t *parse_toml_file(struct config_loader *loader, struct slice text) {
    struct text_position position;
    struct error error;
    json_t *root = toml_parse(text, NULL, &position, &error);

    if (root == NULL)
        config_report_error(loader->report, "%s:%zu:%zu: this is not TOML 1.0: %s", loader->file, position.line,
                            position.column, error.text);
    return root;
}

/* Whether there is an entry of this name, be it a link that leads nowhere. */
static bool config_file_exists(const char *file) {
    return faccessat(AT_FDCWD, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The default file: TOML goes first. Warns if both exist. */
static const char *choose_default(struct config_loader *loader) {
    bool toml = config_file_exists(DEFAULT_TOML);

    if (toml && config_file_exists(DEFAULT_JSON))
        config_report_warning(loader->report,
                              "%s is not read, because %s exists: only one file is; remove one of them, or name one "
                              "with --config",
                              DEFAULT_JSON, DEFAULT_TOML);
    return toml ? DEFAULT_TOML : DEFAULT_JSON;
}

json_t *config_file_read(struct config_loader *loader, const char *file) {
    bool wanted = file != NULL;
    struct buffer text = {0};
    json_t *root = NULL;
    struct slice bytes;

    file = wanted ? file : choose_default(loader);
    if (read_config_file(file, &text)) {
        loader->config->file = alloc_copy(file, strlen(file));
        loader->file = loader->config->file;
        bytes = utf8_without_mark((struct slice){text.data != NULL ? text.data : "", text.length});
        root = slice_ends_with(slice_of(file), SLICE(".toml")) ? parse_toml_file(loader, bytes)
                                                               : parse_json_file(loader, bytes);
    } else if (errno == ENOENT && config_file_exists(file)) {
        config_report_error(loader->report,
                            "cannot read the configuration file %s: it is a link to a file that does "
                            "not exist",
                            file);
    } else if (wanted || errno != ENOENT) {
        config_report_error(loader->report, "cannot read the configuration file %s: %s", file, strerror(errno));
    }
    buffer_dispose(&text);
    return root;
}
