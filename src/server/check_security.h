/*
 * What `curlew check` says of settings with which a server starts, but that are dangerous in production.
 */
#pragma once

#include "config/config.h"

/* Warns at a start in production mode of each file with secrets that every user of the machine can read. The file of
 * SQLite and that of the secrets' keys are looked at when they are opened. */
void check_files_at_start(const struct config *config);

/* Reports each dangerous setting of a configuration in production mode, with what to do about it. */
void check_security(const struct config *config, struct config_report *report);
