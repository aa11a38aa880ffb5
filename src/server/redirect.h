/*
 * The plain HTTP port beside a TLS port (`ssl.redirect_http`): it redirects every request to its https:// address.
 */
#pragma once

#include <stdint.h>

#include "net/http.h"

struct redirect {
    uint16_t https_port; /* of the TLS port; 443 is omitted in addresses */
};

/* The handler of the plain port; `redirect` outlives it. */
struct http_handler redirect_handler(struct redirect *redirect);
