/*
 * Secrets that everyone knows, because they are in the examples of servers of this kind.
 */
#pragma once

#include "config/config.h"

/* Warns of each app of the configuration with such a secret, by its id. */
void config_report_known_secrets(const struct config *config, struct config_report *report);
