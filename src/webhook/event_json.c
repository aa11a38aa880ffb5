#include "webhook/event_json.h"

#include "base/json.h"

/* Appends a member whose value is JSON text already, if there is one. */
static void append_webhook_member(struct buffer *out, struct slice before, struct slice value) {
    if (value.data == NULL)
        return;
    buffer_append(out, before);
    buffer_append(out, value);
}

void webhook_event_append(struct buffer *out, const struct webhook_event *event) {
    const struct webhook_details *details = &event->details;

    buffer_append(out, SLICE("{\"name\":\""));
    buffer_append_string(out, app_webhook_event_name(event->kind));
    buffer_append(out, SLICE("\",\"channel\":"));
    json_append_string(out, details->channel);
    append_webhook_member(out, SLICE(",\"event\":"), details->event);
    append_webhook_member(out, SLICE(",\"data\":"), details->data);
    if (details->socket_id.data != NULL) {
        buffer_append(out, SLICE(",\"socket_id\":"));
        json_append_string(out, details->socket_id);
    }
    append_webhook_member(out, SLICE(",\"user_id\":"), details->user_id);
    if (event->kind == WEBHOOK_CACHE_MISS)
        buffer_append(out, SLICE(",\"data\":\"{}\""));
    if (event->kind == WEBHOOK_SUBSCRIPTION_COUNT) {
        buffer_append(out, SLICE(",\"subscription_count\":"));
        buffer_append_number(out, event->count);
    }
    buffer_append_byte(out, '}');
}
