#include "cli/apps_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json_fault.h"
#include "base/json_load.h"
#include "base/utf8.h"

#define READ_BYTES 65536

/* Reads a stream to its end. */
static bool read_stream(FILE *in, struct buffer *text) {
    size_t length;

    do {
        buffer_reserve(text, READ_BYTES);
        length = fread(text->data + text->length, 1, READ_BYTES, in);
        text->length += length;
    } while (length != 0);
    return !ferror(in);
}

static bool read_apps_text(const char *file, const char *name, struct buffer *text, struct error *error) {
    bool is_stdin = strcmp(file, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(file, "re");
    bool good = in != NULL && read_stream(in, text);

    if (!good)
        error_set(error, "cannot read %s: %s", name, strerror(errno));
    if (in != NULL && !is_stdin)
        fclose(in);
    return good;
}

/* Names the fault; else what jansson says, without the bytes that it quotes: they may be half a secret. */
static void explain_apps_text(const char *name, struct slice text, const json_error_t *problem, struct error *error) {
    const char *near = strstr(problem->text, " near ");
    struct text_position position;
    struct error fault;

    if (json_find_fault(text, &position, &fault))
        error_set(error, "%s:%zu:%zu: this is not JSON: %s", name, position.line, position.column, fault.text);
    else
        error_set(error, "%s:%d:%d: this is not JSON: %.*s", name, problem->line, problem->column,
                  (int)(near != NULL ? (size_t)(near - problem->text) : strlen(problem->text)), problem->text);
}

static void refuse_apps_file(const char *name, bool is_configuration, struct error *error) {
    if (is_configuration)
        error_set(error,
                  "%s is a configuration, not a list of apps: `curlew apps copy --from %s --to FILE` copies its apps",
                  name, name);
    else
        error_set(error, "%s must hold {\"apps\": [...]}", name);
}

static json_t *parse_apps_text(const char *name, struct slice text, struct error *error) {
    json_error_t problem;
    json_t *root = json_load_text(text, JSON_REJECT_DUPLICATES, &problem);
    json_t *list;

    if (root == NULL && slice_ends_with(slice_of(name), SLICE(".toml"))) {
        refuse_apps_file(name, true, error); /* lists of apps are JSON */
        return NULL;
    }
    if (root == NULL) {
        explain_apps_text(name, text, &problem, error);
        return NULL;
    }
    list = json_incref(json_object_get(root, "apps"));
    if (!json_is_array(list)) {
        refuse_apps_file(name, json_object_get(root, "app_manager") != NULL, error);
        json_decref(list);
        list = NULL;
    }
    json_decref(root);
    return list;
}

json_t *apps_file_read(const char *file, struct error *error) {
    const char *name = strcmp(file, "-") == 0 ? "standard input" : file;
    struct buffer text = {0};
    json_t *list = NULL;

    if (read_apps_text(file, name, &text, error))
        list = parse_apps_text(name, utf8_without_mark(buffer_slice(&text)), error);
    if (text.length != 0)
        explicit_bzero(text.data, text.length); /* it has secrets */
    buffer_dispose(&text);
    return list;
}
