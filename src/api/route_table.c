/*
 * The routes of the three ports, and the handlers of their listeners.
 */
#include "api/dispatch.h"

/* The most common one first. */
static const struct api_route main_routes[] = {
    {"POST", "/apps/{}/events", api_post_event, ROUTE_SIGNED, ROUTE_COSTS_EVENTS},
    {"POST", "/apps/{}/batch_events", api_post_batch, ROUTE_SIGNED, ROUTE_COSTS_EVENTS},
    {"GET", "/apps/{}/channels", api_get_channels, ROUTE_SIGNED, ROUTE_COSTS_READ},
    {"GET", "/apps/{}/channels/{}", api_get_channel, ROUTE_SIGNED, ROUTE_COSTS_READ},
    {"GET", "/apps/{}/channels/{}/users", api_get_channel_users, ROUTE_SIGNED, ROUTE_COSTS_READ},
    {"POST", "/apps/{}/users/{...}/terminate_connections", api_terminate_user, ROUTE_SIGNED},
    {"POST", "/apps/{}/users/{...}/force_reconnect", api_reconnect_user, ROUTE_SIGNED},
    {"GET", "/apps/{}/connections", api_get_connections, ROUTE_SIGNED, ROUTE_COSTS_READ},
    {"GET", "/up", api_get_up, ROUTE_NOTHING},
    {"GET", "/up/{}", api_get_up_app, ROUTE_APP},
    {"GET", "/live", api_get_live, ROUTE_NOTHING},
    {"GET", "/ready", api_get_ready, ROUTE_NOTHING},
    {"GET", "/accept-traffic", api_get_ready, ROUTE_NOTHING},
    {"GET", "/stats", api_get_stats, ROUTE_SIGNED_BY_KEY, ROUTE_COSTS_READ},
    {"GET", "/usage", api_get_public_usage, ROUTE_NOTHING},
    {"GET", "/app/{}", api_get_without_upgrade, ROUTE_NOTHING},
};

static const struct api_route metrics_routes[] = {
    {"GET", "/metrics", api_get_metrics, ROUTE_NOTHING},
    {"GET", "/usage", api_get_usage, ROUTE_NOTHING},
};

static const struct api_route admin_routes[] = {
    {"GET", "/admin/stats", api_admin_stats, ROUTE_TOKEN},
    {"GET", "/admin/nodes", api_admin_nodes, ROUTE_TOKEN},
    {"GET", "/admin/log-level", api_admin_log_level, ROUTE_TOKEN},
    {"PUT", "/admin/log-level", api_admin_set_log_level, ROUTE_TOKEN},
    {"POST", "/admin/confirm-removal", api_admin_confirm_removal, ROUTE_TOKEN},
    {"GET", "/admin/apps", api_admin_list, ROUTE_TOKEN},
    {"POST", "/admin/apps", api_admin_create, ROUTE_TOKEN},
    {"GET", "/admin/apps/{}", api_admin_show, ROUTE_TOKEN},
    {"PUT", "/admin/apps/{}", api_admin_replace, ROUTE_TOKEN},
    {"PATCH", "/admin/apps/{}", api_admin_patch, ROUTE_TOKEN},
    {"DELETE", "/admin/apps/{}", api_admin_delete, ROUTE_TOKEN},
    {"POST", "/admin/apps/{}/refresh", api_admin_refresh, ROUTE_TOKEN},
    {"GET", "/admin/apps/{}/previous-secret", api_admin_previous_secret, ROUTE_TOKEN},
};

static const struct route_table main_table = {main_routes, sizeof main_routes / sizeof main_routes[0], true, true,
                                              true};
static const struct route_table metrics_table = {metrics_routes, sizeof metrics_routes / sizeof metrics_routes[0],
                                                 false, false, false};
static const struct route_table admin_table = {admin_routes, sizeof admin_routes / sizeof admin_routes[0], false, false,
                                               false};

static void on_main_request(struct http_connection *connection, struct http_request *request) {
    api_dispatch(connection, request, &main_table);
}

static void on_main_head(struct http_connection *connection, struct http_request *request) {
    api_dispatch_head(connection, request, &main_table);
}

static void on_metrics_request(struct http_connection *connection, struct http_request *request) {
    api_dispatch(connection, request, &metrics_table);
}

static void on_admin_request(struct http_connection *connection, struct http_request *request) {
    api_dispatch(connection, request, &admin_table);
}

static void on_admin_head(struct http_connection *connection, struct http_request *request) {
    api_dispatch_head(connection, request, &admin_table);
}

/* A call that waits has a connection whose client may go away. */
static void on_call_abort(struct http_connection *connection) {
    api_call_abort(http_pending(connection));
}

struct http_handler api_main_handler(struct api *api) {
    return (struct http_handler){.on_request = on_main_request,
                                 .on_head = on_main_head,
                                 .on_abort = on_call_abort,
                                 .max_body_bytes = (size_t)api->config->http_api.request_limit_in_mb * 1024 * 1024,
                                 .memory_full = api->memory_full,
                                 .context = api};
}

struct http_handler api_admin_handler(struct api *api) {
    return (struct http_handler){.on_request = on_admin_request,
                                 .on_head = on_admin_head,
                                 .on_abort = on_call_abort,
                                 .max_body_bytes = 1024 * 1024,
                                 .context = api};
}

struct http_handler api_metrics_handler(struct api *api) {
    return (struct http_handler){
        .on_request = on_metrics_request, .on_abort = on_call_abort, .max_body_bytes = 64 * 1024, .context = api};
}
