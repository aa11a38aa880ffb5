/*
 * The end of a command's output, and the refusal of a command line: the same for all commands of cli/.
 */
#pragma once

#include "cli/cli_store.h"

/* Reports a command line that is not valid, and names the help of `command`, such as "apps list". */
enum cli_exit output_refuse_usage(const char *command, bool json, const char *text);

/*
 * Writes out what was printed. False with a report if standard output takes no more, as on a full disk. If its reader
 * has gone away, as in `curlew apps list | head -1`, ends the process by SIGPIPE, in silence as other programs do.
 */
bool output_flush(bool json);

/* The same at the end of a command: returns `code`, or a code that says that the output is incomplete. */
enum cli_exit output_finish(bool json, enum cli_exit code);
