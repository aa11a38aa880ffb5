#include <stdlib.h>

#include "app/origin.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/query.h"
#include "net/address_limit.h"
#include "net/tls.h"
#include "session/session_internal.h"

#define PROTOCOL_MIN 5
#define PROTOCOL_MAX 7

/* Of a connection that will be refused: nothing is negotiated, and only its close frame is of interest. */
static const struct websocket_limits refused_limits = {.max_message_bytes = 4096, .max_frame_bytes = 4096};

static void establish_session(struct session *session, struct app_slot *slot, const struct app *app) {
    struct worker *worker = session_worker(session);
    struct app_part *part = slot_part(slot, worker);
    char socket_id[SOCKET_ID_TEXT], timeout[NUMBER_DIGITS];

    session->slot = slot;
    session->websocket.limits = &session->server->limits; /* if memory was short before, and is not any more */
    stream_set_limits(session->websocket.stream, &session->server->limits.output);
    budget_assign(slot->budget, session_held_bytes(session));
    session->id = socket_id_draw();
    session_list_add(session, app);
    counter_add(&part->counters.connections, 1);
    session_send(session,
                 (struct slice[]){
                     SLICE("{\"event\":\"pusher:connection_established\",\"data\":\"{\\\"socket_id\\\":\\\""),
                     {socket_id, socket_id_format(&session->id, socket_id)},
                     SLICE("\\\",\\\"activity_timeout\\\":"),
                     slice_of_number(session->server->config->activity_timeout_s, timeout),
                     SLICE("}\"}"),
                 },
                 5);
    session->active_ms = worker->now_ms;
    session->connected_ticks = (uint32_t)((worker->now_ms + SESSION_TICK_MS - 1) / SESSION_TICK_MS);
    session_schedule(session);
    session_log(session, "connected");
}

static void count_connection_error(struct session *session, struct app_slot *slot, enum connection_error type) {
    counter_add(&slot_part(slot, session_worker(session))->counters.errors[type], 1);
}

/* True if the app may hold one more connection, which is counted for none yet. */
static bool app_has_room(const struct session *session, const struct budget_app *app) {
    const struct tls_connection *tls = session->websocket.stream->tls;

    if (!budget_has_room(BUDGET_CONNECTIONS, app, session_bytes())) {
        budget_refused(BUDGET_CONNECTIONS);
        return false;
    }
    if (tls != NULL && !budget_has_room(BUDGET_TLS, app, tls_held_bytes(tls))) {
        budget_refused(BUDGET_TLS);
        return false;
    }
    return true;
}

/* Counts the connection if the app has less than `max` on all nodes; 0: no limit. */
static bool enter_slot(const struct session *session, struct app_slot *slot, uint32_t max) {
    struct cluster *cluster = session->server->cluster;
    uint64_t others = max != 0 && cluster != NULL ? cluster_app_connections(cluster, slice_of(slot->id)) : 0;

    return (max == 0 || others < max) && slot_connection_enter(slot, max - (uint32_t)others);
}

/* Admits the session to its app. The lookup may have taken long, so the state of the server is checked here: a drain
 * that began meanwhile has closed established sessions only. */
static void admit_session(struct session *session, const struct app_lookup *lookup) {
    struct worker *worker = session_worker(session);
    struct app_slot *slot = lookup->slot;
    const struct app *app = lookup->app;

    if (!app->enabled) {
        slot_refused(slot, worker, REFUSED_DISABLED);
        count_connection_error(session, slot, CONNECTION_ERROR_APP_DISABLED);
        session_close(session, 4003, "the app is disabled");
    } else if (!app_allows_origin(app, origin_text(session->origin))) {
        slot_refused(slot, worker, REFUSED_ORIGIN);
        count_connection_error(session, slot, CONNECTION_ERROR_ORIGIN_NOT_ALLOWED);
        session_log_refusal(session, "app %s does not allow its origin", slot->id);
        session_close_for_origin(session);
    } else if (atomic_load_explicit(&session->server->draining, memory_order_relaxed)) {
        session_close_for_restart(session);
    } else if (atomic_load_explicit(&session->server->memory_full, memory_order_relaxed)) {
        slot_refused(slot, worker, REFUSED_MEMORY);
        session_close(session, 4100, "the server is over capacity: `http_api.accept_traffic.memory_threshold` is %.2f",
                      session->server->config->http_api.accept_traffic.memory_threshold);
    } else if (!app_has_room(session, slot->budget)) {
        slot_refused(slot, worker, REFUSED_MEMORY_LIMIT);
        session_close(session, 4100, "the server is over capacity: it has no memory for more connections");
    } else if (!enter_slot(session, slot, app->max_connections)) {
        slot_refused(slot, worker, REFUSED_CONNECTIONS);
        count_connection_error(session, slot, CONNECTION_ERROR_OVER_QUOTA);
        session_close(session, 4004, "the app is over its connection quota: `max_connections` is %u",
                      app->max_connections);
    } else {
        establish_session(session, slot, app);
    }
}

static void apply_lookup(struct session *session, const struct app_lookup *lookup) {
    switch (lookup->answer) {
    case APP_FOUND:
        admit_session(session, lookup);
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

static void on_lookup_done(struct app_lookup *lookup) {
    struct session_lookup *waiting = container_of(lookup, struct session_lookup, lookup);
    struct session *session = waiting->session;

    session->lookup = NULL;
    apply_lookup(session, lookup);
    stream_resume(session->websocket.stream);
    free(waiting);
}

static uint64_t address_of_waiting(struct app_lookup *lookup) {
    return session_client_address(container_of(lookup, struct session_lookup, lookup)->session);
}

static void find_session_app(struct session *session, struct slice key) {
    struct session_lookup *waiting = alloc_zero(sizeof *waiting);

    waiting->lookup.done = on_lookup_done;
    waiting->lookup.address = address_of_waiting;
    waiting->session = session;
    if (app_manager_find_by_key(session->server->apps, session_worker(session), key, &waiting->lookup) != APP_PENDING) {
        apply_lookup(session, &waiting->lookup);
        free(waiting);
        return;
    }
    session->lookup = waiting;
    stream_pause(session->websocket.stream); /* a waiting connection buffers only input that was already read */
}

static bool has_only_digits(struct slice text) {
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    return text.length != 0;
}

/* Checks `protocol` of the query: 5, 6, 7, or missing, which means 7. Otherwise closes the session and returns false.
 */
static bool protocol_supported(struct session *session, struct slice query_text) {
    unsigned long long version = PROTOCOL_MAX;
    bool number = true, supported = true;
    struct query query;
    struct slice value;

    query_parse(&query, query_text);
    if (query_find(&query, SLICE("protocol"), &value)) {
        number = has_only_digits(value);
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

    session_log_refusal(session, "it connects more often than %s allows", limit->path);
    session_close(session, 4100,
                  "too many connections from this address: %s.max_requests is %u in %u s; try again in %u s",
                  limit->path, limit->max_requests, limit->window_s, wait_s);
}

/* The descriptor is needed by others: the client's answer is not waited for. */
static void refuse_without_descriptors(struct session *session) {
    counter_add(&session_worker(session)->counters.descriptor_refusals, 1);
    session_close(session, 4100, "the server is over capacity: it has no file descriptors left for WebSockets");
    stream_close(session->websocket.stream);
}

/* Nor is it here: the client has its connections. */
static void refuse_connection_of_address(struct session *session, const char *text) {
    session_log_refusal(session, "it has more connections than rate_limiter.max_connections_per_address allows");
    session_close(session, 4100, "%s", text);
    stream_close(session->websocket.stream);
}

static void start_session(struct session *session, struct slice path, struct slice query) {
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
    find_session_app(session, key);
    buffer_dispose(&decoded);
}

static unsigned count_origins(const struct http_request *request) {
    unsigned count = 0;

    for (unsigned i = 0; i < request->header_count; i++)
        count += slice_equal_ignoring_case(request->headers[i].name, SLICE("Origin"));
    return count;
}

/* Keeps the Origin header also for an app without `allowed_origins`, which may get them. Browsers send one: of two it
 * is not known which one is true. */
static void keep_origin(struct session *session, struct worker *worker, const struct http_request *request) {
    struct slice text;

    if (http_header(request, SLICE("Origin"), &text))
        session->origin = origin_set_take(&session->server->origins[worker->index],
                                          count_origins(request) == 1 ? text : SLICE("null"));
}

/* True if a new connection will be refused, whatever its app says. */
static bool has_no_room(const struct session_server *server) {
    return atomic_load_explicit(&server->draining, memory_order_relaxed) ||
           atomic_load_explicit(&server->memory_full, memory_order_relaxed) ||
           !budget_has_room(BUDGET_CONNECTIONS, NULL, session_bytes());
}

void session_accept(struct session_server *server, struct http_connection *connection, struct http_request *request,
                    struct slice path) {
    struct session *session = alloc_zero(sizeof *session);
    struct worker *worker = http_worker(connection);
    char target[HTTP_HEAD_MAX_BYTES];
    struct slice query = request->query;
    uint32_t wait_s = rate_limiter_check(server->connect_limit, connection, request);
    bool short_lived = http_is_short_lived(connection);
    struct error over;
    bool admitted =
        address_limit_admit(connection, request, server->config->rate_limiter.websocket_rate_limit.trust_hops, &over);
    bool refused = wait_s != 0 || !admitted || short_lived || has_no_room(server);

    budget_add(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *session));
    session->server = server;
    session_log_accept(session, connection, request);
    keep_origin(session, worker, request);
    /* The answer to the handshake frees the request: copy path and query before, which are parts of its head. */
    path.data = memcpy(target, path.data, path.length);
    query.data = memcpy(target + path.length, query.data, query.length);
    if (!websocket_accept(connection, request, &session->websocket, &session_websocket_handler,
                          refused ? &refused_limits : &server->limits)) {
        budget_give(BUDGET_CONNECTIONS, NULL, alloc_footprint(sizeof *session));
        origin_set_release(&server->origins[worker->index], session->origin);
        free(session->address);
        free(session);
    } else {
        session->active_ms = worker->now_ms;
        if (atomic_load_explicit(&server->draining, memory_order_relaxed))
            session_close_for_restart(session);
        else if (wait_s != 0)
            refuse_too_many(session, wait_s);
        else if (!admitted)
            refuse_connection_of_address(session, over.text);
        else if (short_lived)
            refuse_without_descriptors(session);
        else
            start_session(session, path, query);
    }
}
