/*
 * The settings of the cache, in the units that its parts use.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

struct cache_settings {
    bool passthrough; /* every lookup asks the store, and nothing stale is served */
    uint64_t ttl_ms, negative_ttl_ms, stale_if_error_ms, cleanup_interval_ms, lookup_timeout_ms, vanished_grace_ms;
    size_t capacity; /* of apps without connections */
};

/* `sql`: settings of the SQL store in use, which override those of the cache; NULL for other stores. */
struct cache_settings cache_settings_read(const struct config *config, const struct config_sql *sql);
