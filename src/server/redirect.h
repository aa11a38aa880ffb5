/*
 * The plain HTTP port beside a TLS port (`ssl.redirect_http`): every request is sent to its https:// address.
 */
#pragma once

#include <stdint.h>

#include "net/http.h"

struct redirect {
    uint16_t https_port; /* where TLS listens; 443 is left out of addresses */
};

/* The handler of the plain port; `redirect` outlives it. */
struct http_handler redirect_handler(struct redirect *redirect);
