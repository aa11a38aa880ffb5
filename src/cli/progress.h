/*
 * The progress of a command that handles many apps, on standard error: on a terminal one line, redrawn a few times a
 * second at most, elsewhere a line for each 100 apps. Nothing with --json.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli_store.h"

struct progress {
    bool json, terminal;
    size_t total; /* 0: not known */
    uint64_t began_ns, drawn_ns;
    bool drawn; /* a line is on the terminal */
};

struct progress progress_begin(bool json);

/* Counts the apps of the store that is going to be read, if somebody watches on a terminal: reading takes little of the
 * time of most commands. The total stays unknown if that fails, or after Ctrl-C. */
void progress_count(struct progress *progress, struct cli_store *store);

/* Shows that `count` apps are done. On a terminal with the rate, and the time left if the total is known. */
void progress_show(struct progress *progress, size_t count);

/* Clears the line on the terminal, before other output or at the end. */
void progress_clear(struct progress *progress);
