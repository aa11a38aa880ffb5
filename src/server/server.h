/*
 * The process: builds the server out of its parts, runs it until it is told to stop, and takes it apart again.
 */
#pragma once

/*
 * Serves until SIGTERM or SIGINT. `config_file` as for config_load. Returns the exit code: 0 after an orderly end, 2
 * when the configuration can never work, 1 when the system does not give what is needed (a port, threads). On the main
 * thread of a process that has no other threads yet.
 */
int server_run(const char *config_file);
