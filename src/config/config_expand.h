/*
 * Environment variables in the strings of the configuration file: ${NAME} and ${NAME:-default}.
 */
#pragma once

#include <jansson.h>

#include "config/report.h"

/*
 * Replaces the variables in all strings of the object, in place; names of members stay. A string that held one becomes
 * what its setting or its field of an app takes, as in the environment: a number, a boolean, a list of texts between
 * commas; an empty one is unset. `$${` stands for `${`. Reports errors: one that lists all variables that are unset or
 * empty and have no default, never their values; `file` is the file's name in them.
 */
void config_expand(json_t *root, const char *file, struct config_report *report);
