#include <mysqld_error.h>
#include <stdlib.h>
#include <string.h>

#include "app/store/mysql.h"
#include "base/log.h"

static struct mysql_parameter text(const char *string) {
    return (struct mysql_parameter){string, strlen(string)};
}

/* --- the columns --- */

static void note_column(struct store_connection *connection, struct slice name) {
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (slice_equal_ignoring_case(slice_of(app_fields[i].name), name))
            connection->columns |= 1u << i;
    if (slice_equal_ignoring_case(SLICE("created_at"), name))
        connection->has_created_at = true;
    if (slice_equal_ignoring_case(SLICE("updated_at"), name))
        connection->has_updated_at = true;
}

static bool read_columns(struct store_connection *connection, const struct patience *patience, struct error *error) {
    const struct mysql_parameter table = text(connection->store->config->table_name);
    struct mysql_rows rows;

    connection->columns = 0;
    connection->has_created_at = connection->has_updated_at = false;
    if (!mysql_store_run(connection,
                         SLICE("SELECT column_name FROM information_schema.columns "
                               "WHERE table_schema = DATABASE() AND table_name = ?"),
                         &table, 1, patience, &rows, error))
        return false;
    while (mysql_rows_next(&rows))
        note_column(connection, buffer_slice(&rows.values[0]));
    mysql_rows_dispose(&rows);
    return true;
}

enum store_answer mysql_store_look(struct store_connection *connection, const struct patience *patience,
                                   struct error *error) {
    if ((connection->columns & row_required_fields) == row_required_fields)
        return STORE_OK;
    if (!read_columns(connection, patience, error))
        return mysql_store_failure(connection);
    if ((connection->columns & row_required_fields) == row_required_fields)
        return STORE_OK;
    error_set(error, "database.mysql.table_name: there is no table %s with the columns id, key and secret",
              connection->store->config->table_name);
    return STORE_UNAVAILABLE;
}

/* --- changes --- */

static const char *column_type(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        return "INT UNSIGNED";
    case APP_TYPE_FLAG:
        return "BOOLEAN";
    case APP_TYPE_JSON:
        return "JSON";
    case APP_TYPE_TEXT:
        break;
    }
    return "VARCHAR(255)";
}

static void append_create_table(struct buffer *sql, const char *table) {
    buffer_appendf(sql, "CREATE TABLE `%s` (", table);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        buffer_appendf(sql, "`%s` %s%s, ", app_fields[i].name, column_type((enum app_field)i),
                       i == APP_ID              ? " PRIMARY KEY"
                       : i == APP_KEY           ? " UNIQUE NOT NULL"
                       : app_fields[i].optional ? " NULL"
                                                : " NOT NULL");
    buffer_appendf(sql,
                   "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP "
                   "ON UPDATE CURRENT_TIMESTAMP) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci");
}

/* Runs what changes the schema. Where it may not, the log says what somebody else should run. */
static enum store_answer change(struct store_connection *connection, struct slice sql, const struct patience *patience,
                                struct error *error) {
    struct mysql_rows rows;
    enum store_answer answer;

    if (mysql_store_run(connection, sql, NULL, 0, patience, &rows, error)) {
        mysql_rows_dispose(&rows);
        log_info("app", "mysql: %.*s", SLICE_ARGS(sql));
        return STORE_OK;
    }
    if (connection->code == ER_DUP_FIELDNAME || connection->code == ER_TABLE_EXISTS_ERROR)
        return STORE_OK; /* somebody was faster */
    answer = mysql_store_failure(connection);
    if (answer == STORE_REFUSED)
        log_warning("app", "%s; to be run by somebody who may: %.*s", error->text, SLICE_ARGS(sql));
    return answer;
}

/* One statement for all that are missing. */
static enum store_answer add_columns(struct store_connection *connection, const struct patience *patience,
                                     struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if ((connection->columns >> i & 1) != 0)
            continue;
        if (sql.length == 0)
            buffer_appendf(&sql, "ALTER TABLE `%s`", connection->store->config->table_name);
        else
            buffer_appendf(&sql, ",");
        buffer_appendf(&sql, " ADD COLUMN `%s` %s NULL", app_fields[i].name, column_type((enum app_field)i));
    }
    if (sql.length != 0)
        answer = change(connection, buffer_slice(&sql), patience, error);
    buffer_dispose(&sql);
    return answer;
}

static enum store_answer bring_up_to_date(struct store_connection *connection, const struct patience *patience,
                                          struct error *error) {
    struct buffer sql = {0};
    enum store_answer answer;

    if (!read_columns(connection, patience, error))
        return mysql_store_failure(connection);
    if (connection->columns != 0)
        return add_columns(connection, patience, error);
    append_create_table(&sql, connection->store->config->table_name);
    answer = change(connection, buffer_slice(&sql), patience, error);
    buffer_dispose(&sql);
    return answer;
}

enum store_answer mysql_store_prepare(struct store_connection *connection, const struct patience *patience,
                                      struct error *error) {
    const struct mysql_parameter names[] = {text(connection->store->config->database),
                                            text(connection->store->config->table_name)};
    enum store_answer answer;
    struct mysql_rows rows;

    /* Servers that start at the same instant do this one after another; the lock goes with the connection, too. */
    if (!mysql_store_run(connection, SLICE("SELECT GET_LOCK(MD5(CONCAT('curlew ', ?, ' ', ?)), 30)"), names, 2,
                         patience, &rows, error))
        return mysql_store_failure(connection);
    mysql_rows_dispose(&rows);
    answer = bring_up_to_date(connection, patience, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    if (!mysql_store_run(connection, SLICE("SELECT RELEASE_LOCK(MD5(CONCAT('curlew ', ?, ' ', ?)))"), names, 2,
                         patience, &rows, error))
        return mysql_store_failure(connection);
    mysql_rows_dispose(&rows);
    connection->columns = 0;
    return mysql_store_look(connection, patience, error);
}
