/*
 * What connections to Redis take from the configuration. Before the loop's thread is started.
 */
#pragma once

#include "cluster/redis/redis_login.h"
#include "config/config_redis.h"

/* How one logs in to this server, whose setting is `key`; no TLS yet, any database, and a replica will do. The texts
 * are those of `server`, `key` and `label`, and outlive the connections. */
struct redis_access redis_settings_access(const struct config_redis_server *server, const char *key, const char *label);

/* TLS with the files of database.redis.tls. NULL with an error that names the setting. Free it with SSL_CTX_free. */
SSL_CTX *redis_settings_tls(const struct config *config, struct error *error);

/* True if one connection can stand for the other: the same database of the same server, as the same user. With
 * `any_place` the address does not count: Sentinel names it. */
bool redis_settings_equal(const struct config_redis_server *one, const struct config_redis_server *other,
                          bool any_place);
