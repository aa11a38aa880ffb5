/*
 * Declarations shared by the files of the SQLite driver. The driver keeps apps in a file on this machine, for one node
 * that must survive a restart.
 *
 * Each connection is a handle of its own on the file, in WAL mode, so that readers and the writer do not wait for each
 * other. Waits, for another process's lock for instance, end with the deadline of the connection.
 *
 *   sqlite.c             finding and writing apps
 *   sqlite_watch.c       changes that others make
 *   sqlite_migrate.c     the table
 *   sqlite_connection.c  opening and closing, errors, what the table's columns are
 *   sqlite_file.c        the folder, the owner and the mode of the file
 *   sqlite_sleep.c       the pauses that SQLite makes by itself
 */
#pragma once

#include <sqlite3.h>
#include <stdatomic.h>

#include "base/list.h"
#include "store/store.h"

#define SQLITE_RETRY_MS 5 /* between two attempts to get a lock */

enum sqlite_statement {
    STATEMENT_FIND_BY_ID,
    STATEMENT_FIND_BY_KEY,
    STATEMENT_LIST,
    STATEMENT_CREATE,
    STATEMENT_UPDATE,
    STATEMENT_REMOVE,
    STATEMENT_FIND_ID,
    STATEMENT_FIND_KEY_OWNER,
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_ROLLBACK,
    STATEMENT_SCHEMA_VERSION,
    STATEMENT_COUNT,
};

struct sqlite_store {
    struct app_store base;
    const char *path;
    const struct app_defaults *defaults;
    atomic_bool prepared; /* by this process, so a missing file is an error from now on */
};

struct sqlite_connection {
    struct store_connection base;
    struct sqlite_store *store;
    sqlite3 *database; /* NULL: there is no file yet; prepare makes it */
    uint32_t columns;  /* bits: fields that have a column; 0: not read yet */
    /* SQLite's count of changes of the schema, by any process, when the columns were read. */
    int64_t schema_version;
    bool has_created_at, has_updated_at;
    sqlite3_stmt *statements[STATEMENT_COUNT]; /* prepared at their first use */
};

static inline struct sqlite_store *sqlite_store_of(struct app_store *base) {
    return container_of(base, struct sqlite_store, base);
}

static inline struct sqlite_connection *sqlite_connection_of(struct store_connection *base) {
    return container_of(base, struct sqlite_connection, base);
}

/* --- sqlite_connection.c --- */

/* A connection, without a database if there is no file and this process has not prepared one. NULL with an error. */
struct sqlite_connection *sqlite_open_connection(struct sqlite_store *store, const struct deadline *deadline,
                                                 struct error *error);
void sqlite_close_connection(struct sqlite_connection *connection);

/* Opens the file and creates it if it is missing. False: sqlite_failed says why. */
bool sqlite_create_file(struct sqlite_connection *connection);

/* Runs a statement without parameters and rows. False: sqlite_failed says why. */
bool sqlite_run_text(struct sqlite_connection *connection, const char *sql);

/* Sets the error to SQLite's last one, with the name of the setting. */
enum store_answer sqlite_failed(struct sqlite_connection *connection, struct error *error);
/* The same for a write: STORE_REFUSED if the disk does not take it, since the connection is as good as before. */
enum store_answer sqlite_write_failed(struct sqlite_connection *connection, struct error *error);

/* Reads which columns the table has; none if there is no table. Drops the statements that name columns. False:
 * sqlite_failed says why. */
bool sqlite_read_columns(struct sqlite_connection *connection);

/* Begins an operation: STORE_OK if the file is still the one that was opened, and the table can be used. */
enum store_answer sqlite_begin_operation(struct sqlite_connection *connection, struct error *error);

/* The text in a column of the current row; empty for NULL. Valid until the next step. */
struct slice sqlite_column_slice(sqlite3_stmt *statement, int at);

/* --- sqlite_migrate.c --- */

/* Creates the table, or adds the columns that it lacks. Where this user may not, the table stays as it is, and the log
 * says which statements another user should run. */
enum store_answer sqlite_migrate(struct sqlite_connection *connection, struct error *error);

/* Adds the column `policy` in the transaction in progress. STORE_REFUSED if this user may not. */
enum store_answer sqlite_add_policy(struct sqlite_connection *connection, struct error *error);

/* STORE_OK if the columns can keep the app, otherwise STORE_REFUSED with the statements that add what is missing. */
enum store_answer sqlite_check_room(const struct sqlite_connection *connection, const struct app *app,
                                    struct error *error);

/* --- sqlite_watch.c --- */

/* For struct app_store_driver. */
void sqlite_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd, const struct store_watcher *watcher);
