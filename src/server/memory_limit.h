/*
 * The limit of memory that clients may make the server hold: `memory.limit_mb`, or a share of what there is; and the
 * line of the log that says that there is no room.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/budget.h"
#include "config/config.h"

#define MEMORY_REFUSALS_MS 10000
#define MEMORY_REFUSALS_TEXT 640

/* Sets the limit of base/budget.h and logs it. On the main thread, before the workers start. */
void memory_limit_apply(const struct config *config);

/* What the log has been told of refusals. Zeroed memory: nothing. */
struct memory_refusals {
    uint64_t told[BUDGET_KIND_COUNT];
    uint64_t next_ms; /* not before */
};

/* Call it once a second. True if something was refused since the last line, which was at least ten seconds ago: `text`
 * then says how often, and of which kinds. */
bool memory_refusals_due(struct memory_refusals *refusals, uint64_t now_ms, char text[MEMORY_REFUSALS_TEXT]);
