/*
 * TLS of the main listener, from the configuration's `ssl`.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"
#include "net/tls.h"

/* Reads certificate and key; `*tls` is the caller's to destroy, NULL when `ssl.enabled` is false. False with an error
 * that names the setting and the file. */
bool server_tls_create(const struct config *config, struct tls_context **tls, struct error *error);
