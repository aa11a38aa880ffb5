/*
 * soketi 1.x: a JSON file with dotted names, overridden by variables `SOKETI_...` whose values are JSON if they can be.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/slice.h"
#include "convert/conversion.h"

/*
 * Fills the tree from the file (an empty slice: none) and the variables (NULL: none), and converts it. Errors are in
 * the conversion's messages; false if the file is not a JSON object.
 */
bool soketi_convert(struct conversion *conversion, struct slice file, const json_t *variables, struct error *error);

/* The apps in `list`; an app without a key gets soketi's. */
void soketi_convert_apps(struct conversion *conversion, struct source *list);

/* The app that soketi has if the configuration names none, as changed by SOKETI_DEFAULT_APP_... */
void soketi_convert_default_app(struct conversion *conversion);

/* The path below `appManager.array.apps.0` that the variable sets; NULL if it is not one of the app. */
const char *soketi_app_path(struct slice variable);
