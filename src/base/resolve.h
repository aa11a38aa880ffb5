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

/* A lookup that somebody waits for with epoll. */
struct resolve_lookup;

/* Begins to look up the addresses for a TCP connection to `port`. NULL with an error if the system has no thread or
 * descriptor left. */
struct resolve_lookup *resolve_begin(const char *host, uint16_t port, struct error *error);

/* Readable when the lookup has ended. */
int resolve_fd(const struct resolve_lookup *lookup);

/* After that: returns the addresses, once; NULL with an error. Free them with freeaddrinfo. */
struct addrinfo *resolve_take(struct resolve_lookup *lookup, struct error *error);

/* Frees the lookup, also before it has ended. NULL is ignored. */
void resolve_end(struct resolve_lookup *lookup);
