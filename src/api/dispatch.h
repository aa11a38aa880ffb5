/*
 * The way of a request to its handler: route, limit by address, app, signature, the app's limits per second.
 */
#pragma once

#include "api/api_call.h"

struct route_table {
    const struct api_route *routes;
    size_t count;
    bool prefixed;     /* paths begin with the path_prefix */
    bool cross_origin; /* the `cors` section applies */
    bool websockets;   /* handshakes go to api.on_websocket */
};

/* Finds the route of a request and runs its handler, at once or when its app is known. */
void api_dispatch(struct http_connection *connection, struct http_request *request, const struct route_table *table);

/* Refuses a request whose body has not arrived, if its head is enough for that: address, route, app, signature, rate.
 * Otherwise does nothing: the request is dispatched when the body is there. If the app has to be read from the store
 * first, the body waits. */
void api_dispatch_head(struct http_connection *connection, struct http_request *request,
                       const struct route_table *table);

/* Begins again with a call that has waited: its app may have changed. The call may be freed on return. */
void api_dispatch_again(struct api_call *call);
