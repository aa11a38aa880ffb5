/*
 * The pauses that SQLite makes by itself, bounded by the deadline of the operation in progress.
 *
 * SQLite waits for most locks through a connection's busy handler, but for those of the shared memory in WAL mode by
 * itself: a hundred attempts, up to 10 s in all. It sleeps through its VFS (its interface to the system): here the
 * system's VFS with pauses that end at the deadline. After the deadline the remaining attempts follow without a pause.
 */
#pragma once

#include "base/deadline.h"

/* The name of the VFS, for sqlite3_open_v2. Any thread. */
const char *sqlite_sleep_vfs(void);

/* Bounds the pauses that SQLite makes on this thread from now on. The deadline is copied. */
void sqlite_sleep_within(const struct deadline *deadline);
