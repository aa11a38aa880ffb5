#include "session/session_internal.h"

static void answer_ping(struct session *session, struct json_value data);
static void ignore_pong(struct session *session, struct json_value data);

/* The table of events that a client may send, apart from client- events. */
static const struct {
    struct slice event;
    void (*handle)(struct session *session, struct json_value data);
} protocol_events[] = {
    {SLICE_INIT("pusher:ping"), answer_ping},
    {SLICE_INIT("pusher:pong"), ignore_pong},
    {SLICE_INIT("pusher:subscribe"), session_subscribe},
    {SLICE_INIT("pusher:unsubscribe"), session_unsubscribe},
    {SLICE_INIT("pusher:signin"), session_signin},
    {SLICE_INIT("pusher:enable_delta_compression"), session_enable_deltas},
    {SLICE_INIT("pusher:delta_sync_error"), session_delta_sync_error},
};

static void answer_ping(struct session *session, struct json_value data) {
    (void)data;
    session->junk = true;
    session_send(session, &SLICE("{\"event\":\"pusher:pong\",\"data\":\"{}\"}"), 1);
}

static void ignore_pong(struct session *session, struct json_value data) {
    (void)data;
    session->junk = true;
}

static void refuse_event(struct session *session, enum connection_error type, const char *text) {
    session_counted_error(session, type);
    session_refused(session, REFUSED_MESSAGE);
    session_error(session, 4300, "%s", text);
}

static void dispatch_event(struct session *session, struct json_value event, struct json_value channel,
                           struct json_value data) {
    struct buffer storage = {0};
    struct slice name = json_decode_string(event, &storage);
    bool known = false;

    for (size_t i = 0; i < sizeof protocol_events / sizeof protocol_events[0] && !known; i++) {
        if (slice_equal(name, protocol_events[i].event)) {
            known = true;
            protocol_events[i].handle(session, data);
        }
    }
    if (!known && slice_starts_with(name, SLICE("client-"))) {
        session_client_event(session, event, channel, data);
    } else if (!known && slice_starts_with(name, SLICE("pusher:"))) {
        session->junk = true;
    } else if (!known) {
        session_refused(session, REFUSED_MESSAGE);
        session_error(session, 4301, "a client's event must have a name that begins with `client-`");
    }
    buffer_dispose(&storage);
}

static void handle_message(struct session *session, struct slice text) {
    static const struct slice names[] = {SLICE_INIT("event"), SLICE_INIT("channel"), SLICE_INIT("data")};
    struct json_value values[3];
    struct error error;

    if (!json_scan_object(text, names, values, 3, &error)) {
        session_counted_error(session, CONNECTION_ERROR_MESSAGE_PARSE_ERROR);
        session_refused(session, REFUSED_MESSAGE);
        session_error(session, 4300, "the message is not a JSON object: %s", error.text);
    } else if (values[0].type == JSON_TYPE_ABSENT) {
        refuse_event(session, CONNECTION_ERROR_MISSING_EVENT_NAME, "the message has no `event`");
    } else if (values[0].type != JSON_TYPE_STRING) {
        refuse_event(session, CONNECTION_ERROR_INVALID_MESSAGE_FORMAT, "`event` must be a string");
    } else {
        dispatch_event(session, values[0], values[1], values[2]);
    }
}

void session_message(struct session *session, struct slice text) {
    counter_add(&session_part(session)->counters.messages_received, 1);
    session->app = slot_app(session->slot); /* read once per message: it may be replaced at any time */
    if (session->app == NULL)
        return; /* the app was deleted; sessions_apply_app_changes will close the session */
    if (session_takes_message(session))
        handle_message(session, text);
    if (session->junk)
        session_count_junk(session);
}
