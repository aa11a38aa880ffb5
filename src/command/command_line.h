/*
 * The command line: `curlew serve`, `check`, `apps`, `listen`, `publish`, `version`. Each command is one row of a
 * table.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cli/command_text.h"

/* Runs the words behind the name of the program, which end with NULL. Returns the exit code. Main thread. */
int command_line_run(char **words);

/* The texts of the command with this number; false if there are fewer commands. */
bool command_line_text(size_t index, struct command_text *text);

/* The texts of a command of that command, such as `list` of `apps`; false if it has fewer. */
bool command_line_subcommand_text(size_t index, size_t subcommand, struct command_text *text);
