/*
 * The SQLite driver: apps in a file on this machine, for one node that must survive a restart.
 *
 * Each connection is a handle of its own on the file, in WAL mode, so that readers and the writer do not wait for each
 * other. What waits, for another process's lock for instance, ends with the operation's deadline.
 *
 *   sqlite.c          connections, finding and writing apps, changes by others
 *   sqlite_migrate.c  the table
 *   sqlite_sleep.c    how SQLite itself waits
 */
#pragma once

#include <sqlite3.h>
#include <stdatomic.h>

#include "store/store.h"

enum statement {
    FIND_BY_ID,
    FIND_BY_KEY,
    LIST,
    CREATE,
    UPDATE,
    REMOVE,
    ID_EXISTS,
    KEY_OWNER,
    BEGIN,
    COMMIT,
    ROLLBACK,
    STATEMENT_COUNT,
};

struct app_store {
    const char *path;
    const struct app_defaults *defaults;
    atomic_bool prepared; /* by this process: a file that is gone was there */
};

struct store_connection {
    struct app_store *store;
    sqlite3 *database;               /* NULL: there is no file yet, and prepare makes it */
    const struct deadline *deadline; /* of the operation under way */
    uint32_t columns;                /* bits: fields that have a column; 0: not looked yet */
    bool has_created_at, has_updated_at;
    sqlite3_stmt *statements[STATEMENT_COUNT];
};

/* --- sqlite.c --- */

/* What SQLite answered last, as an error with the setting; a write that the disk does not take is refused. */
enum store_answer sqlite_failed(struct store_connection *connection, struct error *error);
enum store_answer sqlite_write_failed(struct store_connection *connection, struct error *error);
bool sqlite_run_text(struct store_connection *connection, const char *sql);
/* Which columns the table has: none if there is no table. */
bool sqlite_look_at_columns(struct store_connection *connection);

/* --- sqlite_migrate.c --- */

/* Makes the table, or adds the columns that it lacks. Where that is not allowed the table stays as it is, and the log
 * has what somebody else should run. */
enum store_answer sqlite_migrate(struct store_connection *connection, struct error *error);
