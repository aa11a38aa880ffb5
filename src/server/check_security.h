/*
 * What `curlew check` says of settings with which a server starts, but that are dangerous in production.
 */
#pragma once

#include "config/config.h"

/* Reports each dangerous setting of a configuration in production mode, with what to do about it. */
void check_security(const struct config *config, struct config_report *report);
