#include "base/json.h"
#include "channel/channel_internal.h"
#include "net/websocket.h"

struct frame *event_frame(struct slice event, struct slice channel, struct slice data, struct slice user_id,
                          struct slice tags) {
    struct buffer escaped = {0};
    struct slice parts[11];
    size_t count = 0;
    struct frame *frame;

    parts[count++] = SLICE("{\"event\":");
    parts[count++] = event;
    if (slice_starts_with(channel, SLICE(USER_CHANNEL_PREFIX))) {
        json_append_string(&escaped, channel);
        parts[count++] = SLICE(",\"channel\":");
        parts[count++] = buffer_slice(&escaped);
        parts[count++] = SLICE(",\"data\":");
    } else {
        parts[count++] = SLICE(",\"channel\":\"");
        parts[count++] = channel;
        parts[count++] = SLICE("\",\"data\":");
    }
    parts[count++] = data;
    if (user_id.length != 0) {
        parts[count++] = SLICE(",\"user_id\":");
        parts[count++] = user_id;
    }
    if (tags.length != 0) {
        parts[count++] = SLICE(",\"tags\":");
        parts[count++] = tags;
    }
    parts[count++] = SLICE("}");
    frame = websocket_text_frame(parts, count);
    buffer_dispose(&escaped);
    return frame;
}

bool event_is_protocol(struct slice name) {
    struct json_value value = {JSON_TYPE_STRING, memchr(name.data, '\\', name.length) != NULL, name};
    struct buffer storage = {0};
    struct slice decoded = json_decode_string(value, &storage);
    bool is = slice_starts_with(decoded, SLICE("pusher:")) || slice_starts_with(decoded, SLICE("pusher_internal:"));

    buffer_dispose(&storage);
    return is;
}
