/*
 * Unknown keys of the file: a warning for each, with the key that was probably meant.
 */
#pragma once

#include <jansson.h>

#include "base/slice.h"
#include "config/report.h"

/* Checks the object of the file, whose name is `file` in the texts. */
void config_report_unknown(const json_t *root, const char *file, struct config_report *report);

/* What to say of a name that people look for in the file or among the options, and that is set elsewhere; NULL: none
 * such. */
const char *config_hint(struct slice path);
