#include "app/app_policy.h"

#include "app/record_json.h"

/* The value that a policy has to name for a flat field; NULL: it may leave the field out. What a policy leaves out is
 * without a limit for the two numbers that every record has, and not the default of the flat field. */
static json_t *policy_value(const json_t *record, const struct app_field_info *info) {
    json_t *value = json_object_get(record, info->name);
    uint32_t number;

    /* The command line passes digits as a text. */
    if (info->type == APP_TYPE_NUMBER && json_is_string(value) &&
        record_number(value, RECORD_MINUS_ONE_IS_ZERO, "", &number, NULL))
        return json_integer((json_int_t)number);
    if (!record_unset(value))
        return json_deep_copy(value);
    if (info->type == APP_TYPE_NUMBER && !info->optional)
        return json_integer(info->fallback);
    return NULL;
}

static const struct app_field_info *info_of_field(const char *name) {
    enum app_field field;

    return app_field_from_name(slice_of(name), &field) ? &app_fields[field] : NULL;
}

void app_record_change(json_t *record, const char *name, json_t *value) {
    json_t *policy;

    if (value == NULL)
        json_object_del(record, name);
    else
        json_object_set(record, name, value);
    policy = json_object_get(record, app_fields[APP_POLICY].name);
    if (json_is_object(policy) && app_policy_covers(name)) {
        policy = json_deep_copy(policy); /* the caller may still use the one that is there */
        app_policy_put(policy, name, policy_value(record, info_of_field(name)));
        json_object_set_new(record, app_fields[APP_POLICY].name, policy);
    }
}

void app_record_put_policy(json_t *record, const json_t *base) {
    json_t *policy = base != NULL ? json_deep_copy(base) : json_object();

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (app_policy_covers(app_fields[i].name))
            app_policy_put(policy, app_fields[i].name, policy_value(record, &app_fields[i]));
    json_object_set_new(record, app_fields[APP_POLICY].name, policy);
}

struct app *app_with_policy(const struct app *app, const json_t *base, const struct app_defaults *defaults) {
    json_t *record = app_to_json(app);
    struct error ignored; /* the fields were valid before */
    struct app *copy;

    app_record_put_policy(record, base);
    copy = app_parse(record, defaults, APP_FROM_COPY, NULL, NULL, &ignored);
    json_decref(record);
    return copy;
}
