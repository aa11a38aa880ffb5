/*
 * The fields of an app that the environment can give: their variables, and their values from text.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/slice.h"

/* True if a field has the name; such a field is a text (not a number, a boolean or a list). */
bool config_app_field_known(struct slice name);
bool config_app_field_is_text(struct slice name);

/* True if the environment variable sets a field of the app in the environment. */
bool config_app_field_reads(struct slice variable);

/* The field's value from text; NULL if the text is not valid for it. */
json_t *config_app_field_value(struct slice name, const char *text);
