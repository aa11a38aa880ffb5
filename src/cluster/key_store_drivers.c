#include "cluster/key_store.h"

#include "cluster/redis/redis_cluster_store.h"
#include "cluster/redis/redis_store.h"

const struct key_store_driver *key_store_driver_of(const struct config *config) {
    switch (config->cache.driver) {
    case CONFIG_CACHE_REDIS:
        return &redis_store_driver;
    case CONFIG_CACHE_REDIS_CLUSTER:
        return &redis_cluster_store_driver;
    case CONFIG_CACHE_MEMORY:
        break;
    }
    return NULL;
}
