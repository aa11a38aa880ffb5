/*
 * `curlew listen` and `curlew publish`: a client and a publisher on the command line, to try a server out and to look
 * into its channels.
 */
#pragma once

/* Each runs `curlew COMMAND ARGUMENTS...` on the main thread and returns the exit code, an enum cli_exit. */
int listen_run(char **arguments);
int publish_run(char **arguments);

/* What they say about themselves. */
extern const char listen_usage[], publish_usage[];
