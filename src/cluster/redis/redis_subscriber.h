/*
 * A connection to Redis that subscribes.
 *
 *   add ---> pending ---> SUBSCRIBE, in a pipeline ---> confirmed: `in_force`
 *
 * Subjects outlive the connection: after `up` all of them are subscribed to anew, in the order in which they were
 * added, a window at a time, so that neither the loop nor Redis's output limits are strained by 100,000 of them. On the
 * cluster's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cluster/bus.h"
#include "cluster/redis/redis_connection.h"
#include "cluster/redis/redis_subjects.h"

/* What its owner is told; after `lost` it may be opened again, also at once. */
struct redis_subscriber_events {
    void (*up)(void *context);
    void (*lost)(void *context, const char *why);
    /* The subject is valid during the call. */
    void (*in_force)(void *context, struct slice subject);
    /* The receiver owns the message. */
    void (*message)(void *context, struct bus_message *message);
    /* An error, a confirmation that nobody asked for, or anything else. True: it is dealt with; else the connection is
     * lost. May be NULL. With REDIS_SHARDED also what comes late about a slot that has moved: a refusal. */
    bool (*other)(void *context, const struct redis_value *value);
    /* The server answered with an error to a command about this subject. True: it is dealt with, perhaps by
     * redis_subscriber_drop; else the connection is lost. For REDIS_SHARDED only; NULL with REDIS_PLAIN. */
    bool (*refused)(void *context, struct slice subject, const struct redis_value *value);
    void *context;
};

enum redis_subscriber_kind {
    REDIS_PLAIN,   /* SUBSCRIBE */
    REDIS_SHARDED, /* SSUBSCRIBE, one subject in a command */
};

struct redis_subscriber {
    struct loop *loop;
    struct redis_subscriber_events events;
    enum redis_subscriber_kind kind;
    struct redis_connection *connection; /* NULL: closed */
    uint32_t epoch;                      /* counts connections */
    bool held; /* set by the owner: only the subject that was added first is subscribed to; with REDIS_SHARDED none */
    struct redis_subjects subjects;
    struct list pending, settled; /* all subjects: those with something to send, in order, and the others */
    size_t unanswered;            /* commands to a subject without confirmation */
    /* With REDIS_SHARDED: these commands, in their order, in a ring. */
    struct redis_asked {
        struct redis_subject *subject;
        bool subscribes;
    } * asked;
    size_t asked_at;
};

/* A subscriber that is closed, without subjects. Dispose of it in the end. */
void redis_subscriber_init(struct redis_subscriber *subscriber, struct loop *loop, enum redis_subscriber_kind kind,
                           const struct redis_subscriber_events *events);
void redis_subscriber_dispose(struct redis_subscriber *subscriber);

/* Opens the connection, which is closed; `up` or `lost` follows. Close it without `lost`; subjects stay. */
void redis_subscriber_open(struct redis_subscriber *subscriber, const struct redis_place *place,
                           const struct redis_access *access, uint64_t timeout_ms);
void redis_subscriber_close(struct redis_subscriber *subscriber);

bool redis_subscriber_is_up(const struct redis_subscriber *subscriber);

/* Begin and end a subscription, also while it is closed. */
void redis_subscriber_add(struct redis_subscriber *subscriber, struct slice subject);
void redis_subscriber_end(struct redis_subscriber *subscriber, struct slice subject);

/* Forgets a subject that the server has dropped, or never took: nothing is sent. */
void redis_subscriber_drop(struct redis_subscriber *subscriber, struct slice subject);

/* Sends what is due, and writes it. At the end of each turn in which something was added or ended; the rest follows by
 * itself as Redis confirms. */
void redis_subscriber_flush(struct redis_subscriber *subscriber);
