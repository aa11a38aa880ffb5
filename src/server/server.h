/*
 * The process: builds the server of its parts, runs it until a signal, and takes it apart.
 */
#pragma once

/*
 * Serves until SIGTERM or SIGINT. `config_file` as for config_load. Returns the exit code: 0 after an orderly shutdown;
 * 2 for an error in the configuration; 1 if the system refuses a resource (a port, a thread). On the main thread,
 * before the process has others.
 */
int server_run(const char *config_file);
