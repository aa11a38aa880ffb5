/*
 * A connection to Redis whose commands are answered in their order: it publishes, and asks.
 *
 * An answer to PUBLISH says only that Redis took it, so it is counted; a request gets its answer. A request that is
 * sent before a publish is carried out before it. On the cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "cluster/redis/redis_connection.h"

/* What its owner is told, as by struct redis_connection_events; after `lost` it may be opened again, also at once. */
struct redis_pipeline_events {
    void (*up)(void *context);
    void (*lost)(void *context, const char *why);
    /* Every 5 seconds: send something that is answered. May be NULL: then PING is sent. */
    void (*probe)(void *context);
    /* Every command was answered. May be NULL. */
    void (*idle)(void *context);
    void *context;
};

/* A command with its answer; embedded in what its owner knows about it. */
struct redis_request {
    /* NULL: the connection was lost, or closed, before the answer came. The value is freed afterwards. The request is
     * out of the pipeline by then. */
    void (*answered)(struct redis_request *request, const struct redis_value *value);
    struct list link;
    uint64_t number;
};

struct redis_pipeline {
    struct loop *loop;
    struct redis_pipeline_events events;
    struct redis_connection *connection; /* NULL: closed */
    uint64_t sent, answered;             /* commands */
    struct list requests;                /* by number */
    struct redis_request probe;
    bool probing;
};

/* A pipeline that is closed. Dispose of it in the end, which closes it. */
void redis_pipeline_init(struct redis_pipeline *pipeline, struct loop *loop,
                         const struct redis_pipeline_events *events);

/* Opens the pipeline, which is closed. `up` or `lost` follows. */
void redis_pipeline_open(struct redis_pipeline *pipeline, const struct redis_place *place,
                         const struct redis_access *access, uint64_t timeout_ms);
/* Closes it without `lost`; requests are told. What waits to be written is lost. */
void redis_pipeline_close(struct redis_pipeline *pipeline);

bool redis_pipeline_is_up(const struct redis_pipeline *pipeline);

/* --- while it is up --- */

/* Appends a message; `command` is PUBLISH or SPUBLISH. An error as answer ends the connection. */
void redis_pipeline_publish(struct redis_pipeline *pipeline, struct slice command, struct slice subject,
                            struct bus_bytes *bytes);

/* The same with an answer that goes to `request`, also an error. */
void redis_pipeline_publish_request(struct redis_pipeline *pipeline, struct redis_request *request,
                                    struct slice command, struct slice subject, struct bus_bytes *bytes);

/* Appends a command, whose answer goes to `request`. */
void redis_pipeline_request(struct redis_pipeline *pipeline, struct redis_request *request, const struct slice *words,
                            size_t count);

/* Writes what was appended. */
void redis_pipeline_flush(struct redis_pipeline *pipeline);

/* Bytes that are not handed to the kernel yet; true if each command was answered. */
size_t redis_pipeline_waiting(const struct redis_pipeline *pipeline);
bool redis_pipeline_is_idle(const struct redis_pipeline *pipeline);
