/*
 * A session: one WebSocket connection that speaks the Pusher Channels protocol, version 7.
 *
 *   handshake -> find the app -> quota -> established -> messages (one table of events, messages.c) -> closing
 *                    \-> refused: `pusher:error` and a close frame with the same code
 *
 * A session lives on the worker that accepted it. It holds its app's slot, not the record, and reads the record in
 * force each time it needs a limit.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app_manager/app_manager.h"
#include "channel/channel.h"
#include "config/config.h"
#include "net/http.h"
#include "net/rate_limiter.h"
#include "net/websocket.h"

/* What all sessions share; set up by server/ before the workers run, and unchanged but for the flags. */
struct session_server {
    const struct config *config;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct websocket_limits limits;
    struct rate_limiter *connect_limit;       /* by client address; NULL: none */
    atomic_bool draining;                     /* the process shuts down */
    atomic_bool memory_full;                  /* over http_api.accept_traffic.memory_threshold */
    struct counter unknown_apps[WORKERS_MAX]; /* connections with a key that no app has, by worker */
    struct closing *closing[WORKERS_MAX]; /* what closes sessions on a worker, for that worker; NULL: nothing does */
};

/* Takes over a WebSocket handshake; `path` is the request's without the path prefix. On the connection's worker. */
void session_accept(struct session_server *server, struct http_connection *connection, struct http_request *request,
                    struct slice path);

/* For the hub: closes the session with 4009 by order of the API; whether the session has this socket id. */
void session_terminate(struct stream *stream);
bool session_has_socket_id(const struct stream *stream, const struct socket_id *id);

/* Apps have changed: closes this worker's sessions whose app is disabled (4003) or gone (4001), at once or, if there
 * are many, spread over just under a second. On the worker. */
void sessions_apply_app_changes(struct session_server *server, struct worker *worker);

/*
 * The process shuts down: closes this worker's sessions with 4200, spread over `grace_s`, and stops the worker when
 * they are told. On the worker, once.
 */
void sessions_drain(struct session_server *server, struct worker *worker, uint32_t grace_s);
