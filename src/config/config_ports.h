/*
 * The ports that one process listens on.
 */
#pragma once

#include "config/config.h"

/* Reports an error for each two listeners of the configuration that are to have the same address and port. */
void config_check_ports(const struct config *config, struct config_report *report);
