#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "store/row.h"
#include "store/sqlite/sqlite_file.h"
#include "store/sqlite/sqlite_internal.h"
#include "store/sqlite/sqlite_sleep.h"

#define STEPS_PER_CHECK 10000 /* steps of SQLite's virtual machine between two checks of the deadline */

/* --- errors --- */

/* SQLite creates files beside the database, even for a connection that only reads. */
static bool is_folder_error(int code) {
    return (code & 0xff) == SQLITE_CANTOPEN || code == SQLITE_READONLY_DIRECTORY || code == SQLITE_READONLY_CANTINIT;
}

enum store_answer sqlite_failed(struct sqlite_connection *connection, struct error *error) {
    int code = sqlite3_extended_errcode(connection->database);

    if ((code & 0xff) == SQLITE_CANTOPEN && sqlite_explain_owner(connection->store->path, error))
        return STORE_UNAVAILABLE;
    error_set(error, "database.sqlite.path %s: %s%s", connection->store->path, sqlite3_errmsg(connection->database),
              is_folder_error(code) ? "; its folder has to exist, and this user to be able to write there" : "");
    switch (code & 0xff) {
    case SQLITE_READONLY:
    case SQLITE_FULL:
    case SQLITE_PERM:
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
        return STORE_REFUSED;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: /* SQLite tried the locks of the shared memory until the deadline */
        error_set(error, "database.sqlite.path %s is locked by another process", connection->store->path);
        return STORE_UNAVAILABLE;
    case SQLITE_INTERRUPT:
        error_set(error, "database.sqlite.path %s: no answer in time", connection->store->path);
        return STORE_UNAVAILABLE;
    default:
        return STORE_UNAVAILABLE;
    }
}

enum store_answer sqlite_write_failed(struct sqlite_connection *connection, struct error *error) {
    bool disk = (sqlite3_errcode(connection->database) & 0xff) == SQLITE_IOERR;
    enum store_answer answer = sqlite_failed(connection, error);

    return disk ? STORE_REFUSED : answer;
}

/* --- opening and closing --- */

static int on_busy(void *context, int times) {
    struct sqlite_connection *connection = context;

    (void)times;
    return deadline_sleep(&connection->base.deadline, SQLITE_RETRY_MS);
}

static int on_progress(void *context) {
    struct sqlite_connection *connection = context;

    return deadline_passed(&connection->base.deadline);
}

static bool open_file(struct sqlite_connection *connection, int more_flags) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | more_flags;

    sqlite_sleep_within(&connection->base.deadline);
    if (sqlite3_open_v2(connection->store->path, &connection->database, flags, sqlite_sleep_vfs()) != SQLITE_OK)
        return false;
    sqlite3_extended_result_codes(connection->database, 1);
    sqlite3_busy_handler(connection->database, on_busy, connection);
    sqlite3_progress_handler(connection->database, STEPS_PER_CHECK, on_progress, connection);
    return true;
}

bool sqlite_create_file(struct sqlite_connection *connection) {
    sqlite_create_private_file(connection->store->path);
    return open_file(connection, SQLITE_OPEN_CREATE);
}

struct sqlite_connection *sqlite_open_connection(struct sqlite_store *store, const struct deadline *deadline,
                                                 struct error *error) {
    struct sqlite_connection *connection = alloc_zero(sizeof *connection);

    store_connection_init(&connection->base, &store->base, deadline);
    connection->store = store;
    if (!atomic_load(&store->prepared) && access(store->path, F_OK) != 0 && errno == ENOENT)
        return connection;
    if (open_file(connection, 0) && sqlite_run_text(connection, "SELECT 1 FROM sqlite_master"))
        return connection;
    sqlite_failed(connection, error);
    sqlite_close_connection(connection);
    return NULL;
}

void sqlite_close_connection(struct sqlite_connection *connection) {
    for (unsigned i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(connection->statements[i]);
    sqlite3_close(connection->database);
    free(connection);
}

bool sqlite_run_text(struct sqlite_connection *connection, const char *sql) {
    return sqlite3_exec(connection->database, sql, NULL, NULL, NULL) == SQLITE_OK;
}

/* --- the columns --- */

struct slice sqlite_column_slice(sqlite3_stmt *statement, int at) {
    const char *text = (const char *)sqlite3_column_text(statement, at);

    return text != NULL ? (struct slice){text, (size_t)sqlite3_column_bytes(statement, at)} : SLICE("");
}

/* -1: it cannot be read. */
static int64_t read_schema_version(struct sqlite_connection *connection) {
    sqlite3_stmt **statement = &connection->statements[STATEMENT_SCHEMA_VERSION];
    int64_t version = -1;

    if (*statement == NULL)
        sqlite3_prepare_v3(connection->database, "PRAGMA schema_version", -1, SQLITE_PREPARE_PERSISTENT, statement,
                           NULL);
    if (*statement != NULL && sqlite3_step(*statement) == SQLITE_ROW)
        version = sqlite3_column_int64(*statement, 0);
    sqlite3_reset(*statement);
    return version;
}

static void drop_sqlite_statements(struct sqlite_connection *connection) {
    for (unsigned i = 0; i < STATEMENT_COUNT; i++) {
        if (i == STATEMENT_SCHEMA_VERSION)
            continue;
        sqlite3_finalize(connection->statements[i]);
        connection->statements[i] = NULL;
    }
}

bool sqlite_read_columns(struct sqlite_connection *connection) {
    sqlite3_stmt *statement;
    enum app_field field;

    drop_sqlite_statements(connection);
    connection->schema_version = read_schema_version(connection);
    connection->columns = 0;
    connection->has_created_at = connection->has_updated_at = false;
    if (sqlite3_prepare_v2(connection->database, "SELECT name FROM pragma_table_info('applications')", -1, &statement,
                           NULL) != SQLITE_OK)
        return false;
    while (sqlite3_step(statement) == SQLITE_ROW) {
        struct slice name = sqlite_column_slice(statement, 0);
        if (app_field_from_name(name, &field))
            connection->columns |= 1u << field;
        connection->has_created_at |= slice_equal_ignoring_case(name, SLICE("created_at"));
        connection->has_updated_at |= slice_equal_ignoring_case(name, SLICE("updated_at"));
    }
    return sqlite3_finalize(statement) == SQLITE_OK;
}

enum store_answer sqlite_begin_operation(struct sqlite_connection *connection, struct error *error) {
    const char *path = connection->store->path;
    int moved = 0;

    sqlite_sleep_within(&connection->base.deadline);
    if (deadline_passed(&connection->base.deadline)) {
        error_set(error, "database.sqlite.path %s: no answer in time", path);
        return STORE_UNAVAILABLE;
    }
    if (connection->database == NULL) {
        error_set(error, "database.sqlite.path %s: there is no such file", path);
        return STORE_UNAVAILABLE;
    }
    if (sqlite3_file_control(connection->database, "main", SQLITE_FCNTL_HAS_MOVED, &moved) != SQLITE_OK || moved) {
        error_set(error, "database.sqlite.path %s was removed or replaced", path);
        return STORE_UNAVAILABLE;
    }
    if ((connection->columns == 0 || read_schema_version(connection) != connection->schema_version) &&
        !sqlite_read_columns(connection))
        return sqlite_failed(connection, error);
    if ((connection->columns & row_required_fields) != row_required_fields) {
        error_set(error, "database.sqlite.path %s has no table `applications` with the columns id, key and secret",
                  path);
        return STORE_UNAVAILABLE;
    }
    return STORE_OK;
}
