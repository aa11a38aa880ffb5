#include "cli/compare.h"

#include <jansson.h>

static void add_difference(struct buffer *fields, const char *name) {
    buffer_append_string(fields, fields->length != 0 ? ", " : "");
    buffer_append_string(fields, name);
}

/* The fields that have a value in every store, set or not: two flags and two numbers. */
static bool same_in_force(const struct app *a, const struct app *b, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];

    if (info->type == APP_TYPE_NUMBER)
        return app_number(a, field) == app_number(b, field);
    return *(const bool *)((const char *)a + info->offset) == *(const bool *)((const char *)b + info->offset);
}

static bool same_field(const struct app *a, const struct app *b, enum app_field field, const json_t *first,
                       const json_t *second) {
    const struct app_field_info *info = &app_fields[field];

    if (field == APP_POLICY && first == NULL) /* the store adds one, or keeps the one that is there */
        return true;
    if (info->type == APP_TYPE_TEXT || info->optional)
        return (first == NULL && second == NULL) || json_equal(first, second);
    return same_in_force(a, b, field);
}

bool compare_apps(const struct app *wanted, const struct app *there, struct buffer *fields) {
    json_t *first = app_to_json(wanted), *second = app_to_json(there), *value;
    size_t before = fields->length;
    const char *name;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (!same_field(wanted, there, (enum app_field)i, json_object_get(first, app_fields[i].name),
                        json_object_get(second, app_fields[i].name)))
            add_difference(fields, app_fields[i].name);
    json_object_foreach(wanted->unknown, name, value) {
        const json_t *kept = json_object_get(second, name);
        if (kept != NULL && !json_equal(value, kept))
            add_difference(fields, name);
    }
    json_decref(first);
    json_decref(second);
    return fields->length > before;
}

bool compare_unknown(const struct app *wanted, const struct app *there, struct buffer *fields) {
    size_t before = fields->length;
    const char *name;
    json_t *value;

    json_object_foreach(wanted->unknown, name, value) {
        if (json_object_get(there->unknown, name) == NULL)
            add_difference(fields, name);
    }
    return fields->length > before;
}
