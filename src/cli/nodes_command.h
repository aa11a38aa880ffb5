/*
 * `curlew nodes`: the nodes that a running server knows, as its admin API lists them.
 */
#pragma once

/* Runs `curlew nodes ARGUMENTS...` on the main thread and returns the exit code, an enum cli_exit. */
int nodes_command_run(char **arguments);

extern const char nodes_usage[];
