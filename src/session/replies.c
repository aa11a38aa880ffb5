#include <stdarg.h>
#include <stdio.h>

#include "session/session_internal.h"

void session_refused(struct session *session, enum refusal reason) {
    slot_refused(session->slot, session_worker(session), reason);
    if (reason == REFUSED_SIGNATURE)
        session_log_refusal(session, "its signature is wrong");
    else if (reason == REFUSED_JUNK)
        session_log_refusal(session, "it sends too much that is refused or ignored");
}

void session_counted_error(struct session *session, enum connection_error type) {
    counter_add(&session_part(session)->counters.errors[type], 1);
}

void session_send(struct session *session, const struct slice *parts, size_t count) {
    ssize_t queued = websocket_send_text(&session->websocket, parts, count);

    if (session->slot == NULL || queued < 0)
        return;
    counter_add(&session_part(session)->counters.messages_sent, 1);
    counter_add(&session_part(session)->counters.bytes_sent, (uint64_t)queued);
}

void error_message_append(struct buffer *out, unsigned code, struct slice text) {
    static const struct slice start = SLICE_INIT("{\"event\":\"pusher:error\",\"data\":{\"code\":");

    buffer_reserve(out, start.length + NUMBER_DIGITS + text.length + 32); /* all of it, unless many bytes are escaped */
    buffer_append(out, start);
    buffer_append_number(out, code);
    buffer_append(out, SLICE(",\"message\":"));
    json_append_string(out, text);
    buffer_append(out, SLICE("}}"));
}

#define REFUSED_CLOSE_MS 1000 /* time for a refused client to answer the close frame */

static void send_error(struct session *session, unsigned code, struct slice text) {
    struct buffer message = {0};

    error_message_append(&message, code, text);
    session_send(session, &(struct slice){message.data, message.length}, 1);
    buffer_dispose(&message);
}

static struct slice format_text(char *text, size_t size, const char *format, va_list arguments) {
    int length = vsnprintf(text, size, format, arguments);

    if (length < 0)
        length = 0;
    return (struct slice){text, (size_t)length < size ? (size_t)length : size - 1};
}

void session_error(struct session *session, unsigned code, const char *format, ...) {
    char text[512];
    struct slice reason;
    va_list arguments;

    va_start(arguments, format);
    reason = format_text(text, sizeof text, format, arguments);
    va_end(arguments);
    session_log(session, "error %u: %s", code, text);
    session->junk = true;
    send_error(session, code, reason);
}

void session_close(struct session *session, unsigned code, const char *format, ...) {
    char text[512];
    bool refused = session->slot == NULL && !session->websocket.closing;
    struct slice reason;
    va_list arguments;

    va_start(arguments, format);
    reason = format_text(text, sizeof text, format, arguments);
    va_end(arguments);
    session_log(session, "%s with %u: %s", session->slot != NULL ? "closed" : "refused", code, text);
    websocket_will_close(&session->websocket);
    send_error(session, code, reason);
    websocket_close(&session->websocket, code, reason);
    if (refused)
        stream_set_timeout(session->websocket.stream, REFUSED_CLOSE_MS);
}

void session_close_for_restart(struct session *session) {
    if (atomic_load_explicit(&session->server->successor, memory_order_relaxed))
        session_close(session, 4200, "the server is restarting, connect again");
    else
        session_close(session, 4100, "the server is restarting, try again");
}

void session_close_for_origin(struct session *session) {
    if (session->origin == NULL) {
        session_close(session, 4009,
                      "this app has `allowed_origins`, so a connection needs an Origin header, as browsers send it");
        return;
    }
    session_log(session, "the Origin is %.*s", SLICE_ARGS(origin_text(session->origin)));
    session_close(session, 4009, "this origin is not allowed: it matches no entry of `allowed_origins` of this app");
}

void session_subscription_error(struct session *session, struct slice channel, const char *type, unsigned status,
                                const char *format, ...) {
    struct buffer message = {0};
    char text[512];
    struct slice reason;
    va_list arguments;

    va_start(arguments, format);
    reason = format_text(text, sizeof text, format, arguments);
    va_end(arguments);
    session->junk = true;
    session_log(session, "subscription to %.*s refused: %s %u: %s", SLICE_ARGS(channel), type, status, text);
    buffer_append(&message, SLICE("{\"event\":\"pusher:subscription_error\",\"channel\":"));
    buffer_append(&message, channel);
    buffer_append(&message, SLICE(",\"data\":{\"type\":\""));
    buffer_append_string(&message, type);
    buffer_append(&message, SLICE("\",\"error\":"));
    json_append_string(&message, reason);
    buffer_append(&message, SLICE(",\"status\":"));
    buffer_append_number(&message, status);
    buffer_append(&message, SLICE("}}"));
    session_send(session, &(struct slice){message.data, message.length}, 1);
    buffer_dispose(&message);
}
