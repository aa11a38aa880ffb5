#include "store/sqlite/sqlite_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/log.h"
#include "store/name_conflict.h"
#include "store/row.h"
#include "store/sqlite/sqlite_sleep.h"

#define RETRY_MS 5           /* how often a lock is tried again */
#define STEPS_PER_LOOK 10000 /* of SQLite's virtual machine between two looks at the clock */
#define WATCH_INTERVAL_MS 1000
#define REOPEN_FIRST_MS 100
#define REOPEN_LAST_MS 10000

static struct app_store *sqlite_open(const struct config *config, const struct app_defaults *defaults,
                                     struct error *error) {
    struct sqlite_store *store;

    if (config->database.sqlite.path == NULL || config->database.sqlite.path[0] == '\0') {
        error_set(error, "database.sqlite.path is empty: it names the file that holds the apps");
        return NULL;
    }
    store = alloc_zero(sizeof *store);
    store->path = config->database.sqlite.path;
    store->defaults = defaults;
    return &store->base;
}

static void sqlite_close(struct app_store *base) {
    struct sqlite_store *store = sqlite_store_of(base);

    free(store);
}

/* --- what went wrong --- */

/* SQLite makes files beside this one, even for who only reads it. */
static bool is_for_want_of_folder(int code) {
    return (code & 0xff) == SQLITE_CANTOPEN || code == SQLITE_READONLY_DIRECTORY || code == SQLITE_READONLY_CANTINIT;
}

enum store_answer sqlite_failed(struct sqlite_connection *connection, struct error *error) {
    int code = sqlite3_extended_errcode(connection->database);

    error_set(error, "database.sqlite.path %s: %s%s", connection->store->path, sqlite3_errmsg(connection->database),
              is_for_want_of_folder(code) ? "; its folder has to exist, and this user to be able to write there" : "");
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
    case SQLITE_PROTOCOL: /* it tried the locks of the shared memory until deadline ended */
        error_set(error, "database.sqlite.path %s is locked by another process", connection->store->path);
        return STORE_UNAVAILABLE;
    case SQLITE_INTERRUPT:
        error_set(error, "database.sqlite.path %s: no answer in time", connection->store->path);
        return STORE_UNAVAILABLE;
    default:
        return STORE_UNAVAILABLE;
    }
}

/* A write that the disk does not take is refused; the connection is as good as before. */
enum store_answer sqlite_write_failed(struct sqlite_connection *connection, struct error *error) {
    bool disk = (sqlite3_errcode(connection->database) & 0xff) == SQLITE_IOERR;
    enum store_answer answer = sqlite_failed(connection, error);

    return disk ? STORE_REFUSED : answer;
}

static int on_busy(void *context, int times) {
    struct sqlite_connection *connection = context;

    (void)times;
    return deadline_sleep(&connection->base.deadline, RETRY_MS);
}

static int on_progress(void *context) {
    struct sqlite_connection *connection = context;

    return deadline_passed(&connection->base.deadline);
}

/* --- connections --- */

static void close_connection(struct sqlite_connection *connection) {
    for (unsigned i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(connection->statements[i]);
    sqlite3_close(connection->database);
    free(connection);
}

static void sqlite_disconnect(struct store_connection *base) {
    close_connection(sqlite_connection_of(base));
}

bool sqlite_run_text(struct sqlite_connection *connection, const char *sql) {
    return sqlite3_exec(connection->database, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static bool open_file(struct sqlite_connection *connection, int more_flags) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | more_flags;

    if (sqlite3_open_v2(connection->store->path, &connection->database, flags, sqlite_sleep_vfs()) != SQLITE_OK)
        return false;
    sqlite3_extended_result_codes(connection->database, 1);
    sqlite3_busy_handler(connection->database, on_busy, connection);
    sqlite3_progress_handler(connection->database, STEPS_PER_LOOK, on_progress, connection);
    return true;
}

static struct sqlite_connection *open_connection(struct sqlite_store *store, const struct deadline *deadline,
                                                 struct error *error) {
    struct sqlite_connection *connection = alloc_zero(sizeof *connection);

    store_connection_init(&connection->base, &store->base, deadline);
    connection->store = store;
    sqlite_sleep_within(deadline);
    if (!atomic_load(&store->prepared) && access(store->path, F_OK) != 0 && errno == ENOENT)
        return connection;
    if (open_file(connection, 0) && sqlite_run_text(connection, "SELECT 1 FROM sqlite_master"))
        return connection;
    sqlite_failed(connection, error);
    close_connection(connection);
    return NULL;
}

static struct store_connection *sqlite_connect(struct app_store *base, const struct deadline *deadline,
                                               struct error *error) {
    struct sqlite_connection *connection = open_connection(sqlite_store_of(base), deadline, error);

    return connection != NULL ? &connection->base : NULL;
}

/* --- statements --- */

static void append_find(struct buffer *sql, uint32_t columns, const char *condition) {
    buffer_appendf(sql, "SELECT ");
    row_append_columns(sql, columns, '"', "");
    buffer_appendf(sql, " FROM applications WHERE %s", condition);
}

static void append_statement(struct buffer *sql, enum statement statement, uint32_t columns, bool has_created_at) {
    static const char *const fixed[STATEMENT_COUNT] = {
        [REMOVE] = "DELETE FROM applications WHERE id = ?",
        [ID_EXISTS] = "SELECT id FROM applications WHERE id = ?",
        [KEY_OWNER] = "SELECT id FROM applications WHERE \"key\" = ? AND id <> ?",
        [BEGIN] = "BEGIN IMMEDIATE",
        [COMMIT] = "COMMIT",
        [ROLLBACK] = "ROLLBACK",
    };

    switch (statement) {
    case FIND_BY_ID:
        append_find(sql, columns, "id = ?");
        break;
    case FIND_BY_KEY:
        append_find(sql, columns,
                    has_created_at ? "\"key\" = ? ORDER BY created_at, id LIMIT 2" : "\"key\" = ? ORDER BY id LIMIT 2");
        break;
    case LIST:
        append_find(sql, columns, "id > ? ORDER BY id LIMIT ?");
        break;
    case CREATE:
        buffer_appendf(sql, "INSERT INTO applications (");
        row_append_columns(sql, columns, '"', "");
        buffer_appendf(sql, ", created_at, updated_at) VALUES (");
        for (unsigned i = 0; i < (unsigned)__builtin_popcount(columns); i++)
            buffer_appendf(sql, "?, ");
        buffer_appendf(sql, "CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)");
        break;
    case UPDATE:
        buffer_appendf(sql, "UPDATE applications SET ");
        row_append_columns(sql, columns, '"', " = ?");
        buffer_appendf(sql, ", updated_at = CURRENT_TIMESTAMP WHERE id = ?");
        break;
    default:
        buffer_appendf(sql, "%s", fixed[statement]);
    }
}

static sqlite3_stmt *statement_of(struct sqlite_connection *connection, enum statement statement) {
    struct buffer sql = {0};

    if (connection->statements[statement] == NULL) {
        append_statement(&sql, statement, connection->columns, connection->has_created_at);
        sqlite3_prepare_v3(connection->database, sql.data, (int)sql.length, SQLITE_PREPARE_PERSISTENT,
                           &connection->statements[statement], NULL);
        buffer_dispose(&sql);
    }
    return connection->statements[statement];
}

static void bind_text(sqlite3_stmt *statement, int at, struct slice text) {
    sqlite3_bind_text(statement, at, text.length != 0 ? text.data : "", (int)text.length, SQLITE_TRANSIENT);
}

static void bind_field(sqlite3_stmt *statement, int at, const struct app *app, enum app_field field) {
    struct row_value value;

    row_value_init(&value, app, field);
    switch (value.kind) {
    case ROW_NULL:
        sqlite3_bind_null(statement, at);
        break;
    case ROW_TEXT:
        bind_text(statement, at, value.text);
        break;
    case ROW_NUMBER:
        sqlite3_bind_int64(statement, at, value.number);
        break;
    case ROW_FLAG:
        sqlite3_bind_int(statement, at, value.flag);
        break;
    }
    row_value_dispose(&value);
}

static int bind_app(sqlite3_stmt *statement, uint32_t columns, const struct app *app) {
    int at = 1;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if ((columns >> i & 1) != 0)
            bind_field(statement, at++, app, (enum app_field)i);
    return at;
}

/* One step; the statement is ready for the next use when it was the last. */
static int step(sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);

    if (code != SQLITE_ROW)
        sqlite3_reset(statement);
    return code;
}

static struct slice column_text(sqlite3_stmt *statement, int at) {
    const char *text = (const char *)sqlite3_column_text(statement, at);

    return text != NULL ? (struct slice){text, (size_t)sqlite3_column_bytes(statement, at)} : SLICE("");
}

static json_t *read_row(sqlite3_stmt *statement, uint32_t columns) {
    json_t *record = json_object();
    int at = 0;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if ((columns >> i & 1) == 0)
            continue;
        if (sqlite3_column_type(statement, at) != SQLITE_NULL)
            row_set_text(record, (enum app_field)i, column_text(statement, at));
        at++;
    }
    return record;
}

/* --- the table --- */

bool sqlite_look_at_columns(struct sqlite_connection *connection) {
    sqlite3_stmt *statement;
    enum app_field field;

    connection->columns = 0;
    connection->has_created_at = connection->has_updated_at = false;
    if (sqlite3_prepare_v2(connection->database, "SELECT name FROM pragma_table_info('applications')", -1, &statement,
                           NULL) != SQLITE_OK)
        return false;
    while (sqlite3_step(statement) == SQLITE_ROW) {
        struct slice name = column_text(statement, 0);
        if (app_field_from_name(name, &field))
            connection->columns |= 1u << field;
        connection->has_created_at |= slice_equal_ignoring_case(name, SLICE("created_at"));
        connection->has_updated_at |= slice_equal_ignoring_case(name, SLICE("updated_at"));
    }
    return sqlite3_finalize(statement) == SQLITE_OK;
}

/* Before each operation: the file is still the one that was opened, and its columns are known. */
static enum store_answer begin_operation(struct sqlite_connection *connection, struct error *error) {
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
    if (connection->columns == 0 && !sqlite_look_at_columns(connection))
        return sqlite_failed(connection, error);
    if ((connection->columns & row_required_fields) != row_required_fields) {
        error_set(error, "database.sqlite.path %s has no table `applications` with the columns id, key and secret",
                  path);
        return STORE_UNAVAILABLE;
    }
    return STORE_OK;
}

/* False for a file that may not be written: it stays as it is, and can still be read. Of several who do this at once
 * SQLite lets none wait for another, lest they wait for each other. */
static bool use_wal(struct sqlite_connection *connection) {
    while (!sqlite_run_text(connection, "PRAGMA journal_mode = WAL"))
        if ((sqlite3_errcode(connection->database) & 0xff) != SQLITE_BUSY ||
            !deadline_sleep(&connection->base.deadline, RETRY_MS))
            return false;
    return true;
}

static enum store_answer sqlite_prepare(struct store_connection *base, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer;

    sqlite_sleep_within(&connection->base.deadline);
    if (connection->database == NULL && !open_file(connection, SQLITE_OPEN_CREATE)) {
        sqlite_failed(connection, error);
        return STORE_UNAVAILABLE;
    }
    if (!use_wal(connection) && sqlite_failed(connection, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    answer = sqlite_migrate(connection, error);
    connection->columns = 0;
    if (answer != STORE_UNAVAILABLE)
        answer = begin_operation(connection, error);
    if (answer == STORE_OK)
        atomic_store(&connection->store->prepared, true);
    return answer;
}

static enum store_answer sqlite_inspect(struct store_connection *base, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = begin_operation(connection, error);

    if (answer != STORE_OK &&
        (connection->database == NULL || (sqlite_look_at_columns(connection) && connection->columns == 0)))
        return STORE_NOT_FOUND;
    return answer;
}

/* --- reading --- */

static enum store_answer two_with_one_key(struct sqlite_connection *connection, json_t *first,
                                          sqlite3_stmt *statement) {
    json_t *second = read_row(statement, connection->columns);

    log_error("app", "apps %s and %s have the same key; the first one counts",
              json_string_value(json_object_get(first, "id")), json_string_value(json_object_get(second, "id")));
    json_decref(second);
    sqlite3_reset(statement);
    return STORE_OK;
}

static enum store_answer find(struct sqlite_connection *connection, enum statement which, struct slice name,
                              struct app **app, struct error *error) {
    enum store_answer answer = begin_operation(connection, error);
    sqlite3_stmt *statement;
    json_t *record;
    int code;

    if (answer != STORE_OK)
        return answer;
    statement = statement_of(connection, which);
    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_text(statement, 1, name);
    code = step(statement);
    if (code == SQLITE_DONE)
        return STORE_NOT_FOUND;
    if (code != SQLITE_ROW)
        return sqlite_failed(connection, error);
    record = read_row(statement, connection->columns);
    if (step(statement) == SQLITE_ROW) /* a table without a unique index */
        two_with_one_key(connection, record, statement);
    return row_to_app(record, connection->store->defaults, app, error);
}

static enum store_answer sqlite_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                           struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    return find(connection, FIND_BY_ID, id, app, error);
}

static enum store_answer sqlite_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                            struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    return find(connection, FIND_BY_KEY, key, app, error);
}

static enum store_answer sqlite_list(struct store_connection *base, struct slice after, size_t limit,
                                     store_list_function *each, void *context, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = begin_operation(connection, error);
    sqlite3_stmt *statement;
    int code;

    if (answer != STORE_OK)
        return answer;
    statement = statement_of(connection, LIST);
    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_text(statement, 1, after);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)limit);
    while ((code = step(statement)) == SQLITE_ROW)
        row_to_list(read_row(statement, connection->columns), connection->store->defaults, each, context);
    return code == SQLITE_DONE ? STORE_OK : sqlite_failed(connection, error);
}

static enum store_answer sqlite_check_health(struct store_connection *base, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = begin_operation(connection, error);
    sqlite3_stmt *statement;
    int code;

    if (answer != STORE_OK)
        return answer;
    statement = statement_of(connection, ID_EXISTS);
    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_text(statement, 1, SLICE(""));
    code = step(statement);
    if (code == SQLITE_ROW)
        sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? STORE_OK : sqlite_failed(connection, error);
}

/* --- writing: every write looks first, inside one transaction --- */

static enum store_answer run_statement(struct sqlite_connection *connection, enum statement which,
                                       struct error *error) {
    sqlite3_stmt *statement = statement_of(connection, which);

    if (statement != NULL && step(statement) == SQLITE_DONE)
        return STORE_OK;
    return sqlite_write_failed(connection, error);
}

/* STORE_OK if there is a row, and copies its id; STORE_NOT_FOUND if there is none. */
static enum store_answer look_for(struct sqlite_connection *connection, enum statement which, struct slice name,
                                  struct slice other, char id[256], struct error *error) {
    sqlite3_stmt *statement = statement_of(connection, which);
    int code;

    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_text(statement, 1, name);
    if (which == KEY_OWNER)
        bind_text(statement, 2, other);
    code = step(statement);
    if (code != SQLITE_ROW)
        return code == SQLITE_DONE ? STORE_NOT_FOUND : sqlite_failed(connection, error);
    snprintf(id, 256, "%.*s", SLICE_ARGS(column_text(statement, 0)));
    sqlite3_reset(statement);
    return STORE_OK;
}

static enum store_answer check_names(struct sqlite_connection *connection, enum statement which, const struct app *app,
                                     struct error *error) {
    char id[256];
    enum store_answer answer = look_for(connection, ID_EXISTS, app->id, SLICE(""), id, error);

    if (which == CREATE && answer == STORE_OK)
        return conflict_id_taken(app->id, error);
    if (which == UPDATE && answer == STORE_NOT_FOUND)
        return conflict_no_such_app(app->id, error);
    if (answer != (which == CREATE ? STORE_NOT_FOUND : STORE_OK))
        return answer;
    answer = look_for(connection, KEY_OWNER, app->key, app->id, id, error);
    if (answer == STORE_OK)
        return conflict_key_taken(slice_of(id), error);
    return answer == STORE_NOT_FOUND ? STORE_OK : answer;
}

static enum store_answer put(struct sqlite_connection *connection, enum statement which, const struct app *app,
                             struct error *error) {
    enum store_answer answer = check_names(connection, which, app, error);
    sqlite3_stmt *statement;
    int at;

    if (answer != STORE_OK)
        return answer;
    if (!row_keeps(connection->columns, app, error))
        return STORE_REFUSED;
    statement = statement_of(connection, which);
    if (statement == NULL)
        return sqlite_write_failed(connection, error);
    at = bind_app(statement, connection->columns, app);
    if (which == UPDATE)
        bind_text(statement, at, app->id);
    return run_statement(connection, which, error);
}

static enum store_answer delete_row(struct sqlite_connection *connection, struct slice id, struct error *error) {
    sqlite3_stmt *statement = statement_of(connection, REMOVE);
    enum store_answer answer;

    if (statement == NULL)
        return sqlite_write_failed(connection, error);
    bind_text(statement, 1, id);
    answer = run_statement(connection, REMOVE, error);
    if (answer == STORE_OK && sqlite3_changes(connection->database) == 0)
        return conflict_no_such_app(id, error);
    return answer;
}

/* One write in a transaction: `app` is put, or without one the row `id` deleted. */
static enum store_answer write_row(struct sqlite_connection *connection, enum statement which, const struct app *app,
                                   struct slice id, struct error *error) {
    enum store_answer answer = begin_operation(connection, error);
    struct error ignored;

    if (answer == STORE_OK)
        answer = run_statement(connection, BEGIN, error);
    if (answer != STORE_OK)
        return answer;
    answer = app != NULL ? put(connection, which, app, error) : delete_row(connection, id, error);
    if (answer == STORE_OK)
        answer = run_statement(connection, COMMIT, error);
    if (answer != STORE_OK && sqlite3_get_autocommit(connection->database) == 0)
        run_statement(connection, ROLLBACK, &ignored);
    return answer;
}

static enum store_answer sqlite_create(struct store_connection *base, const struct app *app, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    return write_row(connection, CREATE, app, app->id, error);
}

static enum store_answer sqlite_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    return write_row(connection, UPDATE, app, app->id, error);
}

static enum store_answer sqlite_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    return write_row(connection, REMOVE, NULL, id, error);
}

/* --- changes that other connections and processes make --- */

/* PRAGMA data_version: another number when somebody else has changed the file. -1 when it cannot be read. */
static int64_t data_version(struct sqlite_connection *connection) {
    sqlite3_stmt *statement;
    struct error ignored;
    int64_t version = -1;

    if (begin_operation(connection, &ignored) != STORE_OK ||
        sqlite3_prepare_v2(connection->database, "PRAGMA data_version", -1, &statement, NULL) != SQLITE_OK)
        return -1;
    if (sqlite3_step(statement) == SQLITE_ROW)
        version = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return version;
}

/* Looks each second until the file cannot be read any more; false when it is time to stop. */
static bool watch_file(struct sqlite_connection *connection, uint32_t timeout_ms, int cancel_fd,
                       const struct store_watcher *watcher) {
    int64_t known = -1;

    for (;;) {
        const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
        const struct deadline pause = deadline_after(WATCH_INTERVAL_MS * 2, cancel_fd);
        int64_t version;

        store_begin(&connection->base, &deadline);
        version = data_version(connection);
        if (version < 0)
            return !deadline_passed(&pause);
        if (version != known)
            watcher->anything_changed(watcher->context);
        known = version;
        if (!deadline_sleep(&pause, WATCH_INTERVAL_MS))
            return false;
    }
}

static void sqlite_watch(struct app_store *base, uint32_t timeout_ms, int cancel_fd,
                         const struct store_watcher *watcher) {
    struct sqlite_store *store = sqlite_store_of(base);
    uint32_t backoff_ms = REOPEN_FIRST_MS;

    for (;;) {
        const struct deadline deadline = deadline_after(timeout_ms, cancel_fd);
        const struct deadline pause = deadline_after(REOPEN_LAST_MS * 2, cancel_fd);
        struct error ignored;
        struct sqlite_connection *connection = open_connection(store, &deadline, &ignored);
        bool go_on = true;

        if (connection != NULL) {
            backoff_ms = REOPEN_FIRST_MS;
            go_on = watch_file(connection, timeout_ms, cancel_fd, watcher);
            close_connection(connection);
        }
        if (!go_on || !deadline_sleep(&pause, backoff_ms))
            return;
        backoff_ms = backoff_ms * 2 < REOPEN_LAST_MS ? backoff_ms * 2 : REOPEN_LAST_MS;
    }
}

const struct app_store_driver sqlite_store_driver = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close,
    .connect = sqlite_connect,
    .disconnect = sqlite_disconnect,
    .prepare = sqlite_prepare,
    .inspect = sqlite_inspect,
    .find_by_id = sqlite_find_by_id,
    .find_by_key = sqlite_find_by_key,
    .list = sqlite_list,
    .create = sqlite_create,
    .update = sqlite_update,
    .remove = sqlite_remove,
    .check_health = sqlite_check_health,
    .watch = sqlite_watch,
};
