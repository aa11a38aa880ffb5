#include "store/row.h"

#include <stdlib.h>
#include <string.h>

#include "app/record_json.h"
#include "app/secret_keyring.h"
#include "base/alloc.h"
#include "base/clock.h"

#define REREAD_MS 1000
#define REREAD_RARE_MS 10000

const uint32_t row_required_fields = 1u << APP_ID | 1u << APP_KEY | 1u << APP_SECRET;
const uint32_t row_layout_fields = APP_ALL_FIELDS & ~(1u << APP_POLICY);
#define RARE_FIELDS (1u << APP_POLICY | 1u << APP_PREVIOUS_SECRET | 1u << APP_PREVIOUS_SECRET_UNTIL)
const uint32_t row_default_fields = 1u << APP_ENABLED | 1u << APP_ENABLE_CLIENT_MESSAGES | 1u << APP_MAX_CONNECTIONS |
                                    1u << APP_MAX_CLIENT_EVENTS_PER_SECOND;

static bool equals_word(struct slice text, const char *word) {
    return slice_equal_ignoring_case(text, slice_of(word));
}

static json_t *flag_from_text(struct slice text) {
    if (equals_word(text, "1") || equals_word(text, "t") || equals_word(text, "true"))
        return json_true();
    if (equals_word(text, "0") || equals_word(text, "f") || equals_word(text, "false"))
        return json_false();
    return NULL;
}

json_t *row_unreadable(void) {
    return json_real(0.5);
}

/* Bytes that are not UTF-8 cannot be a JSON string. */
static json_t *text_or_unreadable(struct slice text) {
    json_t *json = json_stringn(text.data, text.length);

    return json != NULL ? json : row_unreadable();
}

void row_set_text(json_t *record, enum app_field field, struct slice text) {
    const struct app_field_info *info = &app_fields[field];
    json_t *value = NULL;

    if (info->type == APP_TYPE_FLAG)
        value = flag_from_text(text);
    else if (info->type == APP_TYPE_JSON)
        value = json_loadb(text.data, text.length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    if (value == NULL)
        value = text_or_unreadable(text);
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

void row_to_list(json_t *record, const struct app_defaults *defaults, store_list_function *each, void *context) {
    struct error error = {0};
    struct app *app;

    row_to_app(json_incref(record), defaults, &app, &error);
    each(context, record_member(record, "id"), record_member(record, "key"), app, &error);
    json_decref(record);
}

static void set_json_value(struct row_value *value, const struct app *app, enum app_field field) {
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
    case APP_TYPE_TIME:
        value->kind = ROW_NUMBER;
        value->number = *(const uint32_t *)at;
        break;
    case APP_TYPE_JSON:
        set_json_value(value, app, field);
        break;
    }
}

void row_value_dispose(struct row_value *value) {
    free(value->owned);
}

void row_append_columns(struct buffer *sql, uint32_t columns, char quote, const char *suffix) {
    const char *between = "";

    for_each_field(i, columns) {
        buffer_appendf(sql, "%s%c%s%c%s", between, quote, app_fields[i].name, quote, suffix);
        between = ", ";
    }
}

/* Whether an app would be different if it were read without the field. */
static bool differs_without(const struct app *app, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];
    const char *at = (const char *)app + info->offset;

    if (info->optional)
        return app_field_is_set(app, field);
    if (info->type == APP_TYPE_FLAG)
        return *(const bool *)at != (info->fallback != 0);
    return info->type == APP_TYPE_NUMBER && *(const uint32_t *)at != info->fallback;
}

uint32_t row_missing(uint32_t columns, const struct app *app) {
    uint32_t missing = 0;

    for_each_field(i, ~columns)
        missing |= (uint32_t)differs_without(app, (enum app_field)i) << i;
    return missing;
}

bool row_keeps(uint32_t columns, const struct app *app, struct error *error) {
    for_each_field(i, row_missing(columns, app))
        return error_set(error, "the table has no column %s", app_fields[i].name);
    return true;
}

bool row_fits(enum app_field field, const struct app *app, size_t room, struct error *error) {
    const struct slice *text = (const struct slice *)((const char *)app + app_fields[field].offset);

    if (room == 0 || app_fields[field].type != APP_TYPE_TEXT || text->length <= room)
        return true;
    return error_set(error, "the column %s has room for %zu characters, and %zu are needed%s", app_fields[field].name,
                     room, text->length, secret_is_sealed(*text) ? " for the encrypted secret" : "");
}

enum store_answer row_refuse_without(struct error *error, struct buffer *sql) {
    const struct error missing = *error;

    if (sql->length != 0)
        error_set(error, "%s; an administrator should run: %s", missing.text, buffer_string(sql));
    buffer_dispose(sql);
    return STORE_REFUSED;
}

uint64_t row_reread_ms(uint32_t columns) {
    if (columns == APP_ALL_FIELDS)
        return UINT64_MAX;
    return clock_monotonic_ms() + ((columns | RARE_FIELDS) == APP_ALL_FIELDS ? REREAD_RARE_MS : REREAD_MS);
}

bool row_needs_policy(uint32_t columns, const struct app *app) {
    return app_field_is_set(app, APP_POLICY) && (columns >> APP_POLICY & 1) == 0;
}

bool row_name_valid(const char *name, const char *more, size_t longest, const char *setting, struct error *error) {
    size_t length = strlen(name);

    for (const char *c = name; *c != '\0'; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_';
        if (!plain && strchr(more, *c) == NULL)
            return error_set(error, "%s: \"%s\" is not a name that can be used: letters, digits and _%s%s only",
                             setting, name, more[0] != '\0' ? " and " : "", more);
    }
    return (length >= 1 && length <= longest) ||
           error_set(error, "%s must be 1 to %zu characters long", setting, longest);
}
