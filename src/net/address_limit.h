/*
 * The limit of open connections of one client address (`rate_limiter.max_connections_per_address`).
 *
 * Without proxies in front, a connection counts from `accept` to `close`. What is over the limit is answered when its
 * request is there, since probes of a health check must be served. A probe is answered also over the limit, but its
 * connection then closes: kept open, it would be one more.
 *
 * With proxies, the client is known when a request has come. A WebSocket counts from its handshake on. The HTTP
 * connections of a proxy carry the requests of many clients: each request counts until it is answered, and a connection
 * between requests counts for nobody.
 *
 * All functions are for the connection's worker, and do nothing if there is no limit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/http.h"

/* Counts an accepted socket, unless there are proxies. */
void address_limit_accept(struct worker *worker, int fd);

/* True if the client of the request may have it, or its WebSocket. Otherwise `*text` gets the reason for the client. */
bool address_limit_admit(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops,
                         struct error *text);

/* For a request that no limit may refuse: its answer is the last one of the connection if that is over the limit. */
void address_limit_exempt(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops);
