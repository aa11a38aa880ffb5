#include "app_manager/cache/cache_settings.h"

struct cache_settings cache_settings_read(const struct config *config, const struct config_sql *sql) {
    uint32_t ttl_s = config->app_manager.cache.ttl_s;
    uint32_t cleanup_interval_s = config->app_manager.cache.cleanup_interval_s;
    bool enabled = config->app_manager.cache.enabled;

    if (sql != NULL && sql->cache_ttl.set)
        ttl_s = sql->cache_ttl.value;
    if (sql != NULL && sql->cache_cleanup_interval.set)
        cleanup_interval_s = sql->cache_cleanup_interval.value;
    return (struct cache_settings){
        .passthrough = !enabled || ttl_s == 0,
        .ttl_ms = ttl_s * UINT64_C(1000),
        .negative_ttl_ms = enabled ? config->app_manager.cache.negative_ttl_s * UINT64_C(1000) : 0,
        .stale_if_error_ms = config->app_manager.cache.stale_if_error_s * UINT64_C(1000),
        .cleanup_interval_ms = cleanup_interval_s * UINT64_C(1000),
        .lookup_timeout_ms = config->app_manager.lookup_timeout_ms,
        .vanished_grace_ms = config->app_manager.vanished_grace_s * UINT64_C(1000),
        .capacity = sql != NULL ? sql->cache_max_capacity.value : config->app_manager.cache.max_capacity,
    };
}
