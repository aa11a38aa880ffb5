/*
 * The address of a server, for a client of it: from a URL, or from the server's own configuration.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"

struct server_address {
    char *url;         /* http or https, host, port and path prefix, without a slash at the end */
    char *unix_socket; /* the socket to connect to in place of the host; NULL: none */
    bool insecure;     /* accept any certificate */
    bool direct;       /* the server is on this machine: ignore the proxy settings of the environment */
};

/* Parses a URL of http, https, ws or wss. False with an error if it is none. Dispose of it after success. */
bool server_address_parse(struct server_address *address, const char *url, bool insecure, struct error *error);

/*
 * The address at which a server with this configuration is reached from this machine. Its certificate is valid for
 * another name, so it is not checked. False with an error if the kernel chooses the port. Dispose of it after success.
 */
bool server_address_from_config(struct server_address *address, const struct config *config, struct error *error);

void server_address_dispose(struct server_address *address);
