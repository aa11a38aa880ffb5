/*
 * A master of a Redis Cluster with sharded pub/sub: a connection that publishes, and one that subscribes.
 *
 *   create ---> open ---> both are up ---> it answers SPUBLISH: ready ---> lost        or: open ---> lost
 *
 * Which slots it has is not its matter (redis_slots.h). On the cluster's thread.
 */
#pragma once

#include "cluster/redis/redis_pipeline.h"
#include "cluster/redis/redis_subscriber.h"

struct redis_shard;

/* What its owner is told. */
struct redis_shard_events {
    /* A connection is up, or the check has passed: redis_shard_is_ready may have changed. */
    void (*up)(void *context);
    /* A connection is over. The shard may be opened again, also at once. */
    void (*lost)(void *context, const struct redis_shard *shard, const char *why);
    /* The subject is valid during the call, as for `left`. */
    void (*in_force)(void *context, struct slice subject);
    /* The receiver owns the message. */
    void (*message)(void *context, struct bus_message *message);
    /* The master has dropped the subject, or did not take it: it does not have the slot, or not at the moment. */
    void (*left)(void *context, struct redis_shard *shard, struct slice subject);
    /* Every command was answered. */
    void (*idle)(void *context);
    void *context;
};

/* The same for all masters of a bus. */
struct redis_shard_settings {
    struct loop *loop;
    const struct redis_access *access;
    struct slice check_subject; /* a message on it shows that the master knows sharded pub/sub */
    struct bus_bytes *check_bytes;
    struct redis_shard_events events;
};

struct redis_shard {
    const struct redis_shard_settings *settings;
    struct redis_place place;
    struct redis_pipeline publisher;
    struct redis_subscriber subscriber;
    struct redis_request check;
    bool checked;
    bool current; /* set by the owner: in the newest topology */
};

/* Makes a shard that is closed. While it is held (redis_subscriber.h) it subscribes to nothing. The settings outlive
 * it. */
struct redis_shard *redis_shard_create(const struct redis_shard_settings *settings, const struct redis_place *place,
                                       bool held);

/* Closes and frees it, but not within its events. */
void redis_shard_destroy(struct redis_shard *shard);

/* Opens those of its connections that are closed. */
void redis_shard_open(struct redis_shard *shard, uint64_t timeout_ms);

/* Closes both without `lost`, and holds it; subjects stay. */
void redis_shard_close(struct redis_shard *shard);

/* True if both connections are up, and the check has passed. */
bool redis_shard_is_ready(const struct redis_shard *shard);

/* True if an answer says that another master has the slot, or that none can be reached at the moment. */
bool redis_shard_is_refusal(const struct redis_value *value);

/* Gives the publishing connection up, because of an answer that is no refusal and not a number. */
void redis_shard_fail(struct redis_shard *shard, const struct redis_value *value);
