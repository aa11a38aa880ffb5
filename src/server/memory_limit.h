/*
 * The limit of memory that clients may make the server hold: `memory.limit_mb`, or a share of what there is.
 */
#pragma once

#include "config/config.h"

/* Sets the limit of base/budget.h and logs it. On the main thread, before the workers start. */
void memory_limit_apply(const struct config *config);
