#include "cli/change.h"

#include <stdlib.h>
#include <string.h>

#include "app/app_policy.h"
#include "app/app_secret.h"
#include "base/alloc.h"
#include "base/json_fault.h"

void changes_dispose(struct changes *changes) {
    json_decref(changes->list);
    changes->list = NULL;
}

static void add_change(struct changes *changes, const char *field, json_t *value) {
    if (changes->list == NULL)
        changes->list = json_array();
    json_array_append_new(changes->list, json_pack("[s,o]", field, value));
}

/* An example of the value of a field that is JSON. */
static const char *example_of(enum app_field field) {
    switch (field) {
    case APP_ALLOWED_ORIGINS:
        return "[\"https://a.example\"]";
    case APP_WEBHOOKS:
        return "[{\"url\":\"https://a.example/hook\",\"event_types\":[\"channel_occupied\"]}]";
    case APP_POLICY:
        return "{\"limits\":{\"max_connections\":1000}}";
    default:
        return "{\"prices-*\":\"fossil\"}";
    }
}

/* A list of the one origin that the text is, NULL if it is none: JSON and lists have characters that no origin has. */
static json_t *single_origin(const char *text) {
    return text[0] != '\0' && strpbrk(text, " ,\"'[]{}") == NULL ? json_pack("[s]", text) : NULL;
}

/* NULL if the text is not JSON. Text that is not UTF-8 becomes a value that no field accepts. */
static json_t *value_of(const struct app_field_info *info, const char *value, json_error_t *problem) {
    json_t *json = NULL;

    if (info->type == APP_TYPE_JSON)
        return json_loads(value, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, problem);
    if (info->type == APP_TYPE_FLAG && strcmp(value, "true") == 0)
        return json_true();
    if (info->type == APP_TYPE_FLAG && strcmp(value, "false") == 0)
        return json_false();
    json = json_string(value);
    return json != NULL ? json : json_array();
}

static bool refuse_field(const char *field, struct error *error) {
    struct slice meant = app_field_meant(slice_of(field));

    if (meant.length != 0)
        return error_set(error, "%s is not a field of an app; did you mean %.*s?", field, SLICE_ARGS(meant));
    return error_set(error, "%s is not a field of an app", field);
}

static bool refuse_json(enum app_field field, const char *value, const json_error_t *problem, struct error *error) {
    struct text_position position;
    struct error fault;

    if (!json_find_fault(slice_of(value), &position, &fault)) /* jansson's own text may quote half a secret */
        error_set(&fault, "it is invalid at byte %d", problem->position);
    return error_set(error, "%s must be JSON, such as '%s': %s", app_fields[field].name, example_of(field), fault.text);
}

bool changes_set_field(struct changes *changes, const char *field, const char *value, struct error *error) {
    json_error_t problem = {0};
    enum app_field known;
    json_t *json;

    if (!app_field_from_name(slice_of(field), &known))
        return refuse_field(field, error);
    json = value_of(&app_fields[known], value, &problem);
    if (json == NULL && known == APP_ALLOWED_ORIGINS)
        json = single_origin(value);
    if (json == NULL)
        return refuse_json(known, value, &problem, error);
    add_change(changes, field, json);
    return true;
}

bool changes_set(struct changes *changes, const char *assignment, struct error *error) {
    const char *equals = strchr(assignment, '=');
    char *field;
    bool good;

    if (equals == NULL || equals == assignment)
        return error_set(error, "FIELD=VALUE must follow --set, not %s", assignment);
    field = alloc_copy(assignment, (size_t)(equals - assignment));
    good = changes_set_field(changes, field, equals + 1, error);
    free(field);
    return good;
}

void changes_unset(struct changes *changes, const char *field) {
    add_change(changes, field, json_null());
}

/* True if a change names the field. */
static bool has_change_of(const struct changes *changes, enum app_field field) {
    const json_t *change;
    size_t i;

    json_array_foreach(changes->list, i, change) {
        if (strcmp(json_string_value(json_array_get(change, 0)), app_fields[field].name) == 0)
            return true;
    }
    return false;
}

bool changes_apply(const struct changes *changes, json_t *record, struct error *error) {
    const json_t *change;
    size_t i;

    if (has_change_of(changes, APP_SECRET))
        app_record_forget_previous(record);

    json_array_foreach(changes->list, i, change) {
        const char *field = json_string_value(json_array_get(change, 0));
        json_t *value = json_array_get(change, 1);
        enum app_field known;

        if (json_is_null(value) && json_object_get(record, field) == NULL &&
            !app_field_from_name(slice_of(field), &known))
            return error_set(error, "%s is not a field of this app", field);
        app_record_change(record, field, json_is_null(value) ? NULL : value);
    }
    return true;
}
