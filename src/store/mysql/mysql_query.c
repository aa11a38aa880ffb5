#include <errmsg.h>
#include <mysqld_error.h>

#include "store/mysql/mysql_internal.h"
#include "store/response_limit.h"

#define DEADLOCK_PAUSE_MS 5

/* Numbers of MySQL that MariaDB's header does not have. */
#define MYSQL_ER_QUERY_TIMEOUT 3024
#define MYSQL_ER_CLIENT_INTERACTION_TIMEOUT 4031

/* --- failures --- */

/* Whether another connection or a later attempt may succeed after this error. */
static bool is_temporary(unsigned code) {
    switch (code) {
    case ER_CON_COUNT_ERROR:
    case ER_TOO_MANY_USER_CONNECTIONS:
    case ER_USER_LIMIT_REACHED:
    case ER_SERVER_SHUTDOWN:
    case ER_NORMAL_SHUTDOWN:
    case ER_SHUTDOWN_COMPLETE:
    case ER_FORCING_CLOSE:
    case ER_NEW_ABORTING_CONNECTION:
    case ER_CONNECTION_KILLED:
    case ER_QUERY_INTERRUPTED:
    case ER_STATEMENT_TIMEOUT:
    case MYSQL_ER_QUERY_TIMEOUT:
    case MYSQL_ER_CLIENT_INTERACTION_TIMEOUT:
    case ER_LOCK_WAIT_TIMEOUT:
    case ER_LOCK_DEADLOCK:
    case ER_NET_READ_ERROR:
    case ER_NET_READ_INTERRUPTED:
    case ER_NET_ERROR_ON_WRITE:
    case ER_NET_WRITE_INTERRUPTED:
    case ER_NET_PACKETS_OUT_OF_ORDER:
    case ER_OUT_OF_RESOURCES:
    case ER_OUTOFMEMORY:
    /* The table has changed since this connection read its columns. */
    case ER_NO_SUCH_TABLE:
    case ER_BAD_FIELD_ERROR:
    case ER_BAD_DB_ERROR:
    case ER_NO_DB_ERROR:
    /* A proxy has moved this connection to another server, which does not know its statements. */
    case ER_UNKNOWN_STMT_HANDLER:
    case ER_NEED_REPREPARE:
        return true;
    default:
        return code >= CR_MIN_ERROR && code <= CR_MAX_ERROR; /* the library's own errors */
    }
}

static enum store_answer mysql_failure(struct mysql_connection *connection, unsigned code, const char *text,
                                       struct error *error) {
    const struct config_sql *config = connection->store->config;

    connection->code = code;
    if (connection->gave_up)
        text = mysql_driver_why(connection);
    error_set(error, "MySQL at %s:%u: %s", config->host, config->port, text);
    return connection->gave_up || is_temporary(code) ? STORE_UNAVAILABLE : STORE_REFUSED;
}

static enum store_answer statement_failed(struct mysql_connection *connection, MYSQL_STMT *statement,
                                          struct error *error) {
    return mysql_failure(connection, mysql_stmt_errno(statement), mysql_stmt_error(statement), error);
}

/* --- statements --- */

static void append_mysql_select(struct buffer *sql, const struct mysql_connection *connection, const char *clause) {
    buffer_appendf(sql, "SELECT ");
    row_append_columns(sql, connection->columns.present, '`', "");
    buffer_appendf(sql, " FROM `%s` WHERE %s", connection->store->config->table_name, clause);
}

static void append_mysql_insert(struct buffer *sql, const struct mysql_connection *connection) {
    const struct mysql_columns *columns = &connection->columns;

    buffer_appendf(sql, "INSERT INTO `%s` (", connection->store->config->table_name);
    row_append_columns(sql, columns->present, '`', "");
    buffer_appendf(sql, "%s%s) VALUES (?", columns->created_at ? ", created_at" : "",
                   columns->updated_at ? ", updated_at" : "");
    for (int i = 1; i < __builtin_popcount(columns->present); i++)
        buffer_appendf(sql, ", ?");
    buffer_appendf(sql, "%s%s)", columns->created_at ? ", CURRENT_TIMESTAMP" : "",
                   columns->updated_at ? ", CURRENT_TIMESTAMP" : "");
}

/* `=` can use the index; CAST then rejects rows that only the column's collation takes for equal. Statements that find
 * apps compare with `=` only, and their callers compare the bytes. */
#define SAME_ID "`id` = ? AND CAST(`id` AS BINARY) = ?"

static void append_mysql_statement(struct buffer *sql, const struct mysql_connection *connection,
                                   enum mysql_statement which) {
    const char *table = connection->store->config->table_name;

    switch (which) {
    case MYSQL_READ_COLUMNS:
        buffer_appendf(sql,
                       "SELECT column_name, is_nullable, data_type, column_default, character_maximum_length, "
                       "collation_name FROM information_schema.columns "
                       "WHERE table_schema = DATABASE() AND table_name = ?");
        break;
    case MYSQL_FIND_BY_ID:
        append_mysql_select(sql, connection, "`id` = ?");
        break;
    case MYSQL_FIND_BY_KEY: /* the oldest first, then the smallest id */
        append_mysql_select(sql, connection, "`key` = ? ORDER BY ");
        if (connection->columns.created_at)
            buffer_appendf(sql, "created_at IS NULL, created_at, ");
        buffer_appendf(sql, "CAST(`id` AS BINARY)");
        break;
    case MYSQL_LIST:
        append_mysql_select(sql, connection, "`id` > ? ORDER BY `id` LIMIT ?");
        break;
    case MYSQL_CREATE:
        append_mysql_insert(sql, connection);
        break;
    case MYSQL_UPDATE:
        buffer_appendf(sql, "UPDATE `%s` SET ", table);
        row_append_columns(sql, connection->columns.present, '`', " = ?");
        buffer_appendf(sql, "%s WHERE " SAME_ID,
                       connection->columns.updated_at ? ", updated_at = CURRENT_TIMESTAMP" : "");
        break;
    case MYSQL_REMOVE:
        buffer_appendf(sql, "DELETE FROM `%s` WHERE " SAME_ID, table);
        break;
    case MYSQL_ID_OWNER:
        buffer_appendf(sql, "SELECT `id`, `id` FROM `%s` WHERE `id` = ?", table);
        break;
    case MYSQL_KEY_OWNER:
        buffer_appendf(sql, "SELECT `id`, `key` FROM `%s` WHERE `key` = ?", table);
        break;
    case MYSQL_STATEMENT_COUNT:
        break;
    }
}

/* Binds results without buffers: mysql_driver_column fetches each column into as much memory as it needs. */
static void bind_empty_results(MYSQL_STMT *statement) {
    MYSQL_BIND results[APP_FIELD_COUNT];

    memset(results, 0, sizeof results);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        results[i].buffer_type = MYSQL_TYPE_STRING;
    if (mysql_stmt_field_count(statement) != 0)
        mysql_stmt_bind_result(statement, results);
}

/* The library believes the counts that the server sends, whatever the size of our arrays, so they are checked. */
static bool counts_match(MYSQL_STMT *statement, unsigned count) {
    return mysql_stmt_param_count(statement) == count && mysql_stmt_field_count(statement) <= APP_FIELD_COUNT;
}

static enum store_answer prepare_mysql_statement(struct mysql_connection *connection, enum mysql_statement which,
                                                 unsigned count, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};
    MYSQL_STMT *statement;
    bool done;

    if (connection->statements[which] != NULL)
        return STORE_OK;
    statement = mysql_stmt_init(connection->link);
    append_mysql_statement(&sql, connection, which);
    done = mysql_stmt_prepare(statement, sql.data, sql.length) == 0;
    buffer_dispose(&sql);
    if (!done) {
        answer = statement_failed(connection, statement, error);
        mysql_stmt_close(statement); /* the server does not know it: this frees memory only */
        return answer;
    }
    if (!counts_match(statement, count)) {
        mysql_stmt_close(statement);
        return mysql_failure(connection, CR_MALFORMED_PACKET, "the answer is to another statement", error);
    }
    bind_empty_results(statement);
    connection->statements[which] = statement;
    return STORE_OK;
}

static void bind_mysql_value(MYSQL_BIND *parameter, const struct row_value *value) {
    *parameter = (MYSQL_BIND){.buffer_type = MYSQL_TYPE_NULL};
    switch (value->kind) {
    case ROW_NULL:
        break;
    case ROW_TEXT:
        parameter->buffer_type = MYSQL_TYPE_STRING;
        parameter->buffer = (char *)value->text.data;
        parameter->buffer_length = value->text.length;
        parameter->length = &parameter->buffer_length;
        break;
    case ROW_NUMBER:
        parameter->buffer_type = MYSQL_TYPE_LONG;
        parameter->buffer = (char *)&value->number;
        parameter->is_unsigned = 1;
        break;
    case ROW_FLAG:
        parameter->buffer_type = MYSQL_TYPE_TINY;
        parameter->buffer = (char *)&value->flag;
        break;
    }
}

static bool execute_mysql_statement(MYSQL_STMT *statement) {
    return mysql_stmt_execute(statement) == 0 &&
           (mysql_stmt_field_count(statement) == 0 || mysql_stmt_store_result(statement) == 0);
}

enum store_answer mysql_driver_run(struct mysql_connection *connection, enum mysql_statement which,
                                   const struct row_value *values, unsigned count, struct error *error) {
    enum store_answer answer = prepare_mysql_statement(connection, which, count, error);
    MYSQL_BIND parameters[APP_FIELD_COUNT + 2];
    MYSQL_STMT *statement = connection->statements[which];

    if (answer != STORE_OK)
        return answer;
    for (unsigned i = 0; i < count; i++)
        bind_mysql_value(&parameters[i], &values[i]);
    mysql_stmt_bind_param(statement, parameters);
    while (!execute_mysql_statement(statement)) {
        answer = statement_failed(connection, statement, error);
        if (connection->code != ER_LOCK_DEADLOCK || !deadline_sleep(&connection->base.deadline, DEADLOCK_PAUSE_MS))
            return answer;
    }
    if (response_fits(mysql_get_socket(connection->link), connection->received))
        return STORE_OK;
    /* A response that arrives at once needs no wait, and the wait is where the limit is checked. */
    mysql_stmt_free_result(statement);
    connection->gave_up = connection->too_large = true;
    return mysql_failure(connection, 0, "", error);
}

bool mysql_driver_next(struct mysql_connection *connection, enum mysql_statement which) {
    int code = mysql_stmt_fetch(connection->statements[which]);

    if (code == 0 || code == MYSQL_DATA_TRUNCATED)
        return true;
    mysql_driver_finish(connection, which);
    return false;
}

void mysql_driver_finish(struct mysql_connection *connection, enum mysql_statement which) {
    mysql_stmt_free_result(connection->statements[which]);
}

bool mysql_driver_column(struct mysql_connection *connection, enum mysql_statement which, unsigned column,
                         struct slice *text) {
    struct buffer *value = &connection->value;
    unsigned long length = 0;
    my_bool is_null = 0, is_cut = 0;
    MYSQL_BIND result = {.buffer_type = MYSQL_TYPE_STRING, .length = &length, .is_null = &is_null, .error = &is_cut};

    do {
        buffer_reserve(value, length + 1);
        result.buffer = value->data;
        result.buffer_length = value->capacity;
        mysql_stmt_fetch_column(connection->statements[which], &result, column, 0);
    } while (is_null == 0 && length > value->capacity);
    *text = (struct slice){value->data, length};
    return is_null == 0;
}

enum store_answer mysql_driver_command(struct mysql_connection *connection, struct slice sql, struct error *error) {
    if (mysql_real_query(connection->link, sql.data, sql.length) != 0)
        return mysql_failure(connection, mysql_errno(connection->link), mysql_error(connection->link), error);
    return STORE_OK;
}

void mysql_driver_forget_statements(struct mysql_connection *connection) {
    for (unsigned i = 0; i < MYSQL_STATEMENT_COUNT; i++) {
        if (i == MYSQL_READ_COLUMNS || connection->statements[i] == NULL)
            continue;
        mysql_stmt_close(connection->statements[i]);
        connection->statements[i] = NULL;
    }
}
