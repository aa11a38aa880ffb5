#include "cli/list_view.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "app/app_secret.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/near_miss.h"
#include "cli/print.h"
#include "cli/safe_text.h"

#define HIDDEN APP_HIDDEN

/* --- options --- */

static bool find_column(struct slice name, const char *option, enum app_field *field, struct error *error) {
    struct near_miss miss = near_miss_of(name);

    if (app_field_from_name(name, field))
        return true;
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        near_miss_offer(&miss, slice_of(app_fields[i].name));
    if (miss.best.length != 0)
        return error_set(error, "%s: %.*s is not a field of an app; did you mean %.*s?", option, SLICE_ARGS(name),
                         SLICE_ARGS(miss.best));
    return error_set(error, "%s: %.*s is not a field of an app; `curlew apps show ID` lists them", option,
                     SLICE_ARGS(name));
}

static bool parse_list_filter(struct list_view *view, const char *text, struct error *error) {
    const char *equals = text != NULL ? strchr(text, '=') : NULL;

    view->filter = text;
    if (equals == NULL)
        return true;
    view->filters_field = true;
    view->filter = equals + 1;
    return find_column((struct slice){text, (size_t)(equals - text)}, "--filter", &view->filter_field, error);
}

static bool parse_limit(struct list_view *view, const char *text, struct error *error) {
    unsigned long long limit = SIZE_MAX;

    if (text != NULL && (!slice_to_number(slice_of(text), SIZE_MAX, &limit) || limit == 0))
        return error_set(error, "--limit must be a whole number above 0, not %s", text);
    view->limit = (size_t)limit;
    return true;
}

static bool parse_sort(struct list_view *view, const char *text, struct error *error) {
    view->sort_field = APP_ID;
    view->descending = text != NULL && text[0] == '-';
    return text == NULL || find_column(slice_of(text + view->descending), "--sort", &view->sort_field, error);
}

static bool parse_columns(struct list_view *view, const char *text, struct error *error) {
    view->all_fields = text == NULL;
    if (text == NULL)
        text = "id,key,secret,enabled,max_connections";
    for (;;) {
        size_t length = strcspn(text, ",");

        if (view->column_count == APP_FIELD_COUNT)
            return error_set(error, "--columns names more than the %d fields of an app", APP_FIELD_COUNT);
        if (!find_column((struct slice){text, length}, "--columns", &view->columns[view->column_count++], error))
            return false;
        if (text[length] == '\0')
            return true;
        text += length + 1;
    }
}

bool list_view_parse(struct list_view *view, const struct cli_options *options, struct error *error) {
    *view = (struct list_view){.secrets = options->show_secrets};
    return parse_list_filter(view, options->filter, error) && parse_limit(view, options->limit, error) &&
           parse_sort(view, options->sort, error) && parse_columns(view, options->columns, error);
}

/* --- values --- */

/* The value in force as a new reference: that of the record, or the default. NULL: there is none. */
static json_t *value_in_force(const struct app *app, const json_t *record, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];

    if (app_field_is_set(app, field))
        return json_incref(json_object_get(record, info->name));
    if (info->type == APP_TYPE_NUMBER)
        return json_integer(app_number(app, field));
    return info->type == APP_TYPE_FLAG ? json_boolean(info->fallback) : NULL;
}

/* Appends a value as --filter takes it: text, digits, true or false, JSON. */
static void append_plain_value(const json_t *value, struct buffer *text) {
    char *json;

    if (json_is_string(value)) {
        buffer_append_string(text, json_string_value(value));
    } else if (value != NULL) {
        json = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        buffer_append_string(text, json);
        free(json);
    }
}

/* --- selection --- */

struct sortable {
    struct app *app;
    json_t *value;
};

static bool is_shown(const struct list_view *view, const struct app *app, const json_t *record) {
    struct buffer text = {0};
    json_t *value;
    bool same;

    if (view->filter == NULL)
        return true;
    if (!view->filters_field)
        return strcasestr(app->id.data, view->filter) != NULL || strcasestr(app->key.data, view->filter) != NULL;
    value = value_in_force(app, record, view->filter_field);
    append_plain_value(value, &text);
    same = slice_equal(buffer_slice(&text), slice_of(view->filter));
    buffer_dispose(&text);
    json_decref(value);
    return same;
}

/* The number 0 is no limit, so it is the largest. */
static uint64_t sort_number(const json_t *value) {
    if (json_is_integer(value))
        return json_integer_value(value) != 0 ? (uint64_t)json_integer_value(value) : UINT64_MAX;
    return json_is_true(value);
}

static int compare_values(const json_t *a, const json_t *b) {
    struct buffer first = {0}, second = {0};
    int order;

    if (!json_is_string(a) && !json_is_object(a) && !json_is_array(a) && a != NULL) {
        uint64_t left = sort_number(a), right = sort_number(b);
        return (left > right) - (left < right);
    }
    append_plain_value(a, &first);
    append_plain_value(b, &second);
    order = slice_compare(buffer_slice(&first), buffer_slice(&second));
    buffer_dispose(&first);
    buffer_dispose(&second);
    return order;
}

static int compare_sortables(const void *left, const void *right, void *context) {
    const struct sortable *a = left, *b = right;
    const struct list_view *view = context;
    int order = compare_values(a->value, b->value);

    if (order == 0)
        return strcmp(a->app->id.data, b->app->id.data);
    return view->descending ? -order : order;
}

size_t list_view_select(const struct list_view *view, struct app **apps, size_t count) {
    struct sortable *shown = alloc_zero((count + 1) * sizeof *shown);
    size_t matches = 0, kept;

    for (size_t i = 0; i < count; i++) {
        json_t *record = app_to_json(apps[i]);
        if (is_shown(view, apps[i], record))
            shown[matches++] = (struct sortable){apps[i], value_in_force(apps[i], record, view->sort_field)};
        else
            app_unref(apps[i]);
        json_decref(record);
    }
    qsort_r(shown, matches, sizeof *shown, compare_sortables, (void *)view);
    kept = matches < view->limit ? matches : view->limit;
    for (size_t i = 0; i < matches; i++) {
        json_decref(shown[i].value);
        if (i < kept)
            apps[i] = shown[i].app;
        else
            app_unref(shown[i].app);
    }
    free(shown);
    return kept;
}

/* --- printing --- */

/* Appends one cell of the table. */
static void append_cell(const struct list_view *view, const struct app *app, const json_t *record, enum app_field field,
                        struct buffer *text) {
    json_t *value = value_in_force(app, record, field);
    struct buffer plain = {0};

    if (app_fields[field].hidden && !view->secrets && app_field_is_set(app, field))
        buffer_append_string(text, HIDDEN);
    else if (json_is_boolean(value))
        buffer_append_string(text, json_is_true(value) ? "yes" : "no");
    else if (app_fields[field].type == APP_TYPE_NUMBER && json_integer_value(value) == 0)
        buffer_append_string(text, "no limit");
    else if (value == NULL)
        buffer_append_string(text, "-");
    else
        append_plain_value(value, &plain);
    safe_text_append(text, buffer_slice(&plain));
    buffer_dispose(&plain);
    json_decref(value);
}

static void append_heading(enum app_field field, struct buffer *text) {
    for (const char *at = app_fields[field].name; *at != '\0'; at++)
        buffer_append_byte(text, (char)(*at == '_' ? ' ' : toupper((unsigned char)*at)));
}

void list_view_print(const struct list_view *view, FILE *out, struct app *const *apps, size_t count) {
    size_t cells = (count + 1) * view->column_count;
    struct buffer *table = alloc_zero(cells * sizeof *table);
    size_t widths[APP_FIELD_COUNT] = {0};

    for (size_t i = 0; i < view->column_count; i++)
        append_heading(view->columns[i], &table[i]);
    for (size_t row = 0; row < count; row++) {
        json_t *record = app_to_json(apps[row]);

        if (!view->secrets)
            app_record_hide_secrets(record);
        for (size_t i = 0; i < view->column_count; i++)
            append_cell(view, apps[row], record, view->columns[i], &table[(row + 1) * view->column_count + i]);
        json_decref(record);
    }
    for (size_t i = 0; i < cells; i++)
        if (table[i].length > widths[i % view->column_count])
            widths[i % view->column_count] = table[i].length;
    for (size_t i = 0; i < cells; i++) {
        size_t column = i % view->column_count;
        if (column + 1 < view->column_count)
            fprintf(out, "%-*s  ", (int)widths[column], buffer_string(&table[i]));
        else
            fprintf(out, "%s\n", buffer_string(&table[i]));
        buffer_dispose(&table[i]);
    }
    free(table);
}

static json_t *only_columns(const struct list_view *view, json_t *record) {
    json_t *chosen = json_object();

    for (size_t i = 0; i < view->column_count; i++) {
        const char *name = app_fields[view->columns[i]].name;
        json_t *value = json_object_get(record, name);
        if (value != NULL)
            json_object_set(chosen, name, value);
    }
    json_decref(record);
    return chosen;
}

json_t *list_view_json(const struct list_view *view, struct app *const *apps, size_t count) {
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *record = print_record(apps[i], view->secrets);
        json_array_append_new(list, view->all_fields ? record : only_columns(view, record));
    }
    return json_pack("{s:o}", "apps", list);
}
