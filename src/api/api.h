/*
 * The HTTP API: what the server SDKs call, the health pages and the metrics.
 *
 *   net/http -- request --> dispatch.c -- path, method --> auth.c -- app, signature --> publish_events.c, channels.c,
 *                               |                                                     users.c, health.c, usage.c, ...
 *                          route_table.c
 *
 * All of it runs on the worker of the request's connection; only the metrics page is built on a thread of its own.
 * WebSocket handshakes on the same port go to `on_websocket`, which server/ sets to the sessions: api/ does not know
 * them.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "app_manager/app_manager.h"
#include "base/counter.h"
#include "channel/channel.h"
#include "config/config.h"
#include "net/address_log.h"
#include "net/http.h"
#include "net/rate_limiter.h"

struct cluster;
struct delivery;
struct idempotency;
struct list_thread;
struct page_thread;

#define ADMIN_STRANGERS 20 /* addresses that are logged in a minute */

/* What the API uses of the process. server/ fills it before the first connection. */
struct api {
    const struct config *config;
    struct app_manager *apps;
    struct channel_hub *channels;
    struct workers *workers;
    struct cluster *cluster;            /* other nodes; NULL: the adapter is `local` */
    uint64_t started_at_s;              /* wall clock */
    const atomic_bool *draining;        /* the process shuts down: /up fails */
    atomic_bool ending;                 /* the process ends, and has no client left: signed requests get 503 */
    const atomic_bool *memory_full;     /* above http_api.accept_traffic.memory_threshold: large bodies are refused */
    struct address_log admin_strangers; /* clients whose requests to the admin API had no token */
    struct address_log *refused;        /* other refused clients; NULL: they are not logged */
    atomic_uint health_checks;          /* under way, for /up */
    struct list_thread *lists;          /* makes long lists of channels and users */
    struct page_thread *metrics;        /* NULL: without a metrics port */
    struct page_thread *stats;          /* of all apps; NULL: nobody may ask */
    struct idempotency *idempotency;    /* keys of publishes that were accepted */
    struct rate_limiter *request_limit; /* on requests to /apps by client address; NULL: none */
    struct rate_limiter *connect_limit; /* on connects; checked by the sessions, shown in the metrics; NULL: none */
    struct delivery *webhooks;          /* for the metrics; NULL: webhooks are turned off */
    const struct webhook_outlet *webhook_outlet; /* the same */
    unsigned metrics_port;                       /* the label `port`; set when the port is known */
    /* Connections with a key that no app has, for each of WORKERS_MAX workers; or NULL. */
    const struct counter *unknown_apps;
    /* Takes over a WebSocket handshake and answers it. `path` is without the path_prefix, empty for a path outside it.
     */
    void (*on_websocket)(struct http_connection *connection, struct http_request *request, struct slice path,
                         void *context);
    void *websocket_context;
};

/* The handlers of the main port, the metrics port and the admin port. Their context is `api`. */
struct http_handler api_main_handler(struct api *api);
struct http_handler api_admin_handler(struct api *api);
struct http_handler api_metrics_handler(struct api *api);
