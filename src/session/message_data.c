#include "session/session_internal.h"

bool message_data(struct json_value data, struct buffer *storage, const struct slice *names, struct json_value *values,
                  size_t count) {
    struct slice text = data.token;

    if (data.type == JSON_TYPE_STRING)
        text = json_decode_string(data, storage);
    else if (data.type != JSON_TYPE_OBJECT)
        return false;
    return json_scan_object(text, names, values, count, NULL);
}

bool user_id_read(struct json_value value, struct buffer *id) {
    struct buffer storage = {0};
    size_t before = id->length;

    if (value.type == JSON_TYPE_NUMBER && json_is_whole_number(value))
        buffer_append(id, slice_equal(value.token, SLICE("-0")) ? SLICE("0") : value.token);
    else if (value.type == JSON_TYPE_STRING)
        buffer_append(id, json_decode_string(value, &storage));
    buffer_dispose(&storage);
    return id->length != before && id->length - before <= USER_ID_MAX;
}
