/*
 * What has to be looked at once a second, on worker 0: how much memory is in use, and what cache channels have kept for
 * too long.
 */
#pragma once

#include "base/timer.h"
#include "net/worker.h"
#include "session/session.h"

struct housekeeping {
    struct timer timer;
    struct worker *worker;
    struct session_server *sessions;
};

/* Before the workers run. `sessions` outlives it. */
void housekeeping_start(struct housekeeping *housekeeping, struct worker *worker, struct session_server *sessions);

/* On the worker. */
void housekeeping_stop(struct housekeeping *housekeeping);
