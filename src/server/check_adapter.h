/*
 * Checks that the program has the adapter that the configuration asks for, and can use its settings. Main thread.
 */
#pragma once

#include <stdbool.h>

#include "config/config.h"

/* False with an error that names the adapters there are, if it has not. */
bool check_adapter(const struct config *config, struct config_report *report);

/* Lets the drivers of the adapter and of the cache check their settings, without a connection. False with an error. */
bool check_adapter_drivers(const struct config *config, struct config_report *report);
