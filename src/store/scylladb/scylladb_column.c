#include <stdlib.h>

#include "app/record_json.h"
#include "store/row.h"
#include "store/scylladb/scylladb_internal.h"

/* --- reading --- */

static bool is_text_type(uint16_t type) {
    return type == CQL_TYPE_VARCHAR || type == CQL_TYPE_ASCII || type == CQL_TYPE_BLOB;
}

static json_t *read_text_list(struct slice value, uint16_t element) {
    struct cql_reader reader = {(const uint8_t *)value.data, (const uint8_t *)value.data + value.length, false};
    json_t *texts = json_array();

    for (uint32_t left = cql_read_int(&reader); left > 0 && !reader.failed; left--) {
        struct slice text;
        json_t *json = cql_read_bytes(&reader, &text) ? json_stringn(text.data, text.length) : json_null();
        json_array_append_new(texts, json != NULL ? json : row_unreadable());
    }
    if (!reader.failed && is_text_type(element))
        return texts;
    json_decref(texts);
    return row_unreadable();
}

void scylladb_read_field(json_t *record, enum app_field field, const struct cql_column *column, struct slice value) {
    char uuid[CQL_UUID_TEXT];
    int64_t number;

    if (is_text_type(column->type))
        row_set_text(record, field, value);
    else if (column->type == CQL_TYPE_BOOLEAN)
        row_set_flag(record, field, value.length == 1 && value.data[0] != 0);
    else if (column->type == CQL_TYPE_LIST || column->type == CQL_TYPE_SET)
        json_object_set_new(record, app_fields[field].name, read_text_list(value, column->element));
    else if (cql_number_of(column->type, value, &number))
        row_set_number(record, field, number);
    else if ((column->type == CQL_TYPE_UUID || column->type == CQL_TYPE_TIMEUUID) && cql_uuid_text(value, uuid))
        row_set_text(record, field, slice_of(uuid));
    else
        json_object_set_new(record, app_fields[field].name, row_unreadable());
}

/* --- writing --- */

static bool append_text_list(struct buffer *out, uint16_t element, struct slice json_text) {
    json_t *texts = json_loadb(json_text.data, json_text.length, 0, NULL), *json;
    struct buffer text = {0};
    bool good = json_is_array(texts);
    size_t i;

    cql_append_int(out, (uint32_t)json_array_size(texts));
    json_array_foreach(texts, i, json) {
        text.length = 0;
        buffer_reserve(&text, 1); /* an empty text is not null */
        good = good && json_is_string(json) && cql_append_text_value(&text, element, record_slice(json));
        cql_append_bytes(out, buffer_slice(&text));
    }
    buffer_dispose(&text);
    json_decref(texts);
    return good;
}

static bool append_column_text(struct buffer *out, const struct scylladb_column *column, struct slice text) {
    if (column->type == CQL_TYPE_LIST || column->type == CQL_TYPE_SET)
        return append_text_list(out, column->element, text);
    return cql_append_text_value(out, column->type, text);
}

static bool append_row_value(struct buffer *out, const struct scylladb_column *column, const struct row_value *value) {
    switch (value->kind) {
    case ROW_TEXT:
        return append_column_text(out, column, value->text);
    case ROW_FLAG:
        return cql_append_flag_value(out, column->type, value->flag);
    case ROW_NUMBER:
        return cql_append_number_value(out, column->type, value->number);
    case ROW_NULL:
        break;
    }
    return true;
}

bool scylladb_field_value(struct buffer *out, bool *is_null, const struct app *app, enum app_field field,
                          const struct scylladb_column *column, struct error *error) {
    struct row_value value;
    bool good;

    row_value_init(&value, app, field);
    *is_null = value.kind == ROW_NULL;
    buffer_reserve(out, 1); /* an empty text is not null */
    good = append_row_value(out, column, &value);
    if (!good && value.kind == ROW_NUMBER)
        error_set(error, "the column %s has the type %s, which cannot hold %u", app_fields[field].name,
                  column->type_name, value.number);
    else if (!good)
        error_set(error, "the column %s has the type %s, which cannot hold the value", app_fields[field].name,
                  column->type_name);
    row_value_dispose(&value);
    return good;
}

bool scylladb_column_fits(enum app_field field, const struct scylladb_column *column) {
    struct buffer ignored = {0};
    bool fits = false;

    switch (app_fields[field].type) {
    case APP_TYPE_TEXT:
        fits = is_text_type(column->type) || column->type == CQL_TYPE_UUID || column->type == CQL_TYPE_TIMEUUID;
        break;
    case APP_TYPE_FLAG:
        fits = cql_append_flag_value(&ignored, column->type, false);
        break;
    case APP_TYPE_NUMBER:
    case APP_TYPE_TIME:
        fits = cql_append_number_value(&ignored, column->type, 0);
        break;
    case APP_TYPE_JSON:
        fits = is_text_type(column->type) || (field == APP_ALLOWED_ORIGINS && is_text_type(column->element));
        break;
    }
    buffer_dispose(&ignored);
    return fits;
}
