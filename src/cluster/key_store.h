/*
 * A store of small values with an expiry beside the nodes, as cache.driver says: the events of cache channels, and the
 * keys of publishes that may be repeated.
 *
 * A driver routes commands of Redis by the key that they are about, and connects by itself. What is asked for is
 * carried out in its order. Where the store is the Redis of the adapter, commands go over the connection that
 * publishes: what is stored before a publish is there when that arrives. On the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/slice.h"
#include "cluster/bus.h"
#include "cluster/loop.h"
#include "cluster/redis/redis_pipeline.h"
#include "config/config.h"

struct key_store;

struct key_store_events {
    /* Commands are answered; they are not. The cause is for the log. */
    void (*up)(void *context);
    void (*down)(void *context, const char *why);
    void *context;
};

struct key_store_driver {
    /* Makes a store, which connects when it is started. `bus` (NULL: none), `loop` and `config` outlive it. NULL with
     * an error that names the setting if the configuration can never work. */
    struct key_store *(*create)(struct loop *loop, const struct config *config, struct bus *bus,
                                const struct key_store_events *events, struct error *error);
    void (*start)(struct key_store *store);
    /* Sends a command about `key`, whose answer goes to `request`. False, and nothing is sent, while it is down. */
    bool (*request)(struct key_store *store, struct slice key, struct redis_request *request, const struct slice *words,
                    size_t count);
    /* Writes what was sent: at the end of a turn. */
    void (*flush)(struct key_store *store);
    /* When the thread has ended, and before the bus is destroyed. */
    void (*destroy)(struct key_store *store);
    /* A publish has to wait for the answers to what was stored before it, which may take another way. */
    bool publishes_wait;
};

struct key_store {
    const struct key_store_driver *driver;
    struct key_store_events events;
};

/* The driver that cache.driver names; NULL: values are kept in the memory of the nodes only. */
const struct key_store_driver *key_store_driver_of(const struct config *config);
