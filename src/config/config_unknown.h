/*
 * Keys of the file that the table does not have: a warning for each, with the key that was likely meant.
 */
#pragma once

#include <jansson.h>

#include "config/report.h"

/* Walks the file's object. `file` is its name in the texts. */
void config_report_unknown(const json_t *root, const char *file, struct config_report *report);
