/*
 * SQLite's pauses, bounded by the deadline of the operation under way.
 *
 * SQLite waits for most locks through a connection's busy handler, but for those of the shared memory in WAL mode by
 * itself: a hundred attempts, up to 10 s in all. What it sleeps with is its VFS: here the system's one, with pauses
 * that end with deadline. Attempts without a pause between them are over at once.
 */
#pragma once

#include "base/deadline.h"

/* The name of the VFS, for sqlite3_open_v2. Any thread. */
const char *sqlite_sleep_vfs(void);

/* What this thread does with SQLite from now on sleeps within `deadline`, which is copied. */
void sqlite_sleep_within(const struct deadline *deadline);
