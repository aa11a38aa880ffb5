#include "base/buffer.h"
#include "base/log.h"
#include "store/sqlite/sqlite_internal.h"

static const char *column_type(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        return "INTEGER";
    case APP_TYPE_FLAG:
        return "BOOLEAN";
    default:
        return "TEXT";
    }
}

static void append_create_table(struct buffer *sql) {
    buffer_appendf(sql, "CREATE TABLE applications (");
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        buffer_appendf(sql, "\"%s\" %s%s, ", app_fields[i].name, column_type((enum app_field)i),
                       i == APP_ID              ? " PRIMARY KEY NOT NULL"
                       : i == APP_KEY           ? " UNIQUE NOT NULL"
                       : app_fields[i].optional ? ""
                                                : " NOT NULL");
    buffer_appendf(sql,
                   "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)");
}

/* Runs a statement that changes the table; where it is not allowed to, says what somebody else should run. */
static enum store_answer change(struct sqlite_connection *connection, const char *sql, struct error *error) {
    enum store_answer answer;

    if (sqlite_run_text(connection, sql)) {
        log_info("app", "sqlite: %s: %.100s", connection->store->path, sql);
        return STORE_OK;
    }
    answer = sqlite_write_failed(connection, error);
    if (answer == STORE_REFUSED)
        log_warning("app", "%s; to be run by somebody who may: %s", error->text, sql);
    return answer;
}

/* So that every field has its column. */
static enum store_answer add_columns(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    for (unsigned i = 0; i < APP_FIELD_COUNT && answer != STORE_UNAVAILABLE; i++) {
        if ((connection->columns >> i & 1) != 0)
            continue;
        sql.length = 0;
        buffer_appendf(&sql, "ALTER TABLE applications ADD COLUMN \"%s\" %s", app_fields[i].name,
                       column_type((enum app_field)i));
        buffer_append_byte(&sql, '\0');
        answer = change(connection, sql.data, error);
    }
    buffer_dispose(&sql);
    return answer;
}

static enum store_answer add_times(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;

    if (!connection->has_created_at)
        answer = change(connection, "ALTER TABLE applications ADD COLUMN created_at TIMESTAMP", error);
    if (answer == STORE_OK && !connection->has_updated_at)
        answer = change(connection, "ALTER TABLE applications ADD COLUMN updated_at TIMESTAMP", error);
    return answer;
}

static enum store_answer bring_up_to_date(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    if (!sqlite_look_at_columns(connection))
        return sqlite_failed(connection, error);
    if (connection->columns == 0) {
        append_create_table(&sql);
        buffer_append_byte(&sql, '\0');
        answer = change(connection, sql.data, error);
        buffer_dispose(&sql);
        return answer;
    }
    answer = add_columns(connection, error);
    return answer == STORE_OK ? add_times(connection, error) : answer;
}

static bool is_current(const struct sqlite_connection *connection) {
    return connection->columns == (1u << APP_FIELD_COUNT) - 1 && connection->has_created_at &&
           connection->has_updated_at;
}

enum store_answer sqlite_migrate(struct sqlite_connection *connection, struct error *error) {
    enum store_answer answer;
    bool locked;

    if (!sqlite_look_at_columns(connection))
        return sqlite_failed(connection, error);
    if (is_current(connection))
        return STORE_OK;
    /* Under the write lock nobody else looks and changes at the same time; without the right to it, only look. */
    locked = sqlite_run_text(connection, "BEGIN IMMEDIATE");
    if (!locked && sqlite_failed(connection, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    answer = bring_up_to_date(connection, error);
    if (locked && !sqlite_run_text(connection, answer == STORE_UNAVAILABLE ? "ROLLBACK" : "COMMIT"))
        return sqlite_write_failed(connection, error);
    return answer;
}
