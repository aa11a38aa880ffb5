#include <mysqld_error.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/mysql/mysql_internal.h"

/* How often the table is changed again because another server changes it at the same time. */
#define CHANGES_MAX 5

#define CREATED_AT "created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP"
#define UPDATED_AT "updated_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"

/* --- looking --- */

/* A row of information_schema.columns. */
struct mysql_column_row {
    char name[256]; /* in lower case, since names of columns have no case in MySQL */
    bool mandatory;
    bool is_number, is_time, is_varchar; /* its type */
    bool has_default;
    size_t room;        /* of a VARCHAR, in characters; else 0 */
    char collation[64]; /* of a text, else empty */
};

static bool is_one_of(struct slice word, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (slice_equal_ignoring_case(word, slice_of(words[i])))
            return true;
    return false;
}

/* False for a column that is not ours. */
static bool read_column_row(struct mysql_connection *connection, struct mysql_column_row *row) {
    static const char *const numbers[] = {"tinyint", "smallint", "mediumint", "int", "bigint"};
    static const char *const times[] = {"timestamp", "datetime"};
    unsigned long long number;
    struct slice text;

    *row = (struct mysql_column_row){0};
    if (!mysql_driver_column(connection, MYSQL_READ_COLUMNS, 0, &text) || text.length >= sizeof row->name)
        return false;
    for (size_t i = 0; i < text.length; i++)
        row->name[i] = (char)(text.data[i] >= 'A' && text.data[i] <= 'Z' ? text.data[i] | 0x20 : text.data[i]);
    if (mysql_driver_column(connection, MYSQL_READ_COLUMNS, 1, &text))
        row->mandatory = slice_equal_ignoring_case(text, SLICE("NO"));
    if (mysql_driver_column(connection, MYSQL_READ_COLUMNS, 2, &text)) {
        row->is_number = is_one_of(text, numbers, sizeof numbers / sizeof numbers[0]);
        row->is_varchar = slice_equal_ignoring_case(text, SLICE("varchar"));
        row->is_time = is_one_of(text, times, sizeof times / sizeof times[0]);
    }
    /* MariaDB has the word NULL for a column that may be NULL and has no other default. */
    if (mysql_driver_column(connection, MYSQL_READ_COLUMNS, 3, &text))
        row->has_default = !slice_equal_ignoring_case(text, SLICE("NULL"));
    if (mysql_driver_column(connection, MYSQL_READ_COLUMNS, 4, &text) && slice_to_number(text, UINT32_MAX, &number) &&
        row->is_varchar)
        row->room = (size_t)number;
    if (mysql_driver_column(connection, MYSQL_READ_COLUMNS, 5, &text) && text.length < sizeof row->collation)
        snprintf(row->collation, sizeof row->collation, "%.*s", SLICE_ARGS(text));
    return true;
}

static void note_mysql_column(struct mysql_columns *columns, const struct mysql_column_row *row) {
    struct slice name = slice_of(row->name);
    enum app_field field;

    if (slice_equal(name, SLICE("created_at"))) {
        columns->created_at = true;
        columns->bare_created_at = row->is_time && !row->has_default;
    }
    if (slice_equal(name, SLICE("updated_at"))) {
        columns->updated_at = true;
        columns->bare_updated_at = row->is_time && !row->has_default;
    }
    if (!app_field_from_name(name, &field))
        return;
    columns->present |= 1u << field;
    columns->mandatory |= (uint32_t)row->mandatory << field;
    columns->bare |= (uint32_t)(row->is_number && !row->has_default) << field;
    if (field == APP_SECRET || field == APP_PREVIOUS_SECRET) {
        struct mysql_secret_column *secret = &columns->secrets[field - APP_SECRET];
        *secret = (struct mysql_secret_column){.room = row->room, .has_default = row->has_default};
        memcpy(secret->collation, row->collation, sizeof secret->collation);
    }
}

static bool same_columns(const struct mysql_columns *a, const struct mysql_columns *b) {
    return a->present == b->present && a->mandatory == b->mandatory && a->created_at == b->created_at &&
           a->updated_at == b->updated_at;
}

/* Reads the columns; there are none if there is no table. */
static enum store_answer read_mysql_columns(struct mysql_connection *connection, struct error *error) {
    const struct row_value table = {.kind = ROW_TEXT, .text = slice_of(connection->store->config->table_name)};
    enum store_answer answer = mysql_driver_run(connection, MYSQL_READ_COLUMNS, &table, 1, error);
    struct mysql_columns columns = {0};
    struct mysql_column_row row;

    if (answer != STORE_OK)
        return answer;
    while (mysql_driver_next(connection, MYSQL_READ_COLUMNS))
        if (read_column_row(connection, &row))
            note_mysql_column(&columns, &row);
    if (!same_columns(&columns, &connection->columns))
        mysql_driver_forget_statements(connection);
    connection->columns = columns;
    return STORE_OK;
}

static enum store_answer check_required_columns(const struct mysql_connection *connection, struct error *error) {
    uint32_t missing = row_required_fields & ~connection->columns.present;
    struct buffer names = {0};

    if (missing == 0)
        return STORE_OK;
    for_each_field(i, missing)
        buffer_appendf(&names, "%s%s", names.length != 0 ? ", " : "", app_fields[i].name);
    if (connection->columns.present == 0)
        error_set(error, "database.mysql.table_name: there is no table %s in the database %s",
                  connection->store->config->table_name, connection->store->config->database);
    else
        error_set(error, "database.mysql.table_name: the table %s has no column %.*s",
                  connection->store->config->table_name, SLICE_ARGS(buffer_slice(&names)));
    buffer_dispose(&names);
    return STORE_REFUSED;
}

static enum store_answer begin_mysql_operation(struct mysql_connection *connection, struct error *error) {
    mysql_driver_use(connection);
    if (!deadline_passed(&connection->base.deadline))
        return STORE_OK;
    error_set(error, "MySQL at %s:%u: no answer in time", connection->store->config->host,
              connection->store->config->port);
    return STORE_UNAVAILABLE;
}

enum store_answer mysql_driver_begin(struct mysql_connection *connection, struct error *error) {
    enum store_answer answer = begin_mysql_operation(connection, error);

    if (answer != STORE_OK)
        return answer;
    if (!store_table_changed(&connection->base) && clock_monotonic_ms() < connection->reread_columns_ms)
        return STORE_OK;
    answer = read_mysql_columns(connection, error);
    if (answer == STORE_OK)
        answer = check_required_columns(connection, error);
    connection->reread_columns_ms = answer == STORE_OK ? row_reread_ms(connection->columns.present) : 0;
    return answer;
}

/* --- changing --- */

static void append_column_definition(struct buffer *sql, enum app_field field) {
    const struct app_field_info *info = &app_fields[field];

    buffer_appendf(sql, "`%s` ", info->name);
    switch (info->type) {
    case APP_TYPE_TEXT:
        buffer_appendf(sql, "VARCHAR(255)%s NULL", info->optional ? "" : " NOT");
        return;
    case APP_TYPE_TIME:
        buffer_appendf(sql, "BIGINT UNSIGNED NULL");
        return;
    case APP_TYPE_JSON:
        buffer_appendf(sql, "JSON NULL");
        return;
    case APP_TYPE_NUMBER:
        buffer_appendf(sql, "INT UNSIGNED ");
        break;
    case APP_TYPE_FLAG:
        buffer_appendf(sql, "BOOLEAN ");
        break;
    }
    if (info->optional)
        buffer_appendf(sql, "NULL");
    else /* with a default, for rows that exist already */
        buffer_appendf(sql, "NOT NULL DEFAULT %u", info->fallback);
}

static void append_mysql_table(struct buffer *sql, const char *table) {
    buffer_appendf(sql, "CREATE TABLE `%s` (", table);
    for_each_field(i, row_layout_fields) {
        append_column_definition(sql, (enum app_field)i);
        buffer_appendf(sql, ", ");
    }
    /* A binary collation: names that differ in case only are different names. */
    buffer_appendf(sql, CREATED_AT ", " UPDATED_AT
                                   ", PRIMARY KEY (`id`), UNIQUE KEY (`key`)) "
                                   "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin");
}

/* Appends the statement that makes room for an encrypted secret in columns that are narrower. It names all that
 * MODIFY would otherwise change; a column with a default, which no server makes, is left to an administrator. */
static void append_mysql_widening(struct buffer *sql, const struct mysql_connection *connection, bool by_hand) {
    const struct mysql_columns *columns = &connection->columns;

    for (enum app_field i = APP_SECRET; i <= APP_PREVIOUS_SECRET; i++) {
        const struct mysql_secret_column *secret = &columns->secrets[i - APP_SECRET];
        if (secret->room == 0 || secret->room >= ROW_SEALED_LENGTH || (secret->has_default && !by_hand))
            continue;
        if (sql->length == 0)
            buffer_appendf(sql, "ALTER TABLE `%s`", connection->store->config->table_name);
        else
            buffer_appendf(sql, ",");
        buffer_appendf(sql, " MODIFY `%s` VARCHAR(%d)", app_fields[i].name, ROW_SEALED_LENGTH);
        if (secret->collation[0] != '\0')
            buffer_appendf(sql, " COLLATE %s", secret->collation);
        buffer_appendf(sql, "%s NULL", (columns->mandatory >> i & 1) != 0 ? " NOT" : "");
    }
}

static void append_add_column(struct buffer *sql) {
    buffer_appendf(sql, "%sADD COLUMN ", sql->length != 0 ? ", " : "");
}

/* Appends the missing columns as clauses of an ALTER TABLE, without those that every table must have. */
static void append_missing_columns(struct buffer *sql, const struct mysql_columns *columns) {
    for_each_field(i, row_layout_fields & ~(columns->present | row_required_fields)) {
        append_add_column(sql);
        append_column_definition(sql, (enum app_field)i);
    }
    if (!columns->created_at) {
        append_add_column(sql);
        buffer_appendf(sql, CREATED_AT);
    }
    if (!columns->updated_at) {
        append_add_column(sql);
        buffer_appendf(sql, UPDATED_AT);
    }
}

/* Appends the statement that brings the table to the current shape; nothing if it has that already. */
static void append_mysql_change(struct buffer *sql, const struct mysql_connection *connection) {
    const char *table = connection->store->config->table_name;
    struct buffer missing = {0};

    if (connection->columns.present == 0) {
        append_mysql_table(sql, table);
        return;
    }
    append_missing_columns(&missing, &connection->columns);
    if (missing.length != 0)
        buffer_appendf(sql, "ALTER TABLE `%s` %.*s", table, SLICE_ARGS(buffer_slice(&missing)));
    buffer_dispose(&missing);
}

static void log_added_columns(const char *table, const struct mysql_columns *before,
                              const struct mysql_columns *after) {
    for_each_field(i, after->present & ~before->present)
        log_info("app", "mysql: added the column %s to the table %s", app_fields[i].name, table);
    if (after->created_at && !before->created_at)
        log_info("app", "mysql: added the column created_at to the table %s", table);
    if (after->updated_at && !before->updated_at)
        log_info("app", "mysql: added the column updated_at to the table %s", table);
}

static bool was_changed_meanwhile(unsigned code) {
    return code == ER_TABLE_EXISTS_ERROR || code == ER_DUP_FIELDNAME;
}

/* Runs the statement. If this user may not, logs it for a user who may. */
static enum store_answer change_mysql_table(struct mysql_connection *connection, struct slice sql,
                                            struct error *error) {
    const char *table = connection->store->config->table_name;
    const struct mysql_columns before = connection->columns;
    enum store_answer answer = mysql_driver_command(connection, sql, error);
    bool done = answer == STORE_OK;

    if (answer == STORE_REFUSED && !was_changed_meanwhile(connection->code)) {
        log_warning("app", "%s; an administrator should run: %.*s", error->text, SLICE_ARGS(sql));
        return STORE_REFUSED;
    }
    if (answer == STORE_UNAVAILABLE)
        return answer;
    answer = read_mysql_columns(connection, error);
    if (!done || answer != STORE_OK)
        return answer;
    if (before.present == 0)
        log_info("app", "mysql: created the table %s", table);
    else
        log_added_columns(table, &before, &connection->columns);
    return STORE_OK;
}

static void append_mysql_default(struct buffer *sql, const char *table, const char *column, const char *value) {
    if (sql->length == 0)
        buffer_appendf(sql, "ALTER TABLE `%s`", table);
    else
        buffer_appendf(sql, ",");
    buffer_appendf(sql, " ALTER COLUMN `%s` SET DEFAULT %s", column, value);
}

/* Runs the statement, if there is one. A table works without the defaults, so that neither a lock nor a missing right
 * is an error. */
static enum store_answer set_mysql_defaults(struct mysql_connection *connection, struct buffer *sql,
                                            struct error *error) {
    enum store_answer answer;

    if (sql->length == 0)
        return STORE_OK;
    answer = mysql_driver_command(connection, buffer_slice(sql), error);
    if (answer == STORE_OK)
        log_info("app", "mysql: %s", buffer_string(sql));
    else if (answer == STORE_REFUSED || connection->code == ER_LOCK_WAIT_TIMEOUT)
        log_info("app", "%s; rows that others insert have to name these columns until somebody runs: %s", error->text,
                 buffer_string(sql));
    else
        return STORE_UNAVAILABLE;
    return STORE_OK;
}

/* Appends the statements that give the columns of other programs' tables the defaults of ours. MySQL before 8.0.13
 * refuses the one about times. */
static void append_mysql_defaults(struct buffer *numbers, struct buffer *times,
                                  const struct mysql_connection *connection) {
    const char *table = connection->store->config->table_name;
    const struct mysql_columns *columns = &connection->columns;
    char digits[16];

    for_each_field(i, row_default_fields & columns->bare) {
        snprintf(digits, sizeof digits, "%u", app_fields[i].fallback);
        append_mysql_default(numbers, table, app_fields[i].name, digits);
    }
    if (columns->bare_created_at)
        append_mysql_default(times, table, "created_at", "(CURRENT_TIMESTAMP)");
    if (columns->bare_updated_at)
        append_mysql_default(times, table, "updated_at", "(CURRENT_TIMESTAMP)");
}

/* Waits for a lock for a second only: a statement that waits to change the table blocks those that come after it. */
static enum store_answer add_mysql_defaults(struct mysql_connection *connection, struct error *error) {
    const struct slice hurry =
        SLICE("SET @curlew_lock_wait = @@SESSION.lock_wait_timeout, SESSION lock_wait_timeout = 1");
    const struct slice restore = SLICE("SET SESSION lock_wait_timeout = @curlew_lock_wait");
    struct buffer numbers = {0}, times = {0};
    enum store_answer answer = STORE_OK;

    append_mysql_defaults(&numbers, &times, connection);
    if (numbers.length != 0 || times.length != 0) {
        answer = mysql_driver_command(connection, hurry, error);
        if (answer == STORE_OK)
            answer = set_mysql_defaults(connection, &numbers, error);
        if (answer == STORE_OK)
            answer = set_mysql_defaults(connection, &times, error);
        if (answer == STORE_OK)
            answer = mysql_driver_command(connection, restore, error);
    }
    buffer_dispose(&numbers);
    buffer_dispose(&times);
    return answer;
}

/* A table that this user may not change is used as it is: shorter secrets fit. */
static enum store_answer widen_mysql_secrets(struct mysql_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    if (store_has_keys(&connection->store->base))
        append_mysql_widening(&sql, connection, false);
    if (sql.length != 0)
        answer = mysql_driver_command(connection, buffer_slice(&sql), error);
    if (sql.length != 0 && answer == STORE_OK) {
        log_info("app", "mysql: %s", buffer_string(&sql));
        answer = read_mysql_columns(connection, error);
    } else if (answer == STORE_REFUSED) {
        log_warning("app", "%s; an administrator should run: %s", error->text, buffer_string(&sql));
        answer = STORE_OK;
    }
    buffer_dispose(&sql);
    return answer;
}

enum store_answer mysql_driver_add_policy(struct mysql_connection *connection, struct error *error) {
    enum store_answer answer = read_mysql_columns(connection, error);
    struct buffer sql = {0};

    if (answer != STORE_OK || (connection->columns.present >> APP_POLICY & 1) != 0)
        return answer;
    buffer_appendf(&sql, "ALTER TABLE `%s` ADD COLUMN ", connection->store->config->table_name);
    append_column_definition(&sql, APP_POLICY);
    answer = change_mysql_table(connection, buffer_slice(&sql), error);
    buffer_dispose(&sql);
    connection->reread_columns_ms = row_reread_ms(connection->columns.present);
    if (answer == STORE_OK)
        store_change_table(&connection->base);
    else
        error_prefix(error, "the table has no column policy, and it cannot be added");
    return answer;
}

static bool mysql_secrets_fit(const struct mysql_connection *connection, const struct app *app, struct error *error) {
    for (enum app_field i = APP_SECRET; i <= APP_PREVIOUS_SECRET; i++)
        if (!row_fits(i, app, connection->columns.secrets[i - APP_SECRET].room, error))
            return false;
    return true;
}

enum store_answer mysql_driver_check_room(struct mysql_connection *connection, const struct app *app,
                                          struct error *error) {
    enum store_answer answer;
    struct buffer sql = {0};

    if (row_keeps(connection->columns.present, app, error) && mysql_secrets_fit(connection, app, error))
        return STORE_OK;
    connection->reread_columns_ms = 0; /* the column may have been added by now */
    answer = mysql_driver_begin(connection, error);
    if (answer != STORE_OK)
        return answer;
    if (row_keeps(connection->columns.present, app, error)) {
        if (mysql_secrets_fit(connection, app, error))
            return STORE_OK;
        append_mysql_widening(&sql, connection, true);
        return row_refuse_without(error, &sql);
    }
    for_each_field(i, row_missing(connection->columns.present, app)) {
        if (sql.length == 0)
            buffer_appendf(&sql, "ALTER TABLE `%s` ADD COLUMN ", connection->store->config->table_name);
        else
            append_add_column(&sql);
        append_column_definition(&sql, (enum app_field)i);
    }
    return row_refuse_without(error, &sql);
}

enum store_answer mysql_driver_prepare(struct store_connection *base, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    enum store_answer answer = begin_mysql_operation(connection, error);
    bool more = true;

    if (answer == STORE_OK)
        answer = read_mysql_columns(connection, error);
    for (unsigned i = 0; i < CHANGES_MAX && more && answer == STORE_OK; i++) {
        struct buffer sql = {0};
        append_mysql_change(&sql, connection);
        more = sql.length != 0;
        if (more)
            answer = change_mysql_table(connection, buffer_slice(&sql), error);
        buffer_dispose(&sql);
    }
    /* A table that this user may not change is used as it stands. */
    if (answer != STORE_UNAVAILABLE)
        answer = check_required_columns(connection, error);
    if (answer == STORE_OK)
        answer = widen_mysql_secrets(connection, error);
    if (answer == STORE_OK)
        answer = add_mysql_defaults(connection, error);
    connection->reread_columns_ms = answer == STORE_OK ? row_reread_ms(connection->columns.present) : 0;
    return answer;
}

enum store_answer mysql_driver_inspect(struct store_connection *base, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    enum store_answer answer = begin_mysql_operation(connection, error);

    if (answer == STORE_OK)
        answer = read_mysql_columns(connection, error);
    if (answer != STORE_OK)
        return answer;
    answer = check_required_columns(connection, error);
    return connection->columns.present == 0 ? STORE_NOT_FOUND : answer;
}
