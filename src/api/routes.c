/*
 * The tables of routes, and what every request goes through before its handler sees it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "api/auth.h"
#include "api/call.h"
#include "api/cors.h"
#include "api/route.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"

/* The most common one first. */
static const struct api_route main_routes[] = {
    {"POST", "/apps/{}/events", api_post_event, ROUTE_SIGNED},
    {"POST", "/apps/{}/batch_events", api_post_batch, ROUTE_SIGNED},
    {"GET", "/apps/{}/channels", api_get_channels, ROUTE_SIGNED},
    {"GET", "/apps/{}/channels/{}", api_get_channel, ROUTE_SIGNED},
    {"GET", "/apps/{}/channels/{}/users", api_get_channel_users, ROUTE_SIGNED},
    {"POST", "/apps/{}/users/{...}/terminate_connections", api_terminate_user, ROUTE_SIGNED},
    {"GET", "/up", api_get_up, ROUTE_NOTHING},
    {"GET", "/up/{}", api_get_up_app, ROUTE_APP},
    {"GET", "/usage", api_get_usage, ROUTE_NOTHING},
};

static const struct api_route metrics_routes[] = {
    {"GET", "/metrics", api_get_metrics, ROUTE_NOTHING},
};

static const struct api_route admin_routes[] = {
    {"GET", "/admin/apps", api_admin_list, ROUTE_NOTHING},
    {"POST", "/admin/apps", api_admin_create, ROUTE_NOTHING},
    {"GET", "/admin/apps/{}", api_admin_show, ROUTE_NOTHING},
    {"PUT", "/admin/apps/{}", api_admin_replace, ROUTE_NOTHING},
    {"PATCH", "/admin/apps/{}", api_admin_patch, ROUTE_NOTHING},
    {"DELETE", "/admin/apps/{}", api_admin_delete, ROUTE_NOTHING},
    {"POST", "/admin/apps/{}/refresh", api_admin_refresh, ROUTE_NOTHING},
};

struct route_table {
    const struct api_route *routes;
    size_t count;
    bool prefixed;     /* paths begin with the path_prefix */
    bool cross_origin; /* the `cors` section holds */
    bool websockets;
};

static const struct route_table main_table = {main_routes, sizeof main_routes / sizeof main_routes[0], true, true,
                                              true};
static const struct route_table metrics_table = {metrics_routes, sizeof metrics_routes / sizeof metrics_routes[0],
                                                 false, false, false};
static const struct route_table admin_table = {admin_routes, sizeof admin_routes / sizeof admin_routes[0], false, false,
                                               false};

static void dispatch(struct api_call *call, const struct route_table *table, struct slice path);
static void look_up(struct api_call *call);
static void run(struct api_call *call);
static void refuse_too_many(struct api_call *call, uint32_t wait_s);

static struct api_call *call_create(struct http_connection *connection, struct http_request *request) {
    struct api_call *call = alloc_zero(sizeof *call);

    call->api = http_connection_handler(connection)->context;
    call->worker = http_worker(connection);
    call->connection = connection;
    call->request = request;
    return call;
}

static void call_free(struct api_call *call) {
    buffer_dispose(&call->decoded);
    free(call);
}

/* The handler has returned: it has answered, or it waits for a job. */
static void end(struct api_call *call) {
    if (call->waits_for == NULL)
        call_free(call);
}

static void on_request(struct http_connection *connection, struct http_request *request,
                       const struct route_table *table) {
    struct api *api = http_connection_handler(connection)->context;
    struct slice received = route_path(request->path);
    struct slice path = received;
    struct api_call *call;
    uint32_t wait_s = 0;

    if (table->prefixed && !route_strip_prefix(slice_of(api->config->path_prefix), &path))
        path = SLICE("");
    if (table->websockets && request->wants_websocket) {
        api->on_websocket(connection, request, path, api->websocket_context);
        return;
    }
    call = call_create(connection, request);
    call->path = received;
    call->cross_origin = table->cross_origin;
    if (slice_starts_with(path, SLICE("/apps/")))
        wait_s = rate_limiter_check(api->request_limit, connection, request);
    if (wait_s != 0) {
        refuse_too_many(call, wait_s);
        return;
    }
    if (path.length > 1 && path.data[path.length - 1] == '/')
        path.length--;
    dispatch(call, table, path);
}

static void on_main_request(struct http_connection *connection, struct http_request *request) {
    on_request(connection, request, &main_table);
}

static void on_metrics_request(struct http_connection *connection, struct http_request *request) {
    on_request(connection, request, &metrics_table);
}

static void on_admin_request(struct http_connection *connection, struct http_request *request) {
    on_request(connection, request, &admin_table);
}

/* Only a call that waits for the app store outlives its request's handler. */
static void on_abort(struct http_connection *connection) {
    struct api_call *call = http_pending(connection);

    if (call->waits_for != NULL)
        call->waits_for->job.done = NULL;
    else
        app_manager_cancel(call->api->apps, &call->lookup);
    call_free(call);
}

static void job_done(struct app_job *job) {
    struct api_job *own = container_of(job, struct api_job, job);
    struct api_call *call = own->call;

    http_set_pending(call->connection, NULL);
    call->waits_for = NULL;
    own->ended(call, own);
    call_free(call);
}

void api_submit(struct api_call *call, struct api_job *job, uint32_t timeout_ms) {
    job->call = call;
    job->job.done = job_done;
    call->waits_for = job;
    http_set_pending(call->connection, call);
    app_manager_submit(call->api->apps, call->worker, &job->job, timeout_ms);
}

struct http_handler api_main_handler(struct api *api) {
    return (struct http_handler){.on_request = on_main_request,
                                 .on_abort = on_abort,
                                 .max_body_bytes = (size_t)api->config->http_api.request_limit_in_mb * 1024 * 1024,
                                 .memory_full = api->memory_full,
                                 .context = api};
}

struct http_handler api_admin_handler(struct api *api) {
    return (struct http_handler){
        .on_request = on_admin_request, .on_abort = on_abort, .max_body_bytes = 1024 * 1024, .context = api};
}

struct http_handler api_metrics_handler(struct api *api) {
    return (struct http_handler){
        .on_request = on_metrics_request, .on_abort = on_abort, .max_body_bytes = 64 * 1024, .context = api};
}

/* The first of all checks, before anything is looked up or verified for this client. */
static void refuse_too_many(struct api_call *call, uint32_t wait_s) {
    const struct rate_limiter_settings *limit = rate_limiter_settings(call->api->request_limit);
    char header[40];
    struct error error;

    snprintf(header, sizeof header, "Retry-After: %u\r\n", wait_s);
    error_set(&error, "too many requests from this address: %s.max_requests is %u in %u s", limit->path,
              limit->max_requests, limit->window_s);
    api_refuse_with(call, 429, REFUSED_REQUEST, slice_of(header), error.text);
    call_free(call);
}

/* --- which route --- */

static void append_allowed(struct buffer *headers, struct slice method) {
    buffer_append(headers, headers->length == 0 ? SLICE("Allow: ") : SLICE(", "));
    buffer_append(headers, method);
}

/* The path exists, but not with this method: 405, or the answer to OPTIONS. */
static void answer_other_method(struct api_call *call, struct buffer *headers) {
    bool asked = slice_equal(call->request->method, SLICE("OPTIONS"));

    append_allowed(headers, SLICE("OPTIONS"));
    buffer_append(headers, SLICE("\r\n"));
    if (asked && call->cross_origin)
        cors_append_preflight(call->api->config, headers);
    if (asked)
        api_answer_with(call, 204, SLICE(""), buffer_slice(headers), SLICE(""));
    else
        api_refuse_with(call, 405, REFUSED_REQUEST, buffer_slice(headers),
                        "the path does not take this method; the Allow header says which it takes");
}

/* What was percent-encoded in the path's parameters is decoded into one run of bytes that does not move meanwhile. */
static void decode_parameters(struct api_call *call, const struct slice parameters[ROUTE_PARAMETERS]) {
    for (size_t i = 0; i < ROUTE_PARAMETERS; i++) {
        size_t start = call->decoded.length;
        call->parameters[i] = parameters[i];
        if (parameters[i].length == 0 || memchr(parameters[i].data, '%', parameters[i].length) == NULL)
            continue;
        if (call->decoded.capacity == 0)
            buffer_reserve(&call->decoded, call->path.length);
        percent_decode(parameters[i], &call->decoded);
        call->parameters[i] = slice_skip(buffer_slice(&call->decoded), start);
    }
}

static void dispatch(struct api_call *call, const struct route_table *table, struct slice path) {
    struct slice method = call->request->method;
    struct buffer allowed = {0};

    if (slice_equal(method, SLICE("HEAD")))
        method = SLICE("GET");
    for (size_t i = 0; i < table->count; i++) {
        const struct api_route *route = &table->routes[i];
        struct slice parameters[ROUTE_PARAMETERS] = {0};
        if (!route_matches(route->path, path, parameters))
            continue;
        if (slice_equal(slice_of(route->method), method)) {
            buffer_dispose(&allowed);
            call->route = route;
            decode_parameters(call, parameters);
            look_up(call);
            return;
        }
        append_allowed(&allowed, slice_of(route->method));
        if (slice_equal(slice_of(route->method), SLICE("GET")))
            append_allowed(&allowed, SLICE("HEAD"));
    }
    if (allowed.length != 0)
        answer_other_method(call, &allowed);
    else
        api_refuse(call, 404, REFUSED_REQUEST, "there is nothing at this path");
    buffer_dispose(&allowed);
    call_free(call);
}

/* --- which app --- */

static void lookup_done(struct app_lookup *lookup) {
    struct api_call *call = container_of(lookup, struct api_call, lookup);

    http_set_pending(call->connection, NULL);
    run(call);
    end(call);
}

static void look_up(struct api_call *call) {
    if (call->route->needs != ROUTE_NOTHING) {
        call->lookup.done = lookup_done;
        if (app_manager_find_by_id(call->api->apps, call->worker, call->parameters[0], &call->lookup) == APP_PENDING) {
            http_set_pending(call->connection, call);
            return;
        }
    }
    run(call);
    end(call);
}

/* --- may it --- */

static void run_signed(struct api_call *call) {
    const struct app *app = call->lookup.app;
    struct http_request *request = call->request;
    struct query query;
    struct error error;
    const struct auth_request signed_request = {
        .method = request->method,
        .path = call->path,
        .path_prefix = slice_of(call->api->config->path_prefix),
        .query = &query,
        .body = request->body,
        .body_unknown = request->body_too_large,
    };

    call->query = &query;
    if (!query_parse(&query, request->query))
        api_refuse(call, 401, REFUSED_SIGNATURE,
                   "the query has more than %d parameters: its auth_signature is not verified", QUERY_MAX);
    else if (!auth_verify(app, &signed_request, clock_wall_ms() / 1000, &error))
        api_refuse_with(call, 401, REFUSED_SIGNATURE, SLICE(""), error.text);
    else if (!app->enabled)
        api_refuse(call, 403, REFUSED_DISABLED, "the app is disabled");
    else if (request->body_too_large)
        api_refuse(call, 413, REFUSED_REQUEST, "the body is over http_api.request_limit_in_mb, which is %u",
                   call->api->config->http_api.request_limit_in_mb);
    else
        call->route->handle(call);
    query_dispose(&query);
}

static void run(struct api_call *call) {
    if (call->route->needs != ROUTE_SIGNED) {
        call->route->handle(call);
        return;
    }
    switch (call->lookup.answer) {
    case APP_FOUND:
        run_signed(call);
        break;
    case APP_NOT_FOUND:
        api_refuse(call, 404, REFUSED_REQUEST, "there is no app with this id");
        break;
    case APP_INVALID:
        api_refuse(call, 500, REFUSED_REQUEST, "the app's record is broken: %s",
                   call->lookup.reason != NULL ? call->lookup.reason : "no field is named");
        break;
    case APP_UNAVAILABLE:
    case APP_PENDING: /* is answered later and never comes here */
        api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"),
                        "the app store cannot be reached, and nothing is known about this app: try again");
        break;
    }
}
