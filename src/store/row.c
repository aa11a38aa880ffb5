#include "store/row.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

#define LOOK_AGAIN_MS 1000

const uint32_t row_required_fields = 1u << APP_ID | 1u << APP_KEY | 1u << APP_SECRET;

static bool text_is(struct slice text, const char *word) {
    return slice_equal_ignoring_case(text, slice_of(word));
}

static json_t *flag_of(struct slice text) {
    if (text_is(text, "1") || text_is(text, "t") || text_is(text, "true"))
        return json_true();
    if (text_is(text, "0") || text_is(text, "f") || text_is(text, "false"))
        return json_false();
    return NULL;
}

/* Bytes that are no UTF-8 become a value that no field accepts: the record is then refused, not read as another. */
static json_t *text_of(struct slice text) {
    json_t *json = json_stringn(text.data, text.length);

    return json != NULL ? json : json_real(0.5);
}

void row_set_text(json_t *record, enum app_field field, struct slice text) {
    const struct app_field_info *info = &app_fields[field];
    json_t *value = NULL;

    if (info->type == APP_TYPE_FLAG)
        value = flag_of(text);
    else if (info->type == APP_TYPE_JSON)
        value = json_loadb(text.data, text.length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL)
        value = text_of(text);
    json_object_set_new(record, info->name, value);
}

void row_set_number(json_t *record, enum app_field field, int64_t number) {
    json_object_set_new(record, app_fields[field].name, json_integer(number));
}

void row_set_flag(json_t *record, enum app_field field, bool flag) {
    json_object_set_new(record, app_fields[field].name, json_boolean(flag));
}

enum store_answer row_to_app(json_t *record, const struct app_defaults *defaults, struct app **app,
                             struct error *error) {
    *app = app_parse(record, defaults, APP_FROM_STORE, NULL, NULL, error);
    json_decref(record);
    return *app != NULL ? STORE_OK : STORE_INVALID;
}

static struct slice member(const json_t *record, enum app_field field) {
    const json_t *json = json_object_get(record, app_fields[field].name);

    return json_is_string(json) ? (struct slice){json_string_value(json), json_string_length(json)} : SLICE("");
}

void row_to_list(json_t *record, const struct app_defaults *defaults, store_list_function *each, void *context) {
    struct error error = {0};
    struct app *app;

    row_to_app(json_incref(record), defaults, &app, &error);
    each(context, member(record, APP_ID), member(record, APP_KEY), app, &error);
    json_decref(record);
}

static void set_json(struct row_value *value, const struct app *app, enum app_field field) {
    json_t *record = app_to_json(app);

    value->owned = json_dumps(json_object_get(record, app_fields[field].name), JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(record);
    value->kind = ROW_TEXT;
    value->text = slice_of(value->owned);
}

void row_value_init(struct row_value *value, const struct app *app, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];
    const char *at = (const char *)app + info->offset;

    *value = (struct row_value){.kind = ROW_NULL};
    if (info->optional && !app_field_is_set(app, field))
        return;
    switch (info->type) {
    case APP_TYPE_TEXT:
        value->kind = ROW_TEXT;
        value->text = *(const struct slice *)at;
        break;
    case APP_TYPE_FLAG:
        value->kind = ROW_FLAG;
        value->flag = *(const bool *)at;
        break;
    case APP_TYPE_NUMBER:
        value->kind = ROW_NUMBER;
        value->number = *(const uint32_t *)at;
        break;
    case APP_TYPE_JSON:
        set_json(value, app, field);
        break;
    }
}

void row_value_dispose(struct row_value *value) {
    free(value->owned);
}

void row_append_columns(struct buffer *sql, uint32_t columns, char quote, const char *behind) {
    const char *between = "";

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if ((columns >> i & 1) == 0)
            continue;
        buffer_appendf(sql, "%s%c%s%c%s", between, quote, app_fields[i].name, quote, behind);
        between = ", ";
    }
}

/* Whether an app that is read without the field would be another. */
static bool says_something(const struct app *app, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];
    const char *at = (const char *)app + info->offset;

    if (info->optional)
        return app_field_is_set(app, field);
    if (info->type == APP_TYPE_FLAG)
        return *(const bool *)at != (info->fallback != 0);
    return info->type == APP_TYPE_NUMBER && *(const uint32_t *)at != info->fallback;
}

bool row_keeps(uint32_t columns, const struct app *app, struct error *error) {
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if ((columns >> i & 1) == 0 && says_something(app, (enum app_field)i))
            return error_set(error, "the table has no column %s", app_fields[i].name);
    return true;
}

uint64_t row_look_again_ms(uint32_t columns) {
    return columns == (1u << APP_FIELD_COUNT) - 1 ? UINT64_MAX : clock_monotonic_ms() + LOOK_AGAIN_MS;
}

bool row_name_valid(const char *name, const char *also, size_t longest, const char *setting, struct error *error) {
    size_t length = strlen(name);

    for (const char *c = name; *c != '\0'; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_';
        if (!plain && strchr(also, *c) == NULL)
            return error_set(error, "%s: \"%s\" is not a name that can be used: letters, digits and _%s%s only",
                             setting, name, also[0] != '\0' ? " and " : "", also);
    }
    return (length >= 1 && length <= longest) ||
           error_set(error, "%s must be 1 to %zu characters long", setting, longest);
}
