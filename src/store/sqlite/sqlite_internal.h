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

#include "base/list.h"
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

struct sqlite_store {
    struct app_store base;
    const char *path;
    const struct app_defaults *defaults;
    atomic_bool prepared; /* by this process: a file that is gone was there */
};

struct sqlite_connection {
    struct store_connection base;
    struct sqlite_store *store;
    sqlite3 *database; /* NULL: there is no file yet, and prepare makes it */
    uint32_t columns;  /* bits: fields that have a column; 0: not looked yet */
    bool has_created_at, has_updated_at;
    sqlite3_stmt *statements[STATEMENT_COUNT];
};

static inline struct sqlite_store *sqlite_store_of(struct app_store *base) {
    return container_of(base, struct sqlite_store, base);
}

static inline struct sqlite_connection *sqlite_connection_of(struct store_connection *base) {
    return container_of(base, struct sqlite_connection, base);
}

/* --- sqlite.c --- */

/* What SQLite answered last, as an error with the setting; a write that the disk does not take is refused. */
enum store_answer sqlite_failed(struct sqlite_connection *connection, struct error *error);
enum store_answer sqlite_write_failed(struct sqlite_connection *connection, struct error *error);
bool sqlite_run_text(struct sqlite_connection *connection, const char *sql);
/* Which columns the table has: none if there is no table. */
bool sqlite_look_at_columns(struct sqlite_connection *connection);

/* --- sqlite_migrate.c --- */

/* Makes the table, or adds the columns that it lacks. Where that is not allowed the table stays as it is, and the log
 * has what somebody else should run. */
enum store_answer sqlite_migrate(struct sqlite_connection *connection, struct error *error);
