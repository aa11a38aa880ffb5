#include "cluster/key_store.h"

#include "cluster/redis/redis_store.h"

const struct key_store_driver *key_store_driver_of(const struct config *config) {
    return config->cache.driver == CONFIG_CACHE_REDIS ? &redis_store_driver : NULL;
}
