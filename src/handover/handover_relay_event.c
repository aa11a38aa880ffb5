#include "handover/handover_relay_event.h"

enum { RELAY_KEEP = 1, RELAY_RECONNECT = 2, RELAY_EXCEPT = 4, RELAY_WHOLE = 8, RELAY_FLAGS = 15 };

static void append_relay_number(struct buffer *out, uint64_t number, unsigned bytes) {
    while (bytes-- != 0)
        buffer_append_byte(out, (char)(number >> (8 * bytes)));
}

static void append_relay_text(struct buffer *out, struct slice text) {
    append_relay_number(out, text.length, 4);
    buffer_append(out, text);
}

void relay_event_append(struct buffer *out, const struct relay_event *event) {
    unsigned flags = (event->keep ? RELAY_KEEP : 0u) | (event->reconnect ? RELAY_RECONNECT : 0u) |
                     (event->has_except ? RELAY_EXCEPT : 0u) | (event->whole ? RELAY_WHOLE : 0u);

    append_relay_number(out, flags, 1);
    append_relay_number(out, event->published_ms, 8);
    if (event->has_except) {
        append_relay_number(out, event->except[0], 8);
        append_relay_number(out, event->except[1], 8);
    }
    append_relay_text(out, event->app_id);
    append_relay_text(out, event->channel);
    append_relay_text(out, event->name);
    append_relay_text(out, event->data);
    append_relay_text(out, event->user_id);
    append_relay_text(out, event->tags);
}

static bool take_relay_number(struct slice *rest, unsigned bytes, uint64_t *number) {
    if (rest->length < bytes)
        return false;
    *number = 0;
    for (unsigned i = 0; i < bytes; i++)
        *number = *number << 8 | (unsigned char)rest->data[i];
    *rest = slice_skip(*rest, bytes);
    return true;
}

static bool take_relay_text(struct slice *rest, struct slice *text) {
    uint64_t length;

    if (!take_relay_number(rest, 4, &length) || length > rest->length)
        return false;
    *text = (struct slice){rest->data, (size_t)length};
    *rest = slice_skip(*rest, (size_t)length);
    return true;
}

bool relay_event_parse(struct slice bytes, struct relay_event *event, struct error *error) {
    uint64_t flags = 0;
    bool good;

    *event = (struct relay_event){0};
    good = take_relay_number(&bytes, 1, &flags) && (flags & ~(uint64_t)RELAY_FLAGS) == 0 &&
           take_relay_number(&bytes, 8, &event->published_ms);
    event->keep = (flags & RELAY_KEEP) != 0;
    event->reconnect = (flags & RELAY_RECONNECT) != 0;
    event->has_except = (flags & RELAY_EXCEPT) != 0;
    event->whole = (flags & RELAY_WHOLE) != 0;
    if (good && event->has_except)
        good = take_relay_number(&bytes, 8, &event->except[0]) && take_relay_number(&bytes, 8, &event->except[1]);
    good = good && take_relay_text(&bytes, &event->app_id) && take_relay_text(&bytes, &event->channel) &&
           take_relay_text(&bytes, &event->name) && take_relay_text(&bytes, &event->data) &&
           take_relay_text(&bytes, &event->user_id) && take_relay_text(&bytes, &event->tags) && bytes.length == 0;
    return good || error_set(error, "an event from the other process is broken: %zu bytes are left", bytes.length);
}
