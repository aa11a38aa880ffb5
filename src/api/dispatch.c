#include "api/dispatch.h"

#include <stdio.h>

#include "api/admin_token.h"
#include "api/auth.h"
#include "api/cors.h"
#include "api/request_rates.h"
#include "api/route_match.h"
#include "base/clock.h"
#include "base/list.h"
#include "net/address_limit.h"
#include "net/client_address.h"

static void find_route(struct api_call *call, const struct route_table *table, struct slice path);
static void find_call_app(struct api_call *call);
static void run_route(struct api_call *call);
static void refuse_over_limit(struct api_call *call, uint32_t wait_s);
static void refuse_connection(struct api_call *call, const char *text);

/* Probes of a health check, which no limit may fail. */
static bool is_probe(struct slice path) {
    if (path.length > 1 && path.data[path.length - 1] == '/')
        path.length--;
    return slice_equal(path, SLICE("/live")) || slice_equal(path, SLICE("/ready")) ||
           slice_equal(path, SLICE("/accept-traffic"));
}

static uint32_t api_hops(const struct api *api) {
    return api->config->rate_limiter.api_rate_limit.trust_hops;
}

/* True for paths that name an app: the store may be asked for it. */
static bool path_names_app(struct slice path) {
    return slice_starts_with(path, SLICE("/apps/")) || slice_starts_with(path, SLICE("/up/")) ||
           slice_starts_with(path, SLICE("/stats"));
}

static void dispatch_request(struct http_connection *connection, struct http_request *request,
                             const struct route_table *table, bool head_only) {
    struct api *api = http_connection_handler(connection)->context;
    struct slice received = route_path(request->path);
    struct slice path = received;
    struct api_call *call;
    struct error text;
    uint32_t wait_s = 0;

    if (table->prefixed && !route_strip_prefix(slice_of(api->config->path_prefix), &path))
        path = SLICE("");
    if (table->websockets && request->wants_websocket) {
        api->on_websocket(connection, request, path, api->websocket_context);
        return;
    }
    call = api_call_create(connection, request);
    call->path = received;
    call->head_only = head_only;
    call->cross_origin = table->cross_origin;
    if (table->websockets && is_probe(path))
        address_limit_exempt(connection, request, api_hops(api));
    else if (table->websockets && !address_limit_admit(connection, request, api_hops(api), &text)) {
        refuse_connection(call, text.text);
        return;
    }
    if (path_names_app(path) && !request->head_accepted)
        wait_s = rate_limiter_check(api->request_limit, connection, request);
    if (wait_s != 0) {
        refuse_over_limit(call, wait_s);
        return;
    }
    if (path.length > 1 && path.data[path.length - 1] == '/')
        path.length--;
    find_route(call, table, path);
}

void api_dispatch(struct http_connection *connection, struct http_request *request, const struct route_table *table) {
    dispatch_request(connection, request, table, false);
}

void api_dispatch_head(struct http_connection *connection, struct http_request *request,
                       const struct route_table *table) {
    dispatch_request(connection, request, table, true);
}

/* A connection of a proxy stays open: it carries the requests of others, too. */
static void refuse_connection(struct api_call *call, const char *text) {
    if (api_hops(call->api) == 0)
        http_close_after_answer(call->connection);
    api_refuse_with(call, 429, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"), text);
    api_call_release(call);
}

/* The rate limit is the first check, before any lookup or signature. */
static void refuse_over_limit(struct api_call *call, uint32_t wait_s) {
    const struct rate_limiter_settings *limit = rate_limiter_settings(call->api->request_limit);
    char header[40];
    struct error error;

    snprintf(header, sizeof header, "Retry-After: %u\r\n", wait_s);
    error_set(&error, "too many requests from this address: %s.max_requests is %u in %u s", limit->path,
              limit->max_requests, limit->window_s);
    api_refuse_with(call, 429, REFUSED_REQUEST, slice_of(header), error.text);
    api_call_release(call);
}

/* --- the route --- */

static void append_allowed(struct buffer *headers, struct slice method) {
    buffer_append(headers, headers->length == 0 ? SLICE("Allow: ") : SLICE(", "));
    buffer_append(headers, method);
}

/* Answers a method that the path does not have: 405, or the list of methods for OPTIONS. */
static void answer_other_method(struct api_call *call, struct buffer *headers) {
    bool is_options = slice_equal(call->request->method, SLICE("OPTIONS"));

    append_allowed(headers, SLICE("OPTIONS"));
    buffer_append(headers, SLICE("\r\n"));
    if (is_options && call->cross_origin)
        cors_append_preflight(call->api->config, headers);
    if (is_options)
        api_answer_with(call, 204, SLICE(""), buffer_slice(headers), SLICE(""));
    else
        api_refuse_with(call, 405, REFUSED_REQUEST, buffer_slice(headers),
                        "the path does not take this method; the Allow header says which it takes");
}

void api_get_without_upgrade(struct api_call *call) {
    api_refuse_with(call, 426, REFUSED_REQUEST, SLICE("Upgrade: websocket\r\nConnection: Upgrade\r\n"),
                    "this path is for WebSockets, and the request has no `Upgrade: websocket`: if a WebSocket client "
                    "sent it, a proxy in between has dropped the headers Upgrade and Connection");
}

/* Decodes percent-encoded parameters into one buffer, which is reserved first so that it does not move. */
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

static void find_route(struct api_call *call, const struct route_table *table, struct slice path) {
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
            find_call_app(call);
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
    api_call_release(call);
}

/* --- the app --- */

/* Refuses a request that nobody would hear of any more; false if it was not. */
static bool refuse_at_end(struct api_call *call) {
    if (call->route->needs < ROUTE_SIGNED || !atomic_load_explicit(&call->api->ending, memory_order_relaxed))
        return false;
    api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"), "the server is restarting: try again");
    return true;
}

static void on_app_found(struct app_lookup *lookup) {
    struct api_call *call = container_of(lookup, struct api_call, lookup);
    struct http_connection *connection = call->connection;

    api_call_resume(call);
    if (!refuse_at_end(call))
        run_route(call);
    if (call->head_only)
        http_accept_head(connection); /* unless it was answered */
    api_call_release(call);
}

static void cancel_lookup(struct api_call *call) {
    app_manager_cancel(call->api->apps, &call->lookup);
}

/* Finds the app whose key is in the query. */
static enum app_answer find_app_of_key(struct api_call *call) {
    enum app_answer answer = APP_NOT_FOUND;
    struct query query;
    struct slice key;

    query_parse(&query, call->request->query);
    call->unsigned_request = !query_find(&query, SLICE("auth_key"), &key);
    if (!call->unsigned_request)
        answer = app_manager_find_by_key(call->api->apps, call->worker, key, &call->lookup);
    query_dispose(&query);
    return answer;
}

static uint64_t address_of_caller(struct app_lookup *lookup) {
    const struct api_call *call = container_of(lookup, struct api_call, lookup);
    uint64_t address = 0;

    (void)client_address(call->connection, call->request, api_hops(call->api), &address);
    return address;
}

static enum app_answer start_lookup(struct api_call *call) {
    call->lookup.done = on_app_found;
    call->lookup.address = address_of_caller;
    switch (call->route->needs) {
    case ROUTE_NOTHING:
    case ROUTE_TOKEN:
        return APP_FOUND;
    case ROUTE_SIGNED_BY_KEY:
        return find_app_of_key(call);
    case ROUTE_APP:
    case ROUTE_SIGNED:
        break;
    }
    return app_manager_find_by_id(call->api->apps, call->worker, call->parameters[0], &call->lookup);
}

static void find_call_app(struct api_call *call) {
    if (refuse_at_end(call)) {
        api_call_release(call);
        return;
    }
    if (start_lookup(call) == APP_PENDING) {
        api_call_wait(call, NULL, cancel_lookup);
        return;
    }
    run_route(call);
    api_call_release(call);
}

void api_dispatch_again(struct api_call *call) {
    call->lookup = (struct app_lookup){0};
    call->query = NULL;
    find_call_app(call);
}

/* --- the signature --- */

/* True if there is a body to come. Whether one in chunks will be empty is not known before its end. */
static bool announces_body(const struct http_request *request) {
    struct slice encoding;

    return request->announced_bytes != 0 || http_header(request, SLICE("transfer-encoding"), &encoding);
}

static void run_signed(struct api_call *call) {
    const struct app *app = call->lookup.app;
    struct http_request *request = call->request;
    uint64_t now_s = clock_wall_s();
    struct query query;
    struct error error;
    enum app_signer signer;
    const struct auth_request signed_request = {
        .method = request->method,
        .path = call->path,
        .path_prefix = slice_of(call->api->config->path_prefix),
        .query = &query,
        .body = request->body,
        .has_body = announces_body(request),
        .body_unknown = call->head_only || request->body_too_large,
        .body_md5 = request->body_md5,
    };

    call->query = &query;
    query_parse(&query, request->query);
    signer = auth_verify(app, &signed_request, now_s, &error);
    if (signer == APP_SIGNER_PREVIOUS)
        slot_previous_secret_seen(call->lookup.slot, call->worker, now_s, app->previous_secret_until);
    if (signer == APP_SIGNER_NONE)
        api_refuse_with(call, 401, REFUSED_SIGNATURE, SLICE(""), error.text);
    else if (!app->enabled)
        api_refuse(call, 403, REFUSED_DISABLED, "the app is disabled");
    else if (!request_rate_admit(call))
        (void)0; /* answered */
    else if (request->body_too_large)
        api_refuse(call, 413, REFUSED_REQUEST, "the body is over http_api.request_limit_in_mb, which is %u",
                   call->api->config->http_api.request_limit_in_mb);
    else if (call->head_only)
        http_digest_body(request);
    else
        call->route->handle(call);
    query_dispose(&query);
}

/* The path is for everybody, and no handler of it reads a body: a small one is read and forgotten. */
static void bound_useless_body(struct api_call *call) {
    call->request->body_limit = HTTP_SMALL_BODY_BYTES;
    if (call->request->announced_bytes > HTTP_SMALL_BODY_BYTES)
        api_refuse(call, 413, REFUSED_REQUEST, "this path takes no body");
}

static void run_route(struct api_call *call) {
    bool by_key = call->route->needs == ROUTE_SIGNED_BY_KEY;

    if (call->route->needs == ROUTE_TOKEN && !admin_token_admits(call))
        return;
    if (call->route->needs < ROUTE_SIGNED || call->unsigned_request) {
        if (!call->head_only)
            call->route->handle(call);
        else if (call->route->needs != ROUTE_TOKEN)
            bound_useless_body(call);
        return;
    }
    switch (call->lookup.answer) {
    case APP_FOUND:
        run_signed(call);
        break;
    case APP_NOT_FOUND:
        if (by_key)
            api_refuse(call, 401, REFUSED_SIGNATURE, "auth_key is not the key of an app");
        else
            api_refuse(call, 404, REFUSED_REQUEST, "there is no app with this id");
        break;
    case APP_INVALID:
        api_refuse(call, 500, REFUSED_REQUEST, "the app's record is broken: %s",
                   call->lookup.reason != NULL ? call->lookup.reason : "no field is named");
        break;
    case APP_UNAVAILABLE:
    case APP_PENDING: /* answered later: never here */
        api_refuse_with(call, 503, REFUSED_REQUEST, SLICE("Retry-After: 1\r\n"),
                        "the app store cannot be reached, and nothing is known about this app: try again");
        break;
    }
}
