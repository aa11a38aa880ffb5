/*
 * Client libraries look names up with getaddrinfo, which waits for as long as it likes. A driver asks here first: a
 * resolver that has just answered answers the library as well.
 */
#pragma once

#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/deadline.h"
#include "base/error.h"

/* True if the name (or address) has addresses; else false with what the resolver said, or that it said nothing in
 * time. */
bool resolve_in_time(const char *host, const struct deadline *deadline, struct error *error);

/* The addresses themselves, for a stream to this port; NULL with an error. Free them with freeaddrinfo. */
struct addrinfo *resolve_addresses(const char *host, uint16_t port, const struct deadline *deadline,
                                   struct error *error);
