/*
 * The Redis servers that the configuration names: which one is for what, from URLs and from the section database.redis.
 *
 * A URL is redis://[user][:password]@host[:port][/db], or rediss:// for TLS; user and password have % escapes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/config.h"

#define CONFIG_REDIS_PORT 6379
#define CONFIG_REDIS_SENTINEL_PORT 26379

struct config_redis_server {
    char host[256]; /* without brackets */
    uint16_t port;
    bool tls;
    uint32_t db;
    char *username; /* NULL: none */
    char *password; /* NULL: none; secret */
    /* The settings of both, for messages; NULL: the URL is to hold them. */
    const char *username_key, *password_key;
};

/* What a connection to Redis is for. */
enum config_redis_use {
    CONFIG_REDIS_PUBLISH,   /* of the adapter */
    CONFIG_REDIS_SUBSCRIBE, /* of the adapter */
    CONFIG_REDIS_CACHE,     /* the events of cache channels */
};

/* Reads a URL, or HOST, HOST:PORT or [ADDRESS]:PORT. False if it is none; dispose of `server` in any case. */
bool config_redis_parse(const char *text, uint16_t default_port, struct config_redis_server *server);

/* Wipes and frees the name and the password. */
void config_redis_server_dispose(struct config_redis_server *server);

/*
 * Fills in the server for that use: of its URL, else of database.redis. Returns the key of the setting that names it,
 * for messages. If Sentinel is used, the server has what is needed beside the address of the master.
 */
const char *config_redis_server(const struct config *config, enum config_redis_use use,
                                struct config_redis_server *server);

/* True if Sentinel is to be asked for the master: it is configured, and no URL takes precedence. */
bool config_redis_uses_sentinel(const struct config *config, enum config_redis_use use);

/* A Sentinel with its password, by index into database.redis.sentinels. */
void config_redis_sentinel(const struct config *config, size_t index, struct config_redis_server *server);

/*
 * A node of the Redis Cluster to begin with: of adapter.cluster.nodes, else of database.redis.cluster.nodes, else the
 * server of database.redis. With name, password and TLS of the cluster unless its URL has its own. False with `index`
 * beyond the last one. `key` is the setting that names it, for messages.
 */
bool config_redis_seed(const struct config *config, size_t index, struct config_redis_server *server, const char **key);
