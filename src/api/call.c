#include "api/call.h"

#include <stdarg.h>
#include <stdio.h>

#include "api/cors.h"
#include "base/json.h"

/* The part of the app's counters that this call counts in, or NULL: health checks and unknown apps count nowhere. */
static struct app_part *part_of(struct api_call *call) {
    if (call->route == NULL || call->route->needs != ROUTE_SIGNED || call->lookup.answer != APP_FOUND)
        return NULL;
    return slot_part(call->lookup.slot, call->worker);
}

void api_answer_with(struct api_call *call, unsigned status, struct slice type, struct slice headers,
                     struct slice body) {
    struct app_part *part = part_of(call);
    struct buffer storage = {0};
    struct slice lines = headers;
    size_t received = call->request->received_bytes;
    size_t sent;

    if (call->cross_origin) {
        struct slice cors = cors_headers(call->api->config, call->request, &storage);
        if (headers.length == 0) {
            lines = cors;
        } else {
            struct buffer both = {0};
            buffer_append(&both, headers);
            buffer_append(&both, cors);
            buffer_dispose(&storage);
            storage = both;
            lines = buffer_slice(&storage);
        }
    }
    sent =
        http_respond(call->connection,
                     &(struct http_response){.status = status, .content_type = type, .headers = lines, .body = body});
    buffer_dispose(&storage);
    if (part != NULL) {
        counter_add(&part->counters.http_calls, 1);
        counter_add(&part->counters.http_bytes_received, received);
        counter_add(&part->counters.http_bytes_sent, sent);
    }
}

void api_answer(struct api_call *call, struct slice body) {
    api_answer_with(call, 200, SLICE(""), SLICE(""), body);
}

void api_refuse_with(struct api_call *call, unsigned status, enum refusal reason, struct slice headers,
                     const char *text) {
    struct app_part *part = part_of(call);
    struct buffer body = {0};

    if (part != NULL)
        counter_add(&part->counters.refusals[reason], 1);
    buffer_append(&body, SLICE("{\"error\":"));
    json_append_string(&body, slice_of(text));
    buffer_append_byte(&body, '}');
    api_answer_with(call, status, SLICE(""), headers, buffer_slice(&body));
    buffer_dispose(&body);
}

void api_refuse(struct api_call *call, unsigned status, enum refusal reason, const char *format, ...) {
    struct error error;
    va_list arguments;

    va_start(arguments, format);
    error_set_list(&error, format, arguments);
    va_end(arguments);
    api_refuse_with(call, status, reason, SLICE(""), error.text);
}
