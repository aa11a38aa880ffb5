/*
 * The way of a request to its handler: route, rate limit, app, signature.
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

/* Begins again with a call that has waited: its app may have changed. The call may be freed on return. */
void api_dispatch_again(struct api_call *call);
