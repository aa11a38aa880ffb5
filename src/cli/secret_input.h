/*
 * A secret from standard input (`--secret -`), which keeps it out of the list of processes.
 */
#pragma once

#include "base/error.h"

/* Reads the first line of standard input. NULL with an error if there is none. The caller clears and frees it. */
char *secret_input_read(struct error *error);
