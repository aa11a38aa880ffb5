/*
 * What is said on a connection to Redis before it is used: AUTH, SELECT, CLIENT SETNAME, ROLE, PING; and what the
 * answers mean. Pure functions.
 */
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cluster/redis/redis_output.h"
#include "cluster/redis/redis_value.h"

/* How one logs in. The texts outlive the connections. */
struct redis_access {
    const char *key;      /* of the setting that names the server, such as "database.redis.host and port"; for errors */
    const char *username; /* NULL: the default user */
    const char *password; /* NULL: none */
    /* Of the settings of both, for errors; NULL: what `key` names is to hold them. */
    const char *username_key, *password_key;
    uint32_t db;
    SSL_CTX *tls;      /* NULL: without TLS */
    const char *label; /* the name of the connection in Redis's CLIENT LIST */
    bool master_only;  /* a replica is refused */
};

/* Zero-initialise it. */
struct redis_login {
    unsigned step; /* of the answer that comes next */
};

enum redis_login_result { REDIS_LOGIN_GOES_ON, REDIS_LOGIN_DONE, REDIS_LOGIN_FAILED };

/* Appends all commands. */
void redis_login_begin(struct redis_login *login, const struct redis_access *access, struct redis_output *output);

/* Takes the next answer, which remains the caller's. Failed with an error. */
enum redis_login_result redis_login_answer(struct redis_login *login, const struct redis_access *access,
                                           const struct redis_value *value, struct error *error);

/* False with an error if the answer to ROLE says that the server is no master. Redis that does not let this user ask
 * is trusted. */
bool redis_role_is_master(const struct redis_value *value, struct error *error);
