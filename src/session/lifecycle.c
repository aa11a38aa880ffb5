#include <stdio.h>
#include <stdlib.h>

#include "session/session_internal.h"
#include "session/waiting_subscription.h"

#define PONG_TIMEOUT_MS 30000

static void on_activity(struct websocket *websocket, size_t length);
static void on_message(struct websocket *websocket, struct slice text);
static bool on_control_frame(struct websocket *websocket, bool ping);
static void on_timer(struct websocket *websocket);
static void on_slow(struct websocket *websocket);
static void on_no_room(struct websocket *websocket);
static void on_fault(struct websocket *websocket, unsigned code, const char *reason);
static void on_closing(struct websocket *websocket);
static void on_closed(struct websocket *websocket);
static struct budget_app *app_of_session(const struct websocket *websocket);

const struct websocket_handler session_websocket_handler = {
    .on_activity = on_activity,
    .on_message = on_message,
    .on_control_frame = on_control_frame,
    .on_timer = on_timer,
    .on_slow = on_slow,
    .on_no_room = on_no_room,
    .on_fault = on_fault,
    .on_closing = on_closing,
    .on_closed = on_closed,
    .app = app_of_session,
};

static struct session *session_of(struct websocket *websocket) {
    return container_of(websocket, struct session, websocket);
}

/* Returns the session of a stream; the stream must have the WebSocket handler of sessions. */
static struct session *session_of_stream(const struct stream *stream) {
    return session_of(stream->context);
}

static struct budget_app *app_of_session(const struct websocket *websocket) {
    const struct session *session = container_of(websocket, const struct session, websocket);

    return session->slot != NULL ? session->slot->budget : NULL;
}

/* --- activity --- */

/* The silence after which a client is pinged, or is gone if it was. */
static uint64_t silence_limit_ms(const struct session *session) {
    return session->pinged ? PONG_TIMEOUT_MS : session->server->config->activity_timeout_s * UINT64_C(1250);
}

/* The time by which the client has to sign in; UINT64_MAX if it does not have to. */
static uint64_t sign_in_deadline_ms(const struct session *session) {
    const struct app *app = slot_app(session->slot);
    uint64_t from_ms = session->connected_ticks * SESSION_TICK_MS;

    if (session->authorized || app == NULL || !app->enable_user_authentication)
        return UINT64_MAX;
    if (session_part(session)->sign_in_from_ms > from_ms)
        from_ms = session_part(session)->sign_in_from_ms;
    return from_ms + session->server->config->user_authentication_timeout_s * UINT64_C(1000);
}

void session_schedule(struct session *session) {
    uint64_t now_ms = session_worker(session)->now_ms, due_ms = session->active_ms + silence_limit_ms(session);
    uint64_t sign_in_ms = sign_in_deadline_ms(session);

    if (sign_in_ms < due_ms)
        due_ms = sign_in_ms;
    stream_set_timeout(session->websocket.stream, due_ms > now_ms ? due_ms - now_ms : 1);
}

static void on_activity(struct websocket *websocket, size_t length) {
    struct session *session = session_of(websocket);

    session->active_ms = session_worker(session)->now_ms;
    if (session->pinged && !websocket->closing) {
        session->pinged = false;
        session_schedule(session); /* the timer was set to the pong timeout */
    }
    if (session->slot != NULL)
        counter_add(&session_part(session)->counters.bytes_received, length);
}

static void on_message(struct websocket *websocket, struct slice text) {
    struct session *session = session_of(websocket);

    if (session->slot != NULL)
        session_message(session, text);
}

static bool on_control_frame(struct websocket *websocket, bool ping) {
    struct session *session = session_of(websocket);

    return session->slot == NULL || session_takes_control_frame(session, ping);
}

static void close_without_sign_in(struct session *session) {
    session_refused(session, REFUSED_SIGN_IN);
    session_counted_error(session, CONNECTION_ERROR_AUTHENTICATION_FAILED);
    session_close(
        session, 4009,
        "not signed in within %u s (`user_authentication_timeout`), which `enable_user_authentication` of this "
        "app asks for",
        session->server->config->user_authentication_timeout_s);
}

/* Both pings: some clients answer only the one, some only the other. */
static void ping_session(struct session *session) {
    websocket_ping(&session->websocket);
    session_send(session, &SLICE("{\"event\":\"pusher:ping\",\"data\":\"{}\"}"), 1);
    session->pinged = true;
    session->active_ms = session_worker(session)->now_ms;
}

static void on_timer(struct websocket *websocket) {
    struct session *session = session_of(websocket);
    uint64_t now_ms = session_worker(session)->now_ms;
    bool silent = now_ms - session->active_ms >= silence_limit_ms(session);

    if (session->slot == NULL)
        return;
    if (sign_in_deadline_ms(session) <= now_ms) {
        close_without_sign_in(session);
    } else if (silent && session->pinged) {
        session_close(session, 4201, "no pong came within %d s", PONG_TIMEOUT_MS / 1000);
    } else {
        if (silent)
            ping_session(session);
        session_schedule(session);
    }
}

static void on_slow(struct websocket *websocket) {
    struct session *session = session_of(websocket);
    const struct stream_limits *limits = &session->server->limits.output;
    bool own_bound = session->server->config->websocket.max_backpressure == limits->max_bytes;
    struct buffer text = {0};
    char words[160];
    struct slice reason;

    if (budget_has_room(BUDGET_OUTPUT, app_of_session(websocket), 0))
        snprintf(words, sizeof words, "not read fast enough: `websocket.max_messages` is %u, `websocket.%s` %zu bytes",
                 limits->max_messages, own_bound ? "max_backpressure" : "max_bytes", (size_t)limits->max_bytes);
    else
        snprintf(words, sizeof words,
                 "not read fast enough: the server is short of memory, or has no more for this app, and %d KB may wait",
                 STREAM_SHORT_BYTES / 1024);
    reason = slice_of(words);
    if (session->slot != NULL)
        session_refused(session, REFUSED_SLOW_READER);
    session_log(session, "closed with 4100: %s", words);
    error_message_append(&text, 4100, reason);
    websocket_close_slow(websocket, buffer_slice(&text), 4100, reason);
    buffer_dispose(&text);
}

static void on_no_room(struct websocket *websocket) {
    struct session *session = session_of(websocket);

    if (session->slot != NULL)
        session_refused(session, REFUSED_MEMORY_LIMIT);
    session_close(session, 4100, "the server is over capacity: there is no memory for a part of a message");
}

static void on_fault(struct websocket *websocket, unsigned code, const char *reason) {
    session_log(session_of(websocket), "closed with %u: %s", code, reason);
}

void session_terminate(struct stream *stream, bool reconnect, uint64_t before_ms) {
    struct session *session = session_of_stream(stream);

    if (session->connected_ticks > (before_ms + SESSION_TICK_MS - 1) / SESSION_TICK_MS)
        return;
    if (reconnect)
        session_close(session, 4200, "the API asks the user to connect again");
    else
        session_close(session, 4009, "the connection was terminated by the API");
}

bool session_has_socket_id(const struct stream *stream, const struct socket_id *id) {
    const struct session *session = session_of_stream(stream);

    return session->id.first == id->first && session->id.second == id->second;
}

/* --- closing --- */

#define LEAVE_WORK 128 /* of leaving a channel; see worker_spend */

static void leave_channels(struct session *session) {
    struct subscription_set *set = &session->subscriptions;
    const struct app *app = slot_app(session->slot);

    if (set->count != 0)
        budget_give(BUDGET_CHANNELS, session->slot->budget, subscriptions_bytes(set));
    for (uint32_t i = 0; i < set->capacity; i++) {
        struct subscription *subscription = set->slots[i];
        if (subscription == NULL)
            continue;
        if (subscription->waiting) {
            waiting_subscription_destroy(waiting_subscription_of(subscription));
            continue;
        }
        counter_add(
            &session_part(session)->counters.unsubscriptions[channel_label_of(channel_type(subscription->channel))], 1);
        channel_leave(session->server->channels, subscription, app);
        worker_spend(session_worker(session), LEAVE_WORK);
        free(subscription);
    }
    free(set->slots);
    *set = (struct subscription_set){0};
}

/* Leaves all channels and the app at once; only the close handshake remains. */
static void on_closing(struct websocket *websocket) {
    struct session *session = session_of(websocket);

    if (session->slot == NULL) {
        if (session->lookup != NULL)
            app_manager_cancel(session->server->apps, &session->lookup->lookup);
        free(session->lookup);
        return;
    }
    session_log(session, "disconnected");
    leave_channels(session);
    session_user_dispose(session);
    session_list_remove(session);
    counter_add(&session_part(session)->counters.disconnections, 1);
    budget_unassign(session->slot->budget, session_held_bytes(session));
    slot_connection_leave(session->slot);
    session->slot = NULL; /* the slot may be freed before the client answers the close frame */
}

static void on_closed(struct websocket *websocket) {
    struct session *session = session_of(websocket);

    free(session->address);
    budget_give(BUDGET_CONNECTIONS, NULL, session_rates_bytes(session));
    free(session->rates);
    origin_set_release(&session->server->origins[session_worker(session)->index], session->origin);
    budget_give(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *session));
    free(session);
}
