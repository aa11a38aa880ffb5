/*
 * `curlew check`: everything that a start would say about a configuration, without starting.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/*
 * Loads the configuration (`file` as for config_load), reads its certificate, opens its store without asking anyone,
 * parses its apps and writes what was found to `out`; with `verbose` also the settings that are accepted but mean
 * nothing here. Returns the exit code: 0, 2 if the server would not start, 1 if it would, without some broken app.
 */
int check_configuration(const char *file, bool verbose, FILE *out);
