/*
 * The setting that an unknown option of the command line probably means: settings are in the file and the environment.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"

/*
 * Finds the setting that `option` names, without its leading hyphens: `port`, `metrics-port` and `metrics.port` are
 * settings. Sets `*path` to its key and `*variable` to its first environment variable, which is empty if it has none.
 */
bool config_option_find(struct slice option, struct slice *path, struct slice *variable);

/* The setting at the top of the file that was probably meant by a misspelt option; empty if none is near. */
struct slice config_option_meant(struct slice option);
