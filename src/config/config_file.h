/*
 * The configuration file: which one is read, and its bytes as a tree. TOML and JSON give the same tree.
 */
#pragma once

#include <jansson.h>

#include "config/config_loader.h"

/*
 * Reads `file`; NULL stands for config/config.toml, else config/config.json. A name that ends in .toml is TOML, any
 * other JSON. Sets the file in the loader and its configuration. Returns the root object, which the caller owns, or
 * NULL if there is no file, or after reporting an error.
 */
json_t *config_file_read(struct config_loader *loader, const char *file);
