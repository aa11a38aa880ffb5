#include "config/config_expand.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "config/config_app_field.h"
#include "config/config_table.h"
#include "config/config_value.h"

#define APPS "app_manager.array.apps["

struct expansion {
    const char *file;
    struct config_report *report;
    struct buffer path;    /* of the value in hand */
    struct buffer missing; /* "NAME (path), ..." */
    json_t *missing_names; /* the same names, as an object */
};

/* --- one string --- */

static bool is_name_byte(char byte, bool first) {
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || byte == '_' ||
           (!first && byte >= '0' && byte <= '9');
}

static void add_missing(struct expansion *expansion, const char *name) {
    if (json_object_get(expansion->missing_names, name) != NULL)
        return;
    json_object_set_new(expansion->missing_names, name, json_true());
    buffer_appendf(&expansion->missing, "%s%s (%.*s)", expansion->missing.length > 0 ? ", " : "", name,
                   SLICE_ARGS(buffer_slice(&expansion->path)));
}

static void append_variable(struct expansion *expansion, struct slice name, struct slice fallback, bool has_fallback,
                            struct buffer *text) {
    char *variable = alloc_copy(name.data, name.length);
    const char *value = getenv(variable);

    if (value != NULL && *value != '\0')
        buffer_append_string(text, value);
    else if (has_fallback)
        buffer_append(text, fallback);
    else
        add_missing(expansion, variable);
    free(variable);
}

/* `at` is behind "${". Returns the byte behind the closing brace, or NULL if this is not a variable. */
static const char *expand_variable(struct expansion *expansion, const char *at, struct buffer *text) {
    const char *end = strchr(at, '}'), *rest = at;
    struct slice fallback = {0};
    bool has_fallback;

    while (is_name_byte(*rest, rest == at))
        rest++;
    has_fallback = rest[0] == ':' && rest[1] == '-';
    if (end == NULL || rest == at || (rest != end && !has_fallback))
        return NULL;
    if (has_fallback)
        fallback = (struct slice){rest + 2, (size_t)(end - rest - 2)};
    append_variable(expansion, (struct slice){at, (size_t)(rest - at)}, fallback, has_fallback, text);
    return end + 1;
}

/* Appends the string with its variables replaced. Returns true if it held one. */
static bool expand_text(struct expansion *expansion, const char *at, struct buffer *text) {
    bool held = false;

    while (*at != '\0') {
        const char *next = NULL;

        if (strncmp(at, "$${", 3) == 0) {
            buffer_append_string(text, "${");
            at += 3;
        } else if (strncmp(at, "${", 2) == 0) {
            next = expand_variable(expansion, at + 2, text);
            if (next == NULL) {
                config_report_error(expansion->report,
                                    "%s: %.*s: ${ must be followed by the name of an environment variable (letters, "
                                    "digits, underscores) and } or :-default}; write $${ for a plain ${",
                                    expansion->file, SLICE_ARGS(buffer_slice(&expansion->path)));
                return false;
            }
            held = true;
            at = next;
        } else {
            buffer_append_byte(text, *at++);
        }
    }
    return held;
}

/* --- what a text becomes --- */

static bool is_in_webhooks(struct slice path) {
    return memmem(path.data, path.length, ".webhooks", strlen(".webhooks")) != NULL;
}

/* The value for a setting; NULL: it stays a text. */
static json_t *setting_value(const struct config_row *row, const char *text) {
    struct slice trimmed = config_trim(slice_of(text));
    unsigned long long number;
    double fraction;
    bool flag;
    char *end;

    switch (row->type) {
    case CONFIG_FLAG:
        return config_flag_from_text(trimmed, &flag) ? json_boolean(flag) : NULL;
    case CONFIG_UNSIGNED:
    case CONFIG_LIMIT:
    case CONFIG_OPTIONAL_NUMBER:
        return slice_to_number(trimmed, UINT32_MAX, &number) ? json_integer((json_int_t)number) : NULL;
    case CONFIG_FRACTION:
        fraction = strtod(text, &end);
        return end != text && config_trim(slice_of(end)).length == 0 ? json_real(fraction) : NULL;
    case CONFIG_LIST:
        return config_json_list(text);
    case CONFIG_TEXT:
    case CONFIG_OCTAL:
    case CONFIG_CHOICE:
    case CONFIG_ARRAY:
        break;
    }
    return NULL;
}

/* The same for a member of an app that is no field with a type of its own, such as one of its `policy`. */
static json_t *guess_value(const char *text) {
    unsigned long long number;

    if (slice_to_number(slice_of(text), UINT32_MAX, &number))
        return json_integer((json_int_t)number);
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return json_boolean(text[0] == 't');
    return NULL;
}

/* The value of a replaced text; `unset` if the member should be as if it were not there. */
static json_t *typed_value(struct slice path, const char *text, bool *unset) {
    const struct config_row *row = config_row_at(path);
    const char *dot = memrchr(path.data, '.', path.length);
    json_t *value = NULL;

    *unset = false;
    if (row != NULL) {
        *unset = *text == '\0' && (row->type != CONFIG_TEXT || (row->flags & CONFIG_NULLABLE) != 0);
        value = setting_value(row, text);
    } else if (slice_starts_with(path, SLICE(APPS)) && !is_in_webhooks(path) && dot != NULL) {
        struct slice name = slice_skip(path, (size_t)(dot + 1 - path.data));

        if (config_app_field_known(name)) {
            *unset = *text == '\0' && !config_app_field_is_text(name);
            value = config_app_field_is_text(name) ? NULL : config_app_field_value(name, text);
        } else {
            value = guess_value(text);
        }
    }
    return value != NULL ? value : json_string(text);
}

/* --- the tree --- */

static void expand_tree(struct expansion *expansion, json_t *value);

/* The new value of a string; NULL: it stays. `unset`: remove it. */
static json_t *expand_string(struct expansion *expansion, const json_t *string, bool *unset) {
    const char *original = json_string_value(string);
    struct buffer text = {0};
    json_t *value;

    *unset = false;
    if (strstr(original, "${") == NULL)
        return NULL;
    if (expand_text(expansion, original, &text))
        value = typed_value(buffer_slice(&expansion->path), buffer_string(&text), unset);
    else
        value = json_string(buffer_string(&text));
    if (value == NULL)
        config_report_error(expansion->report, "%s: %.*s: the environment variable in it is not UTF-8", expansion->file,
                            SLICE_ARGS(buffer_slice(&expansion->path)));
    buffer_dispose(&text);
    return value;
}

static void expand_object(struct expansion *expansion, json_t *object) {
    size_t length = expansion->path.length;
    const char *key;
    json_t *member;
    void *next;

    json_object_foreach_safe(object, next, key, member) {
        bool unset = false;
        json_t *value;

        buffer_appendf(&expansion->path, "%s%s", length > 0 ? "." : "", key);
        value = json_is_string(member) ? expand_string(expansion, member, &unset) : NULL;
        if (value != NULL && !unset)
            json_object_set_new(object, key, value);
        else if (value != NULL) {
            json_decref(value);
            json_object_del(object, key);
        } else
            expand_tree(expansion, member);
        expansion->path.length = length;
    }
}

static void expand_array(struct expansion *expansion, json_t *array) {
    size_t length = expansion->path.length;

    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *item = json_array_get(array, i), *value;
        bool unset;

        buffer_appendf(&expansion->path, "[%zu]", i);
        value = json_is_string(item) ? expand_string(expansion, item, &unset) : NULL;
        if (value != NULL)
            json_array_set_new(array, i, value);
        else
            expand_tree(expansion, item);
        expansion->path.length = length;
    }
}

static void expand_tree(struct expansion *expansion, json_t *value) {
    if (json_is_object(value))
        expand_object(expansion, value);
    else if (json_is_array(value))
        expand_array(expansion, value);
}

void config_expand(json_t *root, const char *file, struct config_report *report) {
    struct expansion expansion = {.file = file, .report = report, .missing_names = json_object()};

    expand_tree(&expansion, root);
    if (expansion.missing.length > 0)
        config_report_error(report,
                            "%s: these environment variables are unset or empty, and the file has no default for them: "
                            "%.*s; set them, or write ${NAME:-default}",
                            file, SLICE_ARGS(buffer_slice(&expansion.missing)));
    json_decref(expansion.missing_names);
    buffer_dispose(&expansion.missing);
    buffer_dispose(&expansion.path);
}
