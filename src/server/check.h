/*
 * `curlew check`: validates a configuration as a start would, without starting the server.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/* What a start and a check say of the driver `memory` without apps. */
extern const char check_no_app_warning[];

/*
 * Loads the configuration (`file` as for config_load), reads its certificate, opens its store without a request, parses
 * its apps and writes the findings to `out`; with `verbose` also the settings that are accepted without effect. Returns
 * the exit code: 0; 2 if the server would not start; 1 if it would start, but not serve all of its apps, or with
 * `strict` if there is a warning.
 */
int check_configuration(const char *file, bool verbose, bool strict, FILE *out);
