/*
 * `curlew convert`: writes the configuration of another server as one of Curlew to standard output, and says on
 * standard error what was dropped or changed and why.
 */
#pragma once

/* Runs the command with the arguments after `convert`, which end with NULL. Returns the exit code. */
int convert_run(char **arguments);

/* What the command says about itself. */
extern const char convert_usage[];
