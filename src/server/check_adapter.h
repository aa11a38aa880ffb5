/*
 * Checks that the program has the adapter that the configuration asks for. Main thread.
 */
#pragma once

#include <stdbool.h>

#include "config/config.h"

/* False with an error that names the adapters there are, if it has not. */
bool check_adapter(const struct config *config, struct config_report *report);
