#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/query.h"
#include "session/session_internal.h"

#define PROTOCOL_MIN 5
#define PROTOCOL_MAX 7
#define PONG_TIMEOUT_MS 30000

static void on_activity(struct websocket *websocket, size_t length);
static void on_message(struct websocket *websocket, struct slice text);
static void on_timer(struct websocket *websocket);
static void on_slow(struct websocket *websocket);
static void on_closing(struct websocket *websocket);
static void on_closed(struct websocket *websocket);

static const struct websocket_handler session_handler = {
    .on_activity = on_activity,
    .on_message = on_message,
    .on_timer = on_timer,
    .on_slow = on_slow,
    .on_closing = on_closing,
    .on_closed = on_closed,
};

static struct session *session_of(struct websocket *websocket) {
    return container_of(websocket, struct session, websocket);
}

/* The session of a stream that a channel's audience holds: only sessions are in one. */
static struct session *session_of_stream(const struct stream *stream) {
    return session_of(stream->context);
}

size_t socket_id_format(const struct socket_id *id, char text[SOCKET_ID_TEXT]) {
    return (size_t)snprintf(text, SOCKET_ID_TEXT, "%llu.%llu", (unsigned long long)id->first,
                            (unsigned long long)id->second);
}

/* --- establishing --- */

/* Two numbers of 53 bits, which every client language can hold: unguessable, and unique without asking anyone. */
static struct socket_id draw_socket_id(void) {
    uint64_t words[2];

    random_bytes(words, sizeof words);
    return (struct socket_id){words[0] >> 11, words[1] >> 11};
}

static uint64_t activity_limit_ms(const struct session *session) {
    return session->server->config->activity_timeout_s * UINT64_C(1250);
}

static void establish(struct session *session, struct app_slot *slot) {
    struct worker *worker = session_worker(session);
    struct app_part *part = slot_part(slot, worker);
    char socket_id[SOCKET_ID_TEXT], data[160];
    size_t id_length, length;

    session->slot = slot;
    session->id = draw_socket_id();
    list_append(&part->sessions, &session->link);
    part->session_count++;
    counter_add(&part->counters.connections, 1);
    id_length = socket_id_format(&session->id, socket_id);
    length = (size_t)snprintf(data, sizeof data,
                              "{\"event\":\"pusher:connection_established\",\"data\":\"{\\\"socket_id\\\":\\\"%.*s\\\","
                              "\\\"activity_timeout\\\":%u}\"}",
                              (int)id_length, socket_id, session->server->config->activity_timeout_s);
    session_send(session, &(struct slice){data, length}, 1);
    session->active_ms = worker->now_ms;
    stream_set_timeout(session->websocket.stream, activity_limit_ms(session));
}

static void count_error(struct session *session, struct app_slot *slot, enum connection_error type) {
    counter_add(&slot_part(slot, session_worker(session))->counters.errors[type], 1);
}

/* The answer may have taken its time, so what holds is looked at now: nobody else would end a session of a drain. */
static void enter(struct session *session, const struct app_lookup *lookup) {
    struct worker *worker = session_worker(session);
    struct app_slot *slot = lookup->slot;
    const struct app *app = lookup->app;

    if (!app->enabled) {
        slot_refused(slot, worker, REFUSED_DISABLED);
        count_error(session, slot, CONNECTION_ERROR_APP_DISABLED);
        session_close(session, 4003, "the app is disabled");
    } else if (atomic_load_explicit(&session->server->draining, memory_order_relaxed)) {
        session_close(session, 4200, "the server is shutting down");
    } else if (atomic_load_explicit(&session->server->memory_full, memory_order_relaxed)) {
        slot_refused(slot, worker, REFUSED_MEMORY);
        session_close(session, 4100, "the server is over capacity: `http_api.accept_traffic.memory_threshold` is %.2f",
                      session->server->config->http_api.accept_traffic.memory_threshold);
    } else if (!slot_connection_enter(slot, app->max_connections)) {
        slot_refused(slot, worker, REFUSED_CONNECTIONS);
        count_error(session, slot, CONNECTION_ERROR_OVER_QUOTA);
        session_close(session, 4004, "the app is over its connection quota: `max_connections` is %u",
                      app->max_connections);
    } else {
        establish(session, slot);
    }
}

static void found(struct session *session, const struct app_lookup *lookup) {
    switch (lookup->answer) {
    case APP_FOUND:
        enter(session, lookup);
        break;
    case APP_NOT_FOUND:
        counter_add(&session->server->unknown_apps[session_worker(session)->index], 1);
        session_close(session, 4001, "there is no app with this key");
        break;
    case APP_INVALID:
        session_close(session, 4100, "the app's record is broken; try again later");
        break;
    case APP_UNAVAILABLE:
        session_close(session, 4100, "the app store cannot be reached; try again later");
        break;
    case APP_PENDING:
        break;
    }
}

static void lookup_done(struct app_lookup *lookup) {
    struct session_lookup *own = container_of(lookup, struct session_lookup, lookup);
    struct session *session = own->session;

    session->lookup = NULL;
    found(session, lookup);
    stream_resume(session->websocket.stream);
    free(own);
}

static void find_app(struct session *session, struct slice key) {
    struct session_lookup *own = alloc_zero(sizeof *own);

    own->lookup.done = lookup_done;
    own->session = session;
    if (app_manager_find_by_key(session->server->apps, session_worker(session), key, &own->lookup) != APP_PENDING) {
        found(session, &own->lookup);
        free(own);
        return;
    }
    session->lookup = own;
    stream_pause(session->websocket.stream); /* a waiting connection holds no more than what it has sent so far */
}

static bool is_number(struct slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return text.length != 0;
}

/* `protocol` of the query: 5, 6, 7, or none at all, which is 7. Closes and returns false otherwise. */
static bool protocol_supported(struct session *session, struct slice query_text) {
    unsigned long long version = PROTOCOL_MAX;
    bool number = true, supported = true;
    struct query query;
    struct slice value;

    if (query_parse(&query, query_text) && query_find(&query, SLICE("protocol"), &value)) {
        number = is_number(value);
        supported = slice_to_number(value, PROTOCOL_MAX, &version) && version >= PROTOCOL_MIN;
    }
    query_dispose(&query);
    if (!number)
        session_close(session, 4006, "`protocol` must be a number");
    else if (!supported)
        session_close(session, 4007, "this protocol version is not supported, %d to %d are", PROTOCOL_MIN,
                      PROTOCOL_MAX);
    return number && supported;
}

static void refuse_too_many(struct session *session, uint32_t wait_s) {
    const struct rate_limiter_settings *limit = rate_limiter_settings(session->server->connect_limit);

    session_close(session, 4100,
                  "too many connections from this address: %s.max_requests is %u in %u s; try again in %u s",
                  limit->path, limit->max_requests, limit->window_s, wait_s);
}

static void start(struct session *session, struct slice path, struct slice query) {
    struct buffer decoded = {0};
    struct slice key;

    if (!slice_starts_with(path, SLICE("/app/")) || path.length == SLICE("/app/").length ||
        memchr(path.data + 5, '/', path.length - 5) != NULL) {
        session_close(session, 4005, "there is no such path: connect to /app/{key}");
        return;
    }
    if (!protocol_supported(session, query))
        return;
    key = slice_skip(path, 5);
    if (memchr(key.data, '%', key.length) != NULL) {
        percent_decode(key, &decoded);
        key = buffer_slice(&decoded);
    }
    find_app(session, key);
    buffer_dispose(&decoded);
}

void session_accept(struct session_server *server, struct http_connection *connection, struct http_request *request,
                    struct slice path) {
    struct session *session = alloc_zero(sizeof *session);
    struct buffer target = {0};
    size_t path_length = path.length;
    uint32_t wait_s = rate_limiter_check(server->connect_limit, connection, request);

    session->server = server;
    /* The request goes when the handshake is answered, so what is still needed of it is copied. */
    buffer_append(&target, path);
    buffer_append(&target, request->query);
    if (!websocket_accept(connection, request, &session->websocket, &session_handler, &server->limits)) {
        free(session);
    } else {
        session->active_ms = session_worker(session)->now_ms;
        if (wait_s != 0)
            refuse_too_many(session, wait_s);
        else
            start(session, (struct slice){target.data, path_length}, slice_skip(buffer_slice(&target), path_length));
    }
    buffer_dispose(&target);
}

/* --- living --- */

static void on_activity(struct websocket *websocket, size_t length) {
    struct session *session = session_of(websocket);

    session->active_ms = session_worker(session)->now_ms;
    if (session->pinged && !websocket->closing) {
        /* The timer waits for the pong, which may be longer than until the next ping. */
        session->pinged = false;
        stream_set_timeout(websocket->stream, activity_limit_ms(session));
    }
    if (session->slot != NULL)
        counter_add(&session_part(session)->counters.bytes_received, length);
}

static void on_message(struct websocket *websocket, struct slice text) {
    struct session *session = session_of(websocket);

    if (session->slot != NULL)
        session_message(session, text);
}

static void on_timer(struct websocket *websocket) {
    struct session *session = session_of(websocket);
    uint64_t idle_ms = session_worker(session)->now_ms - session->active_ms;

    if (session->slot == NULL)
        return;
    if (session->pinged) {
        session_close(session, 4201, "no pong came within %d s", PONG_TIMEOUT_MS / 1000);
    } else if (idle_ms < activity_limit_ms(session)) {
        stream_set_timeout(websocket->stream, activity_limit_ms(session) - idle_ms);
    } else {
        session_send(session, &SLICE("{\"event\":\"pusher:ping\",\"data\":\"{}\"}"), 1);
        session->pinged = true;
        stream_set_timeout(websocket->stream, PONG_TIMEOUT_MS);
    }
}

static void on_slow(struct websocket *websocket) {
    struct session *session = session_of(websocket);
    const struct stream_limits *limits = &session->server->limits.output;
    bool own_bound = session->server->config->websocket.max_backpressure == limits->max_bytes;
    struct buffer text = {0};
    char words[160];
    struct slice reason;

    snprintf(words, sizeof words, "not read fast enough: `websocket.max_messages` is %u, `websocket.%s` %zu bytes",
             limits->max_messages, own_bound ? "max_backpressure" : "max_bytes", (size_t)limits->max_bytes);
    reason = slice_of(words);
    if (session->slot != NULL)
        session_refused(session, REFUSED_SLOW_READER);
    error_message_append(&text, 4100, reason);
    websocket_close_slow(websocket, buffer_slice(&text), 4100, reason);
    buffer_dispose(&text);
}

void session_terminate(struct stream *stream) {
    session_close(session_of_stream(stream), 4009, "the connection was terminated by the API");
}

bool session_has_socket_id(const struct stream *stream, const struct socket_id *id) {
    const struct session *session = session_of_stream(stream);

    return session->id.first == id->first && session->id.second == id->second;
}

/* --- closing --- */

static void leave_channels(struct session *session) {
    struct subscription_set *set = &session->subscriptions;
    const struct app *app = slot_app(session->slot);
    bool counts_wanted = app != NULL && app->wants_subscription_count;

    for (uint32_t i = 0; i < set->capacity; i++) {
        struct subscription *subscription = set->slots[i];
        if (subscription == NULL)
            continue;
        counter_add(
            &session_part(session)->counters.unsubscriptions[channel_label_of(channel_type(subscription->channel))], 1);
        channel_leave(session->server->channels, subscription, counts_wanted);
        free(subscription);
    }
    free(set->slots);
    *set = (struct subscription_set){0};
}

/* Nothing from the client counts any more: it leaves everything at once, and the rest is the close handshake's. */
static void on_closing(struct websocket *websocket) {
    struct session *session = session_of(websocket);
    struct app_part *part;

    if (session->lookup != NULL) {
        app_manager_cancel(session->server->apps, &session->lookup->lookup);
        free(session->lookup);
        session->lookup = NULL;
    }
    if (session->slot == NULL)
        return;
    part = session_part(session);
    leave_channels(session);
    session_user_dispose(session);
    list_remove(&session->link);
    part->session_count--;
    counter_add(&part->counters.disconnections, 1);
    slot_connection_leave(session->slot);
    session->slot = NULL; /* without connections it may go, before the client has answered the close */
}

static void on_closed(struct websocket *websocket) {
    free(session_of(websocket));
}
