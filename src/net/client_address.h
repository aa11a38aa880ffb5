/*
 * Who sent a request, as one number to count by: an IPv4 address, or the first 64 bits of an IPv6 address, since a
 * customer gets at least that many addresses from any provider.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "net/http.h"

/*
 * The address of the peer, or with `trust_hops` n the n-th from the right in X-Forwarded-For, which n proxies in front
 * have appended to. A header with fewer addresses gives the leftmost; one whose address cannot be read, or none at all,
 * the peer's. False if there is none: a unix socket.
 */
bool client_address(struct http_connection *connection, const struct http_request *request, uint32_t trust_hops,
                    uint64_t *address);

/* Reads an address as proxies write it: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80. */
bool client_address_parse(struct slice text, uint64_t *address);
