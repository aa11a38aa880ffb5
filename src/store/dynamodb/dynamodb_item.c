#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/record_json.h"
#include "store/dynamodb/dynamodb_internal.h"
#include "store/row.h"

#define NESTED_MAX 32 /* the limit that DynamoDB itself has for documents */

json_t *dynamodb_text(struct slice text) {
    json_t *value = json_stringn(text.data, text.length);

    return value != NULL ? json_pack("{s:o}", "S", value) : NULL;
}

struct slice dynamodb_text_of(const json_t *item, const char *name) {
    return record_member(json_object_get(item, name), "S");
}

json_t *dynamodb_now(void) {
    char text[64], fraction[16];
    struct timespec now;
    struct tm parts;
    size_t length;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(fraction, sizeof fraction, ".%09ldZ", now.tv_nsec);
    memcpy(text + length, fraction, strlen(fraction) + 1);
    return json_pack("{s:s}", "S", text);
}

/* --- from an item --- */

/* The type of an attribute, the name of its only member, and its value; NULL if it has no member. */
static const char *attribute_type(const json_t *attribute, json_t **value) {
    void *member = json_object_iter((json_t *)attribute);

    if (member == NULL)
        return NULL;
    *value = json_object_iter_value(member);
    return json_object_iter_key(member);
}

static json_t *json_from_attribute(const json_t *attribute, unsigned depth);

static json_t *json_from_list(const json_t *values, unsigned depth) {
    json_t *list = json_array(), *value;
    size_t i;

    json_array_foreach(values, i, value) {
        json_array_append_new(list, json_from_attribute(value, depth));
    }
    return list;
}

static json_t *json_from_map(json_t *values, unsigned depth) {
    json_t *map = json_object(), *value;
    const char *name;

    json_object_foreach(values, name, value) {
        json_object_set_new(map, name, json_from_attribute(value, depth));
    }
    return map;
}

static json_t *json_from_number(const json_t *value) {
    json_t *number = json_loads(json_is_string(value) ? json_string_value(value) : "", JSON_DECODE_ANY, NULL);

    return json_is_number(number) ? number : (json_decref(number), row_unreadable());
}

/* The JSON that an attribute of any type stands for. */
static json_t *json_from_attribute(const json_t *attribute, unsigned depth) {
    json_t *value = NULL;
    const char *type = attribute_type(attribute, &value);

    if (type == NULL || depth > NESTED_MAX)
        return row_unreadable();
    if (strcmp(type, "NULL") == 0)
        return json_null();
    if (strcmp(type, "L") == 0)
        return json_from_list(value, depth + 1);
    if (strcmp(type, "M") == 0)
        return json_from_map(value, depth + 1);
    if (strcmp(type, "N") == 0)
        return json_from_number(value);
    if (strcmp(type, "S") == 0 || strcmp(type, "BOOL") == 0 || strcmp(type, "SS") == 0)
        return json_incref(value);
    return row_unreadable();
}

/* A number of more than 64 bits or with a fraction stays a text, which the field refuses. */
static void set_item_number(json_t *record, enum app_field field, struct slice digits) {
    char *end;
    long long number;

    errno = 0;
    number = strtoll(digits.data, &end, 10);
    if (digits.length == 0 || *end != '\0' || errno != 0)
        row_set_text(record, field, digits);
    else
        row_set_number(record, field, number);
}

static void set_item_text(json_t *record, enum app_field field, struct slice text) {
    if (app_fields[field].type == APP_TYPE_NUMBER || app_fields[field].type == APP_TYPE_TIME)
        set_item_number(record, field, text);
    else if (app_fields[field].type != APP_TYPE_JSON || text.length != 0)
        row_set_text(record, field, text);
}

static void set_item_field(json_t *record, enum app_field field, const json_t *attribute) {
    json_t *value = NULL;
    const char *type = attribute_type(attribute, &value);

    if (type != NULL && strcmp(type, "NULL") == 0)
        return;
    if (json_is_string(value) && (strcmp(type, "S") == 0 || strcmp(type, "N") == 0))
        set_item_text(record, field, record_slice(value));
    else
        json_object_set_new(record, app_fields[field].name, json_from_attribute(attribute, 0));
}

json_t *dynamodb_item_to_record(const json_t *item) {
    json_t *record = json_object();

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        const json_t *attribute = json_object_get(item, app_fields[i].name);
        if (attribute != NULL)
            set_item_field(record, (enum app_field)i, attribute);
    }
    return record;
}

/* --- to an item --- */

static json_t *origins_attribute(struct slice text) {
    json_t *origins = json_loadb(text.data, text.length, 0, NULL), *list = json_array(), *origin;
    size_t i;

    json_array_foreach(origins, i, origin) {
        json_array_append_new(list, json_pack("{s:O}", "S", origin));
    }
    json_decref(origins);
    return json_pack("{s:o}", "L", list);
}

json_t *dynamodb_attribute(const struct app *app, enum app_field field) {
    struct row_value value;
    json_t *attribute = NULL;
    char digits[16];

    row_value_init(&value, app, field);
    switch (value.kind) {
    case ROW_NULL:
        break;
    case ROW_TEXT:
        attribute = field == APP_ALLOWED_ORIGINS ? origins_attribute(value.text) : dynamodb_text(value.text);
        break;
    case ROW_NUMBER:
        snprintf(digits, sizeof digits, "%u", value.number);
        attribute = json_pack("{s:s}", "N", digits);
        break;
    case ROW_FLAG:
        attribute = json_pack("{s:b}", "BOOL", value.flag);
        break;
    }
    row_value_dispose(&value);
    return attribute;
}
