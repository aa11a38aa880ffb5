/*
 * A file of apps, {"apps": [...]}, as `curlew apps export` writes it and app_manager.array holds it.
 */
#pragma once

#include <jansson.h>

#include "base/error.h"

/* Reads the list of apps from a file, `-`: standard input. A new reference; NULL with an error that names the file. */
json_t *apps_file_read(const char *file, struct error *error);
