#include "convert/conversion.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "base/alloc.h"
#include "config/config_setting.h"
#include "config/config_value.h"

void conversion_dispose(struct conversion *conversion) {
    source_destroy(conversion->root);
    json_decref(conversion->output);
    buffer_dispose(&conversion->messages);
    *conversion = (struct conversion){0};
}

static void append_place(struct conversion *conversion, const struct source *at) {
    struct buffer *messages = &conversion->messages;
    size_t length;

    buffer_append_string(messages, conversion->file);
    for (const struct source *node = at; node != NULL; node = node->parent) {
        if (node->line != 0) {
            buffer_appendf(messages, ":%u", node->line);
            break;
        }
    }
    buffer_append_string(messages, ": ");
    length = messages->length;
    if (at->parent != NULL) {
        struct buffer path = {0};

        source_append_path(at, &path);
        buffer_append(messages, buffer_slice(&path));
        buffer_dispose(&path);
    }
    if (at->variable != NULL)
        buffer_appendf(messages, messages->length > length ? " (%s)" : "%s", at->variable);
    if (messages->length > length)
        buffer_append_string(messages, ": ");
}

static void append_message(struct conversion *conversion, const char *word, const struct source *at, const char *format,
                           va_list arguments) {
    struct error text;
    size_t start;

    error_set_list(&text, format, arguments);
    buffer_appendf(&conversion->messages, "%s: ", word);
    start = conversion->messages.length;
    if (at != NULL)
        append_place(conversion, at);
    buffer_append_string(&conversion->messages, text.text);
    for (size_t i = start; i < conversion->messages.length; i++)
        if ((unsigned char)conversion->messages.data[i] < ' ' || conversion->messages.data[i] == 0x7f)
            conversion->messages.data[i] = '?'; /* names come from the file, and go to a terminal */
    buffer_append_byte(&conversion->messages, '\n');
}

void conversion_error(struct conversion *conversion, const struct source *at, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    append_message(conversion, "error", at, format, arguments);
    va_end(arguments);
    conversion->errors++;
}

void conversion_changed(struct conversion *conversion, const struct source *at, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    append_message(conversion, "changed", at, format, arguments);
    va_end(arguments);
}

void conversion_note(struct conversion *conversion, const struct source *at, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    append_message(conversion, "note", at, format, arguments);
    va_end(arguments);
}

void conversion_dropped(struct conversion *conversion, const struct source *at, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    append_message(conversion, "dropped", at, format, arguments);
    va_end(arguments);
}

void conversion_drop(struct conversion *conversion, struct source *node, const char *reason) {
    conversion_drop_rest(conversion, node, reason);
    source_take(node);
}

void conversion_drop_rest(struct conversion *conversion, struct source *node, const char *reason) {
    bool group = node->type == SOURCE_MAP || node->type == SOURCE_LIST;

    if (node->taken || (group && node->first == NULL))
        return;
    if (node->type == SOURCE_MAP) {
        for (struct source *child = node->first; child != NULL; child = child->next)
            conversion_drop_rest(conversion, child, reason);
    } else if (node->parent != NULL && source_is_set(node)) {
        conversion_dropped(conversion, node, "%s", reason);
        source_take(node);
    }
}

bool source_is_set(const struct source *node) {
    return node != NULL && node->type != SOURCE_NULL;
}

bool conversion_refuse_unread(struct conversion *conversion, const struct source *node) {
    if (node->type != SOURCE_UNREAD)
        return false;
    conversion_error(conversion, node, "%s is not understood here; write the value itself", node->text);
    return true;
}

struct source *conversion_section(struct conversion *conversion, struct source *base, const char *path) {
    for (size_t length = strcspn(path, ".");; length += 1 + strcspn(path + length + 1, ".")) {
        char *part = alloc_copy(path, length);
        struct source *node = source_find(base, part, NULL);

        free(part);
        if (node == NULL)
            return NULL;
        if (conversion_refuse_unread(conversion, node)) {
            source_take(node);
            return NULL;
        }
        if (path[length] == '\0')
            return node->type == SOURCE_MAP || node->type == SOURCE_LIST ? node : NULL;
    }
}

bool conversion_number(struct conversion *conversion, struct source *node, double *number) {
    char *end;

    source_take(node);
    if (conversion_refuse_unread(conversion, node))
        return false;
    if ((node->type == SOURCE_NUMBER || node->type == SOURCE_TEXT) && node->length > 0) {
        *number = strtod(node->text, &end);
        if (*end == '\0' && *number > -1e15 && *number < 1e15)
            return true;
    }
    conversion_error(conversion, node, "this must be a number");
    return false;
}

bool conversion_flag(struct conversion *conversion, struct source *node, bool *flag) {
    double number;

    source_take(node);
    if (conversion_refuse_unread(conversion, node))
        return false;
    *flag = node->flag;
    if (node->type == SOURCE_FLAG)
        return true;
    if (node->type == SOURCE_NUMBER && conversion_number(conversion, node, &number)) {
        *flag = number != 0;
        return true;
    }
    if (node->type == SOURCE_TEXT && config_flag_from_text((struct slice){node->text, node->length}, flag))
        return true;
    conversion_error(conversion, node, "this must be true or false");
    return false;
}

bool conversion_text(struct conversion *conversion, struct source *node, struct slice *text) {
    source_take(node);
    if (conversion_refuse_unread(conversion, node))
        return false;
    if ((node->type != SOURCE_TEXT && node->type != SOURCE_NUMBER) || memchr(node->text, '\0', node->length) != NULL) {
        conversion_error(conversion, node, "this must be a text");
        return false;
    }
    *text = (struct slice){node->text, node->length};
    return true;
}

/* Negative is no limit, as 0 is in the output. */
static json_t *convert_limit(struct conversion *conversion, struct source *node, double number) {
    if (number < 0)
        return json_integer(0);
    if (number == 0) {
        conversion_error(conversion, node,
                         "0 lets nothing through there, and means no limit here; set at least 1, or -1 for no limit");
        return NULL;
    }
    if (number != round_number_up(number))
        conversion_changed(conversion, node, "rounded up to %.0f, since it is a whole number here",
                           round_number_up(number));
    return json_integer((json_int_t)round_number_up(number));
}

static json_t *convert_number(struct conversion *conversion, struct source *node, enum convert_kind kind) {
    double number;

    if (!conversion_number(conversion, node, &number))
        return NULL;
    if (kind == CONVERT_PERCENT)
        return json_real(number / 100);
    if (kind == CONVERT_AGE)
        return json_integer(number > 0 ? (json_int_t)round_number_up(number) : 0);
    if (kind == CONVERT_LIMIT)
        return convert_limit(conversion, node, number);
    if (kind == CONVERT_SECONDS) {
        if (round_number_up(number / 1000) * 1000 != number)
            conversion_changed(conversion, node, "%.15g ms rounded up to %.0f s, since it is in seconds here", number,
                               round_number_up(number / 1000));
        return json_integer((json_int_t)round_number_up(number / 1000));
    }
    if (number != round_number_up(number)) {
        conversion_error(conversion, node, "this must be a whole number");
        return NULL;
    }
    return json_integer((json_int_t)number);
}

/* A list of texts; one text is a list of one. */
static json_t *convert_list(struct conversion *conversion, struct source *node) {
    json_t *list = json_array();
    struct slice text;
    bool good = true;

    source_take(node);
    if (node->type != SOURCE_LIST) {
        good = conversion_text(conversion, node, &text);
        if (good)
            json_array_append_new(list, json_stringn(text.data, text.length));
    }
    for (struct source *item = node->first; item != NULL && node->type == SOURCE_LIST; item = item->next) {
        if (conversion_text(conversion, item, &text))
            json_array_append_new(list, json_stringn(text.data, text.length));
        else
            good = false;
    }
    if (good)
        return list;
    json_decref(list);
    return NULL;
}

json_t *conversion_value(struct conversion *conversion, struct source *node, enum convert_kind kind) {
    struct slice text;
    bool flag;

    switch (kind) {
    case CONVERT_TEXT:
    case CONVERT_SECRET:
        if (!conversion_text(conversion, node, &text))
            return NULL;
        conversion->secrets += kind == CONVERT_SECRET && text.length > 0;
        return json_stringn(text.data, text.length);
    case CONVERT_FLAG:
        return conversion_flag(conversion, node, &flag) ? json_boolean(flag) : NULL;
    case CONVERT_NUMBER:
    case CONVERT_SECONDS:
    case CONVERT_PERCENT:
    case CONVERT_AGE:
    case CONVERT_LIMIT:
        return convert_number(conversion, node, kind);
    case CONVERT_LIST:
        return convert_list(conversion, node);
    case CONVERT_JSON:
        source_take(node);
        return source_to_json(node);
    case CONVERT_DROP:
    case CONVERT_CODE:
        break;
    }
    return NULL;
}

/* The object of the output that a path's last name is in, made if `make`. */
static json_t *output_section(const struct conversion *conversion, const char **path, bool make) {
    json_t *section = conversion->output;
    const char *dot;

    while (section != NULL && (dot = strchr(*path, '.')) != NULL) {
        char *name = alloc_copy(*path, (size_t)(dot - *path));
        json_t *inner = json_object_get(section, name);

        if (inner == NULL && make) {
            inner = json_object();
            json_object_set_new(section, name, inner);
        }
        free(name);
        section = inner;
        *path = dot + 1;
    }
    return section;
}

void conversion_put(struct conversion *conversion, const struct source *at, const char *path, json_t *value) {
    const char *name = path;
    struct error error;
    json_t *section;

    if (value == NULL)
        return;
    if (!config_setting_check(path, value, &error))
        conversion_error(conversion, at, "%s", error.text);
    section = output_section(conversion, &name, true);
    json_object_set_new(section, name, value);
}

bool conversion_has(const struct conversion *conversion, const char *path) {
    const char *name = path;
    const json_t *section = output_section(conversion, &name, false);

    return json_object_get(section, name) != NULL;
}

/* The value of a key that is there. */
static json_t *convert_row_value(struct conversion *conversion, struct source *node, const struct convert_row *row) {
    json_t *value = conversion_value(conversion, node, row->kind);

    if (row->kind == CONVERT_LIMIT && row->largest > 0 && value != NULL && json_integer_value(value) == 0) {
        conversion_changed(conversion, node, "no limit there; %u here, the largest value", row->largest);
        json_integer_set(value, row->largest);
    }
    return value;
}

/* A key that is missing. */
static void apply_default(struct conversion *conversion, const struct source *base, const struct convert_row *row,
                          bool whole) {
    if (row->kind == CONVERT_LIMIT && whole) {
        conversion_note(conversion, base,
                        "%s is missing in an object that replaces all defaults there: no limit there, %u here",
                        row->theirs, row->largest);
        conversion_put(conversion, base, row->ours, json_integer(row->largest));
        return;
    }
    if (row->fallback == NULL)
        return;
    if (whole)
        conversion_note(conversion, base,
                        "%s is missing in an object that replaces all defaults there; its default is written",
                        row->theirs);
    conversion_put(conversion, base, row->ours, json_loads(row->fallback, JSON_DECODE_ANY, NULL));
}

void conversion_apply(struct conversion *conversion, struct source *base, const struct convert_row *rows,
                      size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct convert_row *row = &rows[i];
        bool whole;
        struct source *node = source_find(base, row->theirs, &whole);

        if (row->kind == CONVERT_CODE)
            continue;
        if (node != NULL && row->kind == CONVERT_DROP) {
            conversion_drop(conversion, node, row->remark);
        } else if (source_is_set(node)) {
            conversion_put(conversion, node, row->ours, convert_row_value(conversion, node, row));
            if (row->remark != NULL)
                conversion_note(conversion, node, "%s", row->remark);
        } else if (row->kind != CONVERT_DROP) {
            apply_default(conversion, base, row, whole);
        }
    }
}

static void note_app_warning(void *context, const char *text) {
    conversion_note(context, NULL, "%s", text);
}

void conversion_add_app(struct conversion *conversion, const struct source *at, json_t *record) {
    static const struct app_defaults defaults;
    const char *path = "app_manager.array.apps";
    json_t *section, *apps, *other;
    struct error error;
    struct app *app;
    size_t i;

    if (record == NULL)
        return;
    app = app_parse(record, &defaults, APP_FROM_CONFIGURATION, note_app_warning, conversion, &error);
    if (app == NULL)
        conversion_error(conversion, at, "%s", error.text);
    app_unref(app);
    section = output_section(conversion, &path, true);
    apps = json_object_get(section, path);
    if (apps == NULL) {
        apps = json_array();
        json_object_set_new(section, path, apps);
    }
    json_array_foreach(apps, i, other) {
        if (json_equal(json_object_get(other, "id"), json_object_get(record, "id")) ||
            json_equal(json_object_get(other, "key"), json_object_get(record, "key")))
            conversion_error(conversion, at, "an earlier app has the same id or key");
    }
    json_array_append_new(apps, record);
}

static void escape_output_text(json_t *string) {
    struct slice rest = {json_string_value(string), json_string_length(string)};
    struct buffer text = {0};
    const char *at;

    while (rest.length > 0 && (at = memmem(rest.data, rest.length, "${", 2)) != NULL) {
        buffer_append_bytes(&text, rest.data, (size_t)(at - rest.data));
        buffer_append_string(&text, "$${");
        rest = slice_skip(rest, (size_t)(at - rest.data) + 2);
    }
    if (text.length > 0) {
        buffer_append(&text, rest);
        json_string_setn(string, text.data, text.length);
        explicit_bzero(text.data, text.length); /* it may be a secret */
    }
    buffer_dispose(&text);
}

void conversion_escape_output(json_t *output) {
    json_t *value;
    const char *name;
    size_t i;

    if (json_is_string(output))
        escape_output_text(output);
    json_object_foreach(output, name, value) {
        conversion_escape_output(value);
    }
    json_array_foreach(output, i, value) {
        conversion_escape_output(value);
    }
}
