/*
 * A connection to one Redis on the loop: name lookup, TCP, TLS, login, commands in a pipeline, values.
 *
 *   open ---> up ---> value, value, ... ---> lost        or: open ---> lost
 *
 * The owner appends commands to the output and flushes them at the end of its turn. It reads the answers, which come in
 * the order of the commands, or what Redis sends by itself. Nothing blocks. On the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "cluster/loop.h"
#include "cluster/redis/redis_login.h"
#include "cluster/redis/redis_output.h"
#include "cluster/redis/redis_value.h"

#define REDIS_HOST_MAX 255

struct redis_place {
    char host[REDIS_HOST_MAX + 1];
    uint16_t port;
};

/* False, and nothing is written, if the host is too long. */
bool redis_place_set(struct redis_place *place, struct slice host, uint16_t port);

/* What the owner is told, never from within a function that it calls. */
struct redis_connection_events {
    /* Logged in: commands are answered. */
    void (*up)(void *context);
    /* The connection is over, or never was; only destroy is called after that. `why` begins with the server's address
     * and the setting that names it. */
    void (*lost)(void *context, const char *why);
    /* A value has come, which the owner frees. */
    void (*value)(void *context, struct redis_value *value);
    /* What could be read or written now was: a good moment to append more. May be NULL. */
    void (*progress)(void *context);
    /* Every 5 seconds while it is up: append what Redis has to answer, and call redis_connection_answered when it has.
     * Without an answer for 5 seconds the connection is lost. NULL: it is not probed. */
    void (*probe)(void *context);
    void *context;
};

struct redis_connection;

/* Begins to connect; it has to be up within `timeout_ms`. `access` outlives the connection. */
struct redis_connection *redis_connection_open(struct loop *loop, const struct redis_place *place,
                                               const struct redis_access *access, uint64_t timeout_ms,
                                               const struct redis_connection_events *events);

/* Closes and frees it at any time, also within its events. What waits to be written is lost. NULL is ignored. */
void redis_connection_destroy(struct redis_connection *connection);

/* While it is up: the output, for the functions of redis_output.h. */
struct redis_output *redis_connection_output(struct redis_connection *connection);
bool redis_connection_is_up(const struct redis_connection *connection);

/* Writes as much of the output as the kernel takes; the rest follows by itself. */
void redis_connection_flush(struct redis_connection *connection);

/* The answer to the probe has come. */
void redis_connection_answered(struct redis_connection *connection);

/* Gives the connection up because Redis does not do `what`: the answer is an error, or no answer at all to that. */
void redis_connection_refused(struct redis_connection *connection, const char *what, const struct redis_value *answer);

/* Gives the connection up: `lost` follows in a turn of the loop, with this reason. */
void redis_connection_fail(struct redis_connection *connection, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
