/*
 * Sentinel: asked for the address of the master, and watched for a change of it.
 *
 * All Sentinels are asked at once, and the first answer counts. Each that has answered stays connected as a subscriber
 * of +switch-master. On the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cluster/redis/redis_connection.h"
#include "config/config.h"

struct redis_sentinels;

struct redis_sentinels_events {
    /* The answer to redis_sentinels_ask. */
    void (*found)(void *context, const struct redis_place *master);
    /* No Sentinel has told the master. */
    void (*failed)(void *context, const char *why);
    /* The master has changed: ask anew. */
    void (*switched)(void *context);
    void *context;
};

/* Makes the Sentinels of database.redis.sentinels. `config` and `tls` (NULL: without TLS) outlive them. */
struct redis_sentinels *redis_sentinels_create(struct loop *loop, const struct config *config, SSL_CTX *tls,
                                               const struct redis_sentinels_events *events);
/* NULL is ignored. */
void redis_sentinels_destroy(struct redis_sentinels *sentinels);

/* Asks for the master; either `found` or `failed` follows within `timeout_ms`. Ends an earlier question. */
void redis_sentinels_ask(struct redis_sentinels *sentinels, uint64_t timeout_ms);
/* Ends the question and the watch. */
void redis_sentinels_close(struct redis_sentinels *sentinels);
