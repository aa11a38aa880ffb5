/*
 * The address of a client as one number, the key of rate limits: an IPv4 address, or the first 64 bits of an IPv6
 * address, since providers assign each customer at least a /64 network.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "net/http.h"
#include "net/peer_address.h"

/*
 * Determines the client's address. With `trust_hops` 0 it is the address of the peer; with n it is the n-th address
 * from the right in X-Forwarded-For, to which n trusted proxies have appended. A header with fewer addresses gives the
 * leftmost one; a missing header or an invalid address gives the peer's. False if the peer has no address (a unix
 * socket). On the connection's worker.
 */
bool client_address(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops,
                    uint64_t *address);

/* Writes the address of the same client as text for the log: 192.0.2.1, 2001:db8::1, "unix socket". Returns `text`. On
 * the connection's worker. */
const char *client_address_write(struct http_connection *connection, const struct http_request *request,
                                 uint32_t trust_hops, char text[CLIENT_ADDRESS_TEXT]);

/* Reads the address of the peer of a socket; false if it has none or is gone. */
bool peer_address_read(int fd, uint64_t *address);

/* Parses an address in the forms that proxies write: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1],
 * [2001:db8::1]:80. */
bool client_address_parse(struct slice text, uint64_t *address);
