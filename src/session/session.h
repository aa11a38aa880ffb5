/*
 * A session: one WebSocket connection with the Pusher Channels protocol, version 7.
 *
 *   handshake -> find the app -> quota -> established -> messages (the table of events, messages.c) -> closing
 *                    \-> refused: `pusher:error` and a close frame with the same code
 *
 * A session belongs to the worker that accepted it; its functions are for that worker's thread. It keeps its app's
 * slot, not the record, and reads the current record each time it needs a limit.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app_manager/app_manager.h"
#include "base/list.h"
#include "channel/channel.h"
#include "cluster/cluster.h"
#include "config/config.h"
#include "net/address_log.h"
#include "net/http.h"
#include "net/rate_limiter.h"
#include "net/websocket.h"
#include "session/origin_set.h"

/* State that all sessions share. server/ fills it in before the workers run; after that only the flags, the counters
 * and the data of each worker change. */
struct session_server {
    const struct config *config;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct webhook_outlet *webhooks; /* NULL: none are sent */
    struct cluster *cluster;         /* NULL: this node is the only one */
    struct websocket_limits limits;
    struct rate_limiter *connect_limit;       /* limit by client address; NULL: none */
    struct address_log *refused;              /* addresses of refused clients; NULL: they are not logged */
    atomic_bool draining;                     /* the process is shutting down */
    atomic_bool successor;                    /* while draining: another process accepts clients that come back */
    atomic_bool memory_full;                  /* memory use is above http_api.accept_traffic.memory_threshold */
    struct counter unknown_apps[WORKERS_MAX]; /* connections with an unknown app key, by worker */
    /* By worker; used on that worker's thread only. */
    struct list parts[WORKERS_MAX]; /* app parts that have sessions */
    struct origin_set origins[WORKERS_MAX];
    struct closing *closing[WORKERS_MAX]; /* closing in progress; NULL: none */
};

/* Initialises a zeroed structure. */
void session_server_init(struct session_server *server);

/* Handles a WebSocket handshake: accepts or refuses it and takes over the connection. `path` is the request's path
 * without the path prefix. On the connection's worker. */
void session_accept(struct session_server *server, struct http_connection *connection, struct http_request *request,
                    struct slice path);

/* Closes the session of a stream for the API if it was made before a monotonic time: with 4009, or with 4200, so that
 * the client connects again. A callback of the channel hub. */
void session_terminate(struct stream *stream, bool reconnect, uint64_t before_ms);

/* True if the session of a stream has this socket id. A callback of the channel hub. */
bool session_has_socket_id(const struct stream *stream, const struct socket_id *id);

/* Closes this worker's sessions whose app was disabled (4003) or deleted (4001) or does not allow their origin any more
 * (4009): at once or, if there are many, spread
 * over slightly less than a second. Call it after a change of apps, on the worker's thread. */
void sessions_apply_app_changes(struct session_server *server, struct worker *worker);

/*
 * Closes this worker's sessions for shutdown, spread over `spread_ms`: with 4200 if `successor` is set, else with 4100,
 * which is also what new ones get. Calls `drained` (may be NULL) when the last one is closed. Call it once, with
 * `draining` set, on the worker's thread.
 */
void sessions_drain(struct session_server *server, struct worker *worker, uint64_t spread_ms,
                    void (*drained)(void *context), void *context);
