/*
 * `curlew upgrade`: tells a running server to upgrade itself (SIGUSR2), and waits until the new process serves.
 *
 * How it goes is read from the name of the server's process (handover/process_name.h).
 */
#pragma once

/* Runs `curlew upgrade ARGUMENTS...` on the main thread and returns the exit code. */
int upgrade_run(char **arguments);

extern const char upgrade_usage[];
