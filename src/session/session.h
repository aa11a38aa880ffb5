/*
 * A session: one WebSocket connection that speaks the Pusher Channels protocol, version 7.
 *
 *   handshake -> find the app -> quota -> established -> messages (the table of events, messages.c) -> closing
 *                    \-> refused: `pusher:error` and a close frame with the same code
 *
 * A session lives on the worker that accepted it. It holds its app's slot, not the record, and reads the record in
 * force each time it needs a limit.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app_manager/app_manager.h"
#include "base/list.h"
#include "channel/channel.h"
#include "config/config.h"
#include "net/http.h"
#include "net/rate_limiter.h"
#include "net/websocket.h"

/* What all sessions share; server/ sets it up before the workers run. Later only the flags change. */
struct session_server {
    const struct config *config;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct websocket_limits limits;
    struct rate_limiter *connect_limit;       /* by client address; NULL: none */
    atomic_bool draining;                     /* the process shuts down */
    atomic_bool memory_full;                  /* over http_api.accept_traffic.memory_threshold */
    struct counter unknown_apps[WORKERS_MAX]; /* connections with a key that no app has, by worker */
    /* By worker, for that worker only. */
    struct list parts[WORKERS_MAX];       /* the apps' parts that have sessions */
    struct closing *closing[WORKERS_MAX]; /* sessions being closed; NULL: none */
};

/* Prepares a zeroed structure. */
void session_server_init(struct session_server *server);

/* Takes over a WebSocket handshake; `path` is the request's without the path prefix. On the connection's worker. */
void session_accept(struct session_server *server, struct http_connection *connection, struct http_request *request,
                    struct slice path);

/* For the channel hub: closes the session with 4009 for the API; whether the session has this socket id. */
void session_terminate(struct stream *stream);
bool session_has_socket_id(const struct stream *stream, const struct socket_id *id);

/* After a change of apps: closes this worker's sessions whose app is disabled (4003) or gone (4001), at once or, if
 * they are many, spread over just under a second. On the worker. */
void sessions_apply_app_changes(struct session_server *server, struct worker *worker);

/*
 * For shutdown: closes this worker's sessions with 4200, spread over `grace_s`, and then stops the worker. On the
 * worker, once.
 */
void sessions_drain(struct session_server *server, struct worker *worker, uint32_t grace_s);
