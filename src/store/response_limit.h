/*
 * The limit on the size of a database's response. Client libraries keep whatever a server sends until all of it is
 * there, so the driver asks the socket how many bytes have arrived.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RESPONSE_MAX_BYTES (64ul << 20) /* far more than a page of 1000 apps */

/* The bytes that a TCP socket has received so far. 0 for other sockets, which are on this machine. */
uint64_t response_received(int fd);

/* False when more than RESPONSE_MAX_BYTES arrived since response_received returned `before`. */
bool response_fits(int fd, uint64_t before);

/* The error text of a response that is too large. */
extern const char response_too_large[];
