/*
 * The HTTP API: what the server SDKs call, the health pages and the metrics.
 *
 *   net/http -- request --> routes.c -- path, method --> auth.c -- app, signature --> events.c, channels.c, users.c,
 *                                                                                     health.c, usage.c, metrics.c
 *
 * Everything runs on the worker of the request's connection. WebSocket handshakes on the same port are given to
 * `on_websocket`, which floor 6 points at the sessions: this floor does not know them.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app_manager/app_manager.h"
#include "base/counter.h"
#include "channel/channel.h"
#include "config/config.h"
#include "net/http.h"
#include "net/rate_limiter.h"

/* What the API needs of the process. Filled by the server before the first connection, except what says otherwise. */
struct api {
    const struct config *config;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct workers *workers;
    uint64_t started_at_s;              /* wall clock */
    const atomic_bool *draining;        /* the process shuts down: /up fails */
    const atomic_bool *memory_full;     /* over http_api.accept_traffic.memory_threshold: no large bodies */
    atomic_uint health_checks;          /* under way, for /up */
    struct rate_limiter *request_limit; /* on requests to /apps by client address; NULL: none */
    struct rate_limiter *connect_limit; /* on connects, checked by the sessions and only counted here; NULL: none */
    unsigned metrics_port;              /* where the metrics page listens, set once that is known; the label `port` */
    /* Connections with a key that no app has: a counter for each of WORKERS_MAX workers, or NULL. */
    const struct counter *unknown_apps;
    /* Speaks WebSocket with the client; answers the request in any case. `path` is without the path_prefix, and empty
     * for a path outside it. */
    void (*on_websocket)(struct http_connection *connection, struct http_request *request, struct slice path,
                         void *context);
    void *websocket_context;
};

/* The handlers of the main port, of the metrics port and of the admin API's; all keep `api` as their context. */
struct http_handler api_main_handler(struct api *api);
struct http_handler api_admin_handler(struct api *api);
struct http_handler api_metrics_handler(struct api *api);
