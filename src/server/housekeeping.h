/*
 * Periodic work, once a second on worker 0: check the memory in use and the limit on open files, log that there is no
 * room for clients, drop expired events of cache channels and expired idempotency keys, rotate the keys of TLS session
 * tickets.
 */
#pragma once

#include "api/idempotency.h"
#include "base/timer.h"
#include "net/tls_tickets.h"
#include "net/worker.h"
#include "server/memory_limit.h"
#include "session/session.h"

struct housekeeping {
    struct timer timer;
    struct worker *worker;
    struct session_server *sessions;
    struct idempotency *idempotency;
    struct tls_tickets *tickets;
    struct memory_refusals refusals;
};

/* Starts the timer, before the workers run. The parts outlive it. */
void housekeeping_start(struct housekeeping *housekeeping, struct worker *worker, struct session_server *sessions,
                        struct idempotency *idempotency, struct tls_tickets *tickets);

/* Stops the timer. On the worker. */
void housekeeping_stop(struct housekeeping *housekeeping);
