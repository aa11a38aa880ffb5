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
