/*
 * Host name lookups with a deadline, on a thread of their own.
 *
 * Client libraries look up names with getaddrinfo, which has no time limit. A store driver resolves the name here
 * first: a resolver that has just answered will answer the library as well. For threads that may block.
 */
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"

/* Looks up a name or an address; false with the resolver's error, or an error that says that the deadline passed. */
bool resolve_in_time(const char *host, const struct deadline *deadline, struct error *error);

/* Returns the addresses for a TCP connection to `port`; NULL with an error. Free them with freeaddrinfo. */
struct addrinfo *resolve_addresses(const char *host, uint16_t port, const struct deadline *deadline,
                                   struct error *error);
