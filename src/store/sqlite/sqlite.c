#include <stdlib.h>

#include "app/record_json.h"
#include "base/alloc.h"
#include "base/buffer.h"
#include "store/drivers.h"
#include "store/name_conflict.h"
#include "store/row.h"
#include "store/sqlite/sqlite_file.h"
#include "store/sqlite/sqlite_internal.h"
#include "store/sqlite/sqlite_sleep.h"

static struct app_store *sqlite_open(const struct config *config, const struct app_defaults *defaults,
                                     struct error *error) {
    struct sqlite_store *store;

    if (config->database.sqlite.path == NULL || config->database.sqlite.path[0] == '\0') {
        error_set(error, "database.sqlite.path is empty: it names the file that holds the apps");
        return NULL;
    }
    if (!sqlite_folder_exists(config->database.sqlite.path, error))
        return NULL;
    store = alloc_zero(sizeof *store);
    store->path = config->database.sqlite.path;
    store->defaults = defaults;
    return &store->base;
}

static void sqlite_close(struct app_store *base) {
    free(sqlite_store_of(base));
}

static struct store_connection *sqlite_connect(struct app_store *base, const struct deadline *deadline,
                                               struct error *error) {
    struct sqlite_connection *connection = sqlite_open_connection(sqlite_store_of(base), deadline, error);

    return connection != NULL ? &connection->base : NULL;
}

static void sqlite_disconnect(struct store_connection *base) {
    sqlite_close_connection(sqlite_connection_of(base));
}

/* --- statements --- */

static void append_find_statement(struct buffer *sql, uint32_t columns, const char *condition) {
    buffer_appendf(sql, "SELECT ");
    row_append_columns(sql, columns, '"', "");
    buffer_appendf(sql, " FROM applications WHERE %s", condition);
}

static void append_sqlite_statement(struct buffer *sql, enum sqlite_statement which,
                                    const struct sqlite_connection *connection) {
    static const char *const fixed[STATEMENT_COUNT] = {
        [STATEMENT_REMOVE] = "DELETE FROM applications WHERE id = ?",
        [STATEMENT_FIND_ID] = "SELECT id FROM applications WHERE id = ?",
        [STATEMENT_FIND_KEY_OWNER] = "SELECT id FROM applications WHERE \"key\" = ? AND id <> ?",
        [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
        [STATEMENT_COMMIT] = "COMMIT",
        [STATEMENT_ROLLBACK] = "ROLLBACK",
    };
    uint32_t columns = connection->columns;

    switch (which) {
    case STATEMENT_FIND_BY_ID:
        append_find_statement(sql, columns, "id = ?");
        break;
    case STATEMENT_FIND_BY_KEY:
        append_find_statement(sql, columns,
                              connection->has_created_at ? "\"key\" = ? ORDER BY created_at, id LIMIT 2"
                                                         : "\"key\" = ? ORDER BY id LIMIT 2");
        break;
    case STATEMENT_LIST:
        append_find_statement(sql, columns, "id > ? ORDER BY id LIMIT ?");
        break;
    case STATEMENT_CREATE:
        buffer_appendf(sql, "INSERT INTO applications (");
        row_append_columns(sql, columns, '"', "");
        buffer_appendf(sql, ", created_at, updated_at) VALUES (");
        for_each_field(i, columns)
            buffer_appendf(sql, "?, ");
        buffer_appendf(sql, "CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)");
        break;
    case STATEMENT_UPDATE:
        buffer_appendf(sql, "UPDATE applications SET ");
        row_append_columns(sql, columns, '"', " = ?");
        buffer_appendf(sql, ", updated_at = CURRENT_TIMESTAMP WHERE id = ?");
        break;
    default:
        buffer_appendf(sql, "%s", fixed[which]);
    }
}

/* The prepared statement; NULL if it cannot be prepared. */
static sqlite3_stmt *prepared_statement(struct sqlite_connection *connection, enum sqlite_statement which) {
    struct buffer sql = {0};

    if (connection->statements[which] == NULL) {
        append_sqlite_statement(&sql, which, connection);
        sqlite3_prepare_v3(connection->database, sql.data, (int)sql.length, SQLITE_PREPARE_PERSISTENT,
                           &connection->statements[which], NULL);
        buffer_dispose(&sql);
    }
    return connection->statements[which];
}

static void bind_slice(sqlite3_stmt *statement, int at, struct slice text) {
    sqlite3_bind_text(statement, at, text.length != 0 ? text.data : "", (int)text.length, SQLITE_TRANSIENT);
}

static void bind_app_field(sqlite3_stmt *statement, int at, const struct app *app, enum app_field field) {
    struct row_value value;

    row_value_init(&value, app, field);
    switch (value.kind) {
    case ROW_NULL:
        sqlite3_bind_null(statement, at);
        break;
    case ROW_TEXT:
        bind_slice(statement, at, value.text);
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

/* Binds every field that has a column; returns the number of the parameter after them. */
static int bind_app(sqlite3_stmt *statement, uint32_t columns, const struct app *app) {
    int at = 1;

    for_each_field(i, columns)
        bind_app_field(statement, at++, app, (enum app_field)i);
    return at;
}

/* Makes one step. After the last row the statement is ready for its next use. */
static int step_statement(sqlite3_stmt *statement) {
    int code = sqlite3_step(statement);

    if (code != SQLITE_ROW)
        sqlite3_reset(statement);
    return code;
}

static json_t *read_sqlite_row(sqlite3_stmt *statement, uint32_t columns) {
    json_t *record = json_object();
    int at = 0;

    for_each_field(i, columns) {
        if (sqlite3_column_type(statement, at) != SQLITE_NULL)
            row_set_text(record, (enum app_field)i, sqlite_column_slice(statement, at));
        at++;
    }
    return record;
}

/* --- preparing --- */

/* False if this user may not write the file, which can still be read. SQLite does not call the busy handler for this
 * statement, since two connections that change the mode at once could block each other for ever. */
static bool use_wal(struct sqlite_connection *connection) {
    while (!sqlite_run_text(connection, "PRAGMA journal_mode = WAL"))
        if ((sqlite3_errcode(connection->database) & 0xff) != SQLITE_BUSY ||
            !deadline_sleep(&connection->base.deadline, SQLITE_RETRY_MS))
            return false;
    return true;
}

static enum store_answer sqlite_prepare(struct store_connection *base, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer;

    sqlite_sleep_within(&base->deadline);
    if (connection->database == NULL && !sqlite_create_file(connection)) {
        sqlite_failed(connection, error);
        return STORE_UNAVAILABLE;
    }
    if (!use_wal(connection) && sqlite_failed(connection, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    answer = sqlite_migrate(connection, error);
    connection->columns = 0;
    if (answer != STORE_UNAVAILABLE)
        answer = sqlite_begin_operation(connection, error);
    if (answer == STORE_OK && !atomic_exchange(&connection->store->prepared, true))
        sqlite_warn_of_file(connection->store->path);
    return answer;
}

static enum store_answer sqlite_inspect(struct store_connection *base, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = sqlite_begin_operation(connection, error);

    if (answer != STORE_OK &&
        (connection->database == NULL || (sqlite_read_columns(connection) && connection->columns == 0)))
        return STORE_NOT_FOUND;
    return answer;
}

/* --- reading --- */

static enum store_answer find_sqlite_app(struct sqlite_connection *connection, enum sqlite_statement which,
                                         struct slice name, struct app **app, struct error *error) {
    enum store_answer answer = sqlite_begin_operation(connection, error);
    sqlite3_stmt *statement;
    json_t *record, *second;
    int code;

    if (answer != STORE_OK)
        return answer;
    statement = prepared_statement(connection, which);
    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_slice(statement, 1, name);
    code = step_statement(statement);
    if (code == SQLITE_DONE)
        return STORE_NOT_FOUND;
    if (code != SQLITE_ROW)
        return sqlite_failed(connection, error);
    record = read_sqlite_row(statement, connection->columns);
    if (step_statement(statement) == SQLITE_ROW) { /* a table without a unique index */
        second = read_sqlite_row(statement, connection->columns);
        conflict_log_shared_key(record_member(record, "id"), record_member(second, "id"));
        json_decref(second);
        sqlite3_reset(statement);
    }
    return row_to_app(record, connection->store->defaults, app, error);
}

static enum store_answer sqlite_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                           struct error *error) {
    return find_sqlite_app(sqlite_connection_of(base), STATEMENT_FIND_BY_ID, id, app, error);
}

static enum store_answer sqlite_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                            struct error *error) {
    return find_sqlite_app(sqlite_connection_of(base), STATEMENT_FIND_BY_KEY, key, app, error);
}

static enum store_answer sqlite_list(struct store_connection *base, struct slice after, size_t limit,
                                     store_list_function *each, void *context, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = sqlite_begin_operation(connection, error);
    sqlite3_stmt *statement;
    int code;

    if (answer != STORE_OK)
        return answer;
    statement = prepared_statement(connection, STATEMENT_LIST);
    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_slice(statement, 1, after);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)limit);
    while ((code = step_statement(statement)) == SQLITE_ROW)
        row_to_list(read_sqlite_row(statement, connection->columns), connection->store->defaults, each, context);
    return code == SQLITE_DONE ? STORE_OK : sqlite_failed(connection, error);
}

/* --- names that are taken --- */

/* Runs a statement that finds one id. STORE_OK with the id in `found` (may be NULL), or STORE_NOT_FOUND. */
static enum store_answer find_sqlite_id(struct sqlite_connection *connection, enum sqlite_statement which,
                                        struct slice name, struct slice except, struct buffer *found,
                                        struct error *error) {
    sqlite3_stmt *statement = prepared_statement(connection, which);
    int code;

    if (statement == NULL)
        return sqlite_failed(connection, error);
    bind_slice(statement, 1, name);
    if (which == STATEMENT_FIND_KEY_OWNER)
        bind_slice(statement, 2, except);
    code = step_statement(statement);
    if (code != SQLITE_ROW)
        return code == SQLITE_DONE ? STORE_NOT_FOUND : sqlite_failed(connection, error);
    if (found != NULL)
        buffer_append(found, sqlite_column_slice(statement, 0));
    sqlite3_reset(statement);
    return STORE_OK;
}

static enum store_answer sqlite_id_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                         struct error *error) {
    return find_sqlite_id(sqlite_connection_of(base), STATEMENT_FIND_ID, app->id, SLICE(""), owner, error);
}

static enum store_answer sqlite_key_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                          struct error *error) {
    return find_sqlite_id(sqlite_connection_of(base), STATEMENT_FIND_KEY_OWNER, app->key, app->id, owner, error);
}

static const struct conflict_lookups sqlite_lookups = {sqlite_id_owner, sqlite_key_owner};

static enum store_answer sqlite_check_health(struct store_connection *base, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = sqlite_begin_operation(connection, error);

    if (answer == STORE_OK)
        answer = find_sqlite_id(connection, STATEMENT_FIND_ID, SLICE(""), SLICE(""), NULL, error);
    return answer == STORE_NOT_FOUND ? STORE_OK : answer;
}

/* --- writing: every write first looks for conflicts, inside one transaction --- */

static enum store_answer run_sqlite_statement(struct sqlite_connection *connection, enum sqlite_statement which,
                                              struct error *error) {
    sqlite3_stmt *statement = prepared_statement(connection, which);

    if (statement != NULL && step_statement(statement) == SQLITE_DONE)
        return STORE_OK;
    return sqlite_write_failed(connection, error);
}

static enum store_answer put_sqlite_row(struct sqlite_connection *connection, enum sqlite_statement which,
                                        const struct app *app, struct error *error) {
    enum store_answer answer = which == STATEMENT_CREATE
                                   ? conflict_check_create(&connection->base, &sqlite_lookups, app, error)
                                   : conflict_check_update(&connection->base, &sqlite_lookups, app, error);
    sqlite3_stmt *statement;
    int at;

    if (answer == STORE_OK && row_needs_policy(connection->columns, app))
        answer = sqlite_add_policy(connection, error);
    if (answer == STORE_OK)
        answer = sqlite_check_room(connection, app, error);
    if (answer != STORE_OK)
        return answer;
    statement = prepared_statement(connection, which);
    if (statement == NULL)
        return sqlite_write_failed(connection, error);
    at = bind_app(statement, connection->columns, app);
    if (which == STATEMENT_UPDATE)
        bind_slice(statement, at, app->id);
    return run_sqlite_statement(connection, which, error);
}

static enum store_answer delete_sqlite_row(struct sqlite_connection *connection, struct slice id, struct error *error) {
    sqlite3_stmt *statement = prepared_statement(connection, STATEMENT_REMOVE);
    enum store_answer answer;

    if (statement == NULL)
        return sqlite_write_failed(connection, error);
    bind_slice(statement, 1, id);
    answer = run_sqlite_statement(connection, STATEMENT_REMOVE, error);
    if (answer == STORE_OK && sqlite3_changes(connection->database) == 0)
        return conflict_no_such_app(id, error);
    return answer;
}

/* Makes one write in a transaction: puts `app`, or without one deletes the row `id`. */
static enum store_answer write_sqlite_row(struct store_connection *base, enum sqlite_statement which,
                                          const struct app *app, struct slice id, struct error *error) {
    struct sqlite_connection *connection = sqlite_connection_of(base);
    enum store_answer answer = sqlite_begin_operation(connection, error);
    struct error ignored;

    if (answer == STORE_OK)
        answer = run_sqlite_statement(connection, STATEMENT_BEGIN, error);
    if (answer != STORE_OK)
        return answer;
    answer = app != NULL ? put_sqlite_row(connection, which, app, error) : delete_sqlite_row(connection, id, error);
    if (answer == STORE_OK)
        answer = run_sqlite_statement(connection, STATEMENT_COMMIT, error);
    if (answer != STORE_OK && sqlite3_get_autocommit(connection->database) == 0)
        run_sqlite_statement(connection, STATEMENT_ROLLBACK, &ignored);
    return answer;
}

static enum store_answer sqlite_create(struct store_connection *base, const struct app *app, struct error *error) {
    return write_sqlite_row(base, STATEMENT_CREATE, app, app->id, error);
}

static enum store_answer sqlite_update(struct store_connection *base, const struct app *app, struct error *error) {
    return write_sqlite_row(base, STATEMENT_UPDATE, app, app->id, error);
}

static enum store_answer sqlite_remove(struct store_connection *base, struct slice id, struct error *error) {
    return write_sqlite_row(base, STATEMENT_REMOVE, NULL, id, error);
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
