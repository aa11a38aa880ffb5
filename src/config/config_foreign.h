/*
 * Configuration files of servers whose settings have other names.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "config/report.h"

/* True after reporting an error that says how to convert the file, if it is soketi's. */
bool config_report_foreign(const json_t *root, const char *file, struct config_report *report);
