/*
 * The store of keys in one Redis (cache.driver "redis"): over the publishing connection of the bus, if that is a
 * connection to the same database of the same server, else over one of its own.
 */
#pragma once

#include "cluster/key_store.h"

extern const struct key_store_driver redis_store_driver;
