/*
 * The program that an upgrade starts: the file at the path with which this process was started, which may be another
 * file by then. (/proc/self/exe would be the old one, or none.)
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

/* Remembers the program and its arguments. Finds a program without a slash in PATH now, since PATH and the working
 * directory may change. First of all in main(). */
void handover_program_remember(int count, char **arguments);

/*
 * Starts the program with the same arguments and environment, and one more variable of the environment ("NAME=value").
 * Of the descriptors it gets only the standard ones. Returns the new process and sets `*pidfd`; -1 with an error.
 */
pid_t handover_program_start(const char *variable, int *pidfd, struct error *error);

/* True if a process that was started has ended. */
bool handover_program_has_ended(int pidfd);

/* True if a process that was started ends now, within two seconds, and not with the exit code 0; writes into `how` as
 * below. It remains to be waited for: a service manager does that when this process has ended. Blocks. */
bool handover_program_has_failed(int pidfd, char *how, size_t size);

/* Ends a process that was started, with SIGTERM, and two seconds later with SIGKILL. Writes how it has ended into
 * `how`: "has exited with code 1". Leaves `pidfd` open. Blocks. */
void handover_program_end(int pidfd, char *how, size_t size);
