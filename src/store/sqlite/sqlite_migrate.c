#include "base/buffer.h"
#include "base/log.h"
#include "store/row.h"
#include "store/sqlite/sqlite_internal.h"

static const char *sqlite_column_type(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
    case APP_TYPE_TIME:
        return "INTEGER";
    case APP_TYPE_FLAG:
        return "BOOLEAN";
    default:
        return "TEXT";
    }
}

static void append_sqlite_table(struct buffer *sql) {
    buffer_appendf(sql, "CREATE TABLE applications (");
    for_each_field(i, row_layout_fields) {
        buffer_appendf(sql, "\"%s\" %s%s", app_fields[i].name, sqlite_column_type((enum app_field)i),
                       i == APP_ID              ? " PRIMARY KEY NOT NULL"
                       : i == APP_KEY           ? " UNIQUE NOT NULL"
                       : app_fields[i].optional ? ""
                                                : " NOT NULL");
        if ((row_default_fields >> i & 1) != 0)
            buffer_appendf(sql, " DEFAULT %u", app_fields[i].fallback);
        buffer_appendf(sql, ", ");
    }
    buffer_appendf(sql,
                   "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)");
}

/* Runs a statement that changes the table. If this user may not, logs the statement for a user who may. */
static enum store_answer change_sqlite_table(struct sqlite_connection *connection, const char *sql,
                                             struct error *error) {
    enum store_answer answer;

    if (sqlite_run_text(connection, sql)) {
        log_info("app", "sqlite: %s: %s", connection->store->path, sql);
        return STORE_OK;
    }
    answer = sqlite_write_failed(connection, error);
    if (answer == STORE_REFUSED)
        log_warning("app", "%s; an administrator should run: %s", error->text, sql);
    return answer;
}

static void append_sqlite_addition(struct buffer *sql, enum app_field field) {
    buffer_appendf(sql, "ALTER TABLE applications ADD COLUMN \"%s\" %s", app_fields[field].name,
                   sqlite_column_type(field));
}

static enum store_answer add_sqlite_column(struct sqlite_connection *connection, enum app_field field,
                                           struct error *error) {
    struct buffer sql = {0};
    enum store_answer answer;

    append_sqlite_addition(&sql, field);
    answer = change_sqlite_table(connection, buffer_string(&sql), error);
    buffer_dispose(&sql);
    return answer;
}

enum store_answer sqlite_check_room(const struct sqlite_connection *connection, const struct app *app,
                                    struct error *error) {
    struct buffer sql = {0};

    if (row_keeps(connection->columns, app, error))
        return STORE_OK;
    for_each_field(i, row_missing(connection->columns, app)) {
        buffer_append_string(&sql, sql.length != 0 ? "; " : "");
        append_sqlite_addition(&sql, (enum app_field)i);
    }
    return row_refuse_without(error, &sql);
}

/* Adds the columns that are missing. */
static enum store_answer add_sqlite_columns(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;

    for_each_field(i, row_layout_fields & ~connection->columns) {
        if (answer == STORE_UNAVAILABLE)
            break;
        answer = add_sqlite_column(connection, (enum app_field)i, error);
    }
    return answer;
}

enum store_answer sqlite_add_policy(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = add_sqlite_column(connection, APP_POLICY, error);

    if (answer == STORE_OK && !sqlite_read_columns(connection))
        return sqlite_failed(connection, error);
    return answer;
}

static enum store_answer add_sqlite_times(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;

    if (!connection->has_created_at)
        answer = change_sqlite_table(connection, "ALTER TABLE applications ADD COLUMN created_at TIMESTAMP", error);
    if (answer == STORE_OK && !connection->has_updated_at)
        answer = change_sqlite_table(connection, "ALTER TABLE applications ADD COLUMN updated_at TIMESTAMP", error);
    return answer;
}

/* Another connection may have changed the table before this one got the lock, so the columns are read again. */
static enum store_answer update_sqlite_table(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    if (!sqlite_read_columns(connection))
        return sqlite_failed(connection, error);
    if (connection->columns == 0) {
        append_sqlite_table(&sql);
        answer = change_sqlite_table(connection, buffer_string(&sql), error);
        buffer_dispose(&sql);
        return answer;
    }
    answer = add_sqlite_columns(connection, error);
    return answer == STORE_OK ? add_sqlite_times(connection, error) : answer;
}

static bool has_all_columns(const struct sqlite_connection *connection) {
    return (row_layout_fields & ~connection->columns) == 0 && connection->has_created_at && connection->has_updated_at;
}

enum store_answer sqlite_migrate(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer;
    bool locked;

    if (!sqlite_read_columns(connection))
        return sqlite_failed(connection, error);
    if (has_all_columns(connection))
        return STORE_OK;
    /* The write lock keeps others from reading and changing the table meanwhile. A user without the right to it goes on
     * without, and only logs the statements that are missing. */
    locked = sqlite_run_text(connection, "BEGIN IMMEDIATE");
    if (!locked && sqlite_failed(connection, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    answer = update_sqlite_table(connection, error);
    if (locked && !sqlite_run_text(connection, answer == STORE_UNAVAILABLE ? "ROLLBACK" : "COMMIT"))
        return sqlite_write_failed(connection, error);
    return answer;
}
