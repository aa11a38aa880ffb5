/*
 * Checks the value of one setting without loading a configuration.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"

/*
 * True if a configuration file may have `value` at the dotted `path`; otherwise an error that says what would be right,
 * and never quotes a text. A path that is no setting is an error, except below a section that is accepted without
 * effect. Any thread.
 */
bool config_setting_check(const char *path, const json_t *value, struct error *error);
