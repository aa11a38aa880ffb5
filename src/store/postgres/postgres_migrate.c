#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/postgres/postgres_internal.h"
#include "store/row.h"

/* --- the columns --- */

static bool is_narrow(const char *type) {
    return strcmp(type, "integer") == 0 || strcmp(type, "smallint") == 0;
}

/* The length of a varchar; its modifier is that and four. */
static size_t varchar_room(const char *type, const char *modifier) {
    unsigned long long number;

    return strcmp(type, "character varying") == 0 && slice_to_number(slice_of(modifier), UINT32_MAX, &number) &&
                   number > 4
               ? (size_t)number - 4
               : 0;
}

static void note_postgres_column(struct postgres_connection *connection, struct slice name, const char *type,
                                 const char *modifier, bool has_default) {
    bool bare_time = !has_default && strncmp(type, "timestamp", 9) == 0;
    enum app_field field;

    if (slice_equal(name, SLICE("created_at"))) {
        connection->has_created_at = true;
        connection->bare_created_at = bare_time;
    }
    if (slice_equal(name, SLICE("updated_at"))) {
        connection->has_updated_at = true;
        connection->bare_updated_at = bare_time;
    }
    if (!app_field_from_name(name, &field))
        return;
    connection->fields[field].has_default = has_default;
    connection->fields[field].room = varchar_room(type, modifier);
    snprintf(connection->fields[field].type, sizeof connection->fields[field].type, "%s", type);
    if (app_fields[field].type != APP_TYPE_NUMBER && app_fields[field].type != APP_TYPE_TIME)
        connection->fields[field].kind = POSTGRES_OTHER;
    else
        connection->fields[field].kind = is_narrow(type) ? POSTGRES_NARROW : POSTGRES_WIDE;
}

uint32_t postgres_columns(const struct postgres_connection *connection) {
    uint32_t bits = 0;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        bits |= (uint32_t)(connection->fields[i].kind != POSTGRES_NO_COLUMN) << i;
    return bits;
}

/* Reads the columns of the table that an unqualified name means; there are none if there is no table. */
static bool read_postgres_columns(struct postgres_connection *connection, struct error *error) {
    const char *const values[] = {connection->store->config->table_name};
    PGresult *result = postgres_run(connection,
                                    "SELECT a.attname, format_type(a.atttypid, NULL), "
                                    "a.atthasdef OR a.attidentity <> '', a.atttypmod FROM pg_attribute a "
                                    "WHERE a.attrelid = to_regclass(quote_ident($1)) AND a.attnum > 0 "
                                    "AND NOT a.attisdropped",
                                    1, values, error);

    if (result == NULL)
        return false;
    if (PQnfields(result) != 4) {
        PQclear(result);
        connection->sqlstate[0] = '\0';
        return error_set(error, "%s", postgres_other_answer);
    }
    memset(connection->fields, 0, sizeof connection->fields);
    connection->has_created_at = connection->has_updated_at = false;
    connection->bare_created_at = connection->bare_updated_at = false;
    for (int row = 0; row < PQntuples(result); row++)
        note_postgres_column(connection, postgres_value(result, row, 0), PQgetvalue(result, row, 1),
                             PQgetvalue(result, row, 3), strcmp(PQgetvalue(result, row, 2), "t") == 0);
    PQclear(result);
    return true;
}

enum store_answer postgres_know_columns(struct postgres_connection *connection, struct error *error) {
    if (!store_table_changed(&connection->base) && clock_monotonic_ms() < connection->reread_columns_ms)
        return STORE_OK;
    if (!read_postgres_columns(connection, error))
        return postgres_failure(connection);
    if ((postgres_columns(connection) & row_required_fields) != row_required_fields) {
        error_set(error, "database.postgres.table_name: there is no table %s with the columns id, key and secret",
                  connection->store->config->table_name);
        return STORE_UNAVAILABLE;
    }
    connection->reread_columns_ms = row_reread_ms(postgres_columns(connection));
    return STORE_OK;
}

/* --- changes --- */

static const char *postgres_column_type(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        return "INTEGER";
    case APP_TYPE_TIME:
        return "BIGINT";
    case APP_TYPE_FLAG:
        return "BOOLEAN";
    case APP_TYPE_JSON:
        return "JSONB";
    case APP_TYPE_TEXT:
        break;
    }
    return "VARCHAR(255)";
}

/* The default of a column of that type; NULL: it has none. */
static const char *postgres_default(enum app_field field, const char *type) {
    const char *truth = app_fields[field].fallback != 0 ? "TRUE" : "FALSE";
    const char *digits = app_fields[field].type == APP_TYPE_NUMBER ? "100"
                         : app_fields[field].fallback != 0         ? "1"
                                                                   : "0";

    if ((row_default_fields >> field & 1) == 0)
        return NULL;
    if (strcasecmp(type, "boolean") == 0)
        return app_fields[field].type == APP_TYPE_FLAG ? truth : NULL;
    return strcasecmp(type, "integer") == 0 || strcmp(type, "bigint") == 0 || strcmp(type, "smallint") == 0 ? digits
                                                                                                            : NULL;
}

/* Appends a column with its type, and its default if it has one. */
static void append_postgres_column(struct buffer *sql, enum app_field field) {
    const char *type = postgres_column_type(field), *value = postgres_default(field, type);

    buffer_appendf(sql, "\"%s\" %s%s%s", app_fields[field].name, type, value != NULL ? " DEFAULT " : "",
                   value != NULL ? value : "");
}

static void append_postgres_table(struct buffer *sql, const char *table) {
    buffer_appendf(sql, "CREATE TABLE \"%s\" (", table);
    for_each_field(i, row_layout_fields) {
        append_postgres_column(sql, (enum app_field)i);
        buffer_appendf(sql, "%s, ",
                       i == APP_ID              ? " PRIMARY KEY"
                       : i == APP_KEY           ? " UNIQUE NOT NULL"
                       : app_fields[i].optional ? " NULL"
                                                : " NOT NULL");
    }
    buffer_appendf(sql,
                   "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)");
}

/* Runs a statement that changes the schema inside the transaction in progress. If this user may not, the transaction
 * goes back to the savepoint, and the log has the statement for a user who may. */
static enum store_answer change_postgres_schema(struct postgres_connection *connection, const char *sql,
                                                struct error *error) {
    PGresult *result;
    enum store_answer answer;
    struct error ignored;

    PQclear(postgres_run(connection, "SAVEPOINT curlew", 0, NULL, error));
    result = postgres_run(connection, sql, 0, NULL, error);
    if (result != NULL) {
        PQclear(result);
        log_info("app", "postgres: %s", sql);
        return STORE_OK;
    }
    answer = postgres_failure(connection);
    if (answer == STORE_REFUSED) {
        log_warning("app", "%s; an administrator should run: %s", error->text, sql);
        PQclear(postgres_run(connection, "ROLLBACK TO SAVEPOINT curlew", 0, NULL, &ignored));
    }
    return answer;
}

/* Appends the statement that adds these columns (bits); nothing if there are none. */
static void append_postgres_additions(struct buffer *sql, const char *table, uint32_t columns) {
    for_each_field(i, columns) {
        if (sql->length == 0)
            buffer_appendf(sql, "ALTER TABLE \"%s\"", table);
        else
            buffer_appendf(sql, ",");
        buffer_appendf(sql, " ADD COLUMN ");
        append_postgres_column(sql, (enum app_field)i);
    }
}

static enum store_answer add_postgres_columns(struct postgres_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    append_postgres_additions(&sql, connection->store->config->table_name,
                              row_layout_fields & ~postgres_columns(connection));
    if (sql.length != 0)
        answer = change_postgres_schema(connection, buffer_string(&sql), error);
    buffer_dispose(&sql);
    return answer;
}

/* Appends the statement that makes room for an encrypted secret in columns that are narrower. */
static void append_postgres_widening(struct buffer *sql, const struct postgres_connection *connection) {
    for (enum app_field i = APP_SECRET; i <= APP_PREVIOUS_SECRET; i++) {
        size_t room = connection->fields[i].room;
        if (room == 0 || room >= ROW_SEALED_LENGTH)
            continue;
        if (sql->length == 0)
            buffer_appendf(sql, "ALTER TABLE \"%s\"", connection->store->config->table_name);
        else
            buffer_appendf(sql, ",");
        buffer_appendf(sql, " ALTER COLUMN \"%s\" TYPE VARCHAR(%d)", app_fields[i].name, ROW_SEALED_LENGTH);
    }
}

/* A longer varchar needs no rewriting of the table. */
static enum store_answer widen_postgres_secrets(struct postgres_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    if (!store_has_keys(&connection->store->base))
        return STORE_OK;
    append_postgres_widening(&sql, connection);
    if (sql.length != 0)
        answer = change_postgres_schema(connection, buffer_string(&sql), error);
    buffer_dispose(&sql);
    return answer;
}

static void append_postgres_default(struct buffer *sql, const char *table, const char *column, const char *value) {
    if (sql->length == 0)
        buffer_appendf(sql, "ALTER TABLE \"%s\"", table);
    else
        buffer_appendf(sql, ",");
    buffer_appendf(sql, " ALTER COLUMN \"%s\" SET DEFAULT %s", column, value);
}

/* Gives the columns that another program made without a default the one of our tables. A table works without, so that
 * neither a lock nor a missing right is an error. */
static enum store_answer add_postgres_defaults(struct postgres_connection *connection, struct error *error) {
    const char *table = connection->store->config->table_name;
    struct buffer sql = {0};
    PGresult *result;
    bool lost = false;

    for_each_field(i, row_default_fields & postgres_columns(connection)) {
        const char *value = postgres_default((enum app_field)i, connection->fields[i].type);
        if (!connection->fields[i].has_default && value != NULL)
            append_postgres_default(&sql, table, app_fields[i].name, value);
    }
    if (connection->bare_created_at)
        append_postgres_default(&sql, table, "created_at", "CURRENT_TIMESTAMP");
    if (connection->bare_updated_at)
        append_postgres_default(&sql, table, "updated_at", "CURRENT_TIMESTAMP");
    if (sql.length == 0)
        return STORE_OK;
    PQclear(postgres_run(connection, "SAVEPOINT curlew", 0, NULL, error));
    result = postgres_run(connection, buffer_string(&sql), 0, NULL, error);
    if (result != NULL) {
        log_info("app", "postgres: %s", buffer_string(&sql));
    } else {
        log_info("app", "%s; rows that others insert have to name these columns until somebody runs: %s", error->text,
                 buffer_string(&sql));
        result = postgres_run(connection, "ROLLBACK TO SAVEPOINT curlew", 0, NULL, error);
        lost = result == NULL;
    }
    PQclear(result);
    buffer_dispose(&sql);
    return lost ? STORE_UNAVAILABLE : STORE_OK;
}

static enum store_answer update_postgres_table(struct postgres_connection *connection, struct error *error) {
    struct buffer sql = {0};
    enum store_answer answer;

    if (!read_postgres_columns(connection, error))
        return postgres_failure(connection);
    if (postgres_columns(connection) != 0)
        return add_postgres_columns(connection, error);
    append_postgres_table(&sql, connection->store->config->table_name);
    answer = change_postgres_schema(connection, buffer_string(&sql), error);
    buffer_dispose(&sql);
    return answer;
}

/* --- the trigger --- */

bool postgres_channel(struct postgres_connection *connection, struct buffer *channel, struct error *error) {
    const char *const values[] = {connection->store->config->table_name};
    PGresult *result = postgres_run(connection,
                                    "SELECT 'curlew_' || md5(n.nspname || '.' || c.relname) FROM pg_class c "
                                    "JOIN pg_namespace n ON n.oid = c.relnamespace "
                                    "WHERE c.oid = to_regclass(quote_ident($1))",
                                    1, values, error);

    if (result == NULL)
        return false;
    if (PQntuples(result) == 1)
        buffer_append(channel, postgres_value(result, 0, 0));
    buffer_string(channel);
    PQclear(result);
    return channel->length != 0 || error_set(error, "there is no table to listen for");
}

/* Appends the body of the trigger function. A notification of 8000 bytes or more would make the user's own statement
 * fail, so it then has no names, which means that anything may have changed. */
static void append_trigger_body(struct buffer *sql, const char *channel) {
    buffer_appendf(sql,
                   " DECLARE notice text := '{}'; BEGIN "
                   "IF TG_OP <> 'TRUNCATE' THEN notice := json_build_object("
                   "'id', CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END, "
                   "'old_key', CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE OLD.key END, "
                   "'new_key', CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE NEW.key END)::text; END IF; "
                   "PERFORM pg_notify('%s', CASE WHEN octet_length(notice) < 8000 THEN notice ELSE '{}' END); "
                   "RETURN NULL; END ",
                   channel);
}

/* Appends one statement, since another user may have to run it. It replaces what older versions installed. */
static void append_trigger_install(struct buffer *sql, const char *table, const char *body) {
    buffer_appendf(sql,
                   "DO $curlew$ BEGIN "
                   "CREATE OR REPLACE FUNCTION \"%s_curlew_notify\"() RETURNS trigger LANGUAGE plpgsql AS $notify$%s"
                   "$notify$; "
                   "DROP TRIGGER IF EXISTS curlew_notify ON \"%s\"; "
                   "CREATE TRIGGER curlew_notify AFTER INSERT OR UPDATE OR DELETE ON \"%s\" FOR EACH ROW "
                   "EXECUTE FUNCTION \"%s_curlew_notify\"(); "
                   "DROP TRIGGER IF EXISTS curlew_notify_truncate ON \"%s\"; "
                   "CREATE TRIGGER curlew_notify_truncate AFTER TRUNCATE ON \"%s\" FOR EACH STATEMENT "
                   "EXECUTE FUNCTION \"%s_curlew_notify\"(); "
                   "END $curlew$",
                   table, body, table, table, table, table, table, table);
}

/* Whether both triggers exist and run this function: 1 or 0; -1 with an error. */
static int has_triggers(struct postgres_connection *connection, const char *body, struct error *error) {
    const char *const values[] = {connection->store->config->table_name, body};
    PGresult *result = postgres_run(connection,
                                    "SELECT 1 FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
                                    "WHERE t.tgrelid = to_regclass(quote_ident($1)) AND p.prosrc = $2 "
                                    "AND t.tgname IN ('curlew_notify', 'curlew_notify_truncate')",
                                    2, values, error);
    int found = result != NULL ? PQntuples(result) == 2 : -1;

    PQclear(result);
    return found;
}

static enum store_answer install_triggers(struct postgres_connection *connection, struct error *error) {
    struct buffer channel = {0}, body = {0}, sql = {0};
    enum store_answer answer = STORE_OK;
    int found = -1;

    if (postgres_channel(connection, &channel, error)) {
        append_trigger_body(&body, channel.data);
        found = has_triggers(connection, buffer_string(&body), error);
    }
    if (found < 0)
        answer = postgres_failure(connection);
    if (found == 0) {
        append_trigger_install(&sql, connection->store->config->table_name, body.data);
        answer = change_postgres_schema(connection, buffer_string(&sql), error);
    }
    buffer_dispose(&channel);
    buffer_dispose(&body);
    buffer_dispose(&sql);
    return answer;
}

/* --- preparing --- */

/* Sets the limits of the transaction in progress: a schema change that waits for a lock blocks every later statement,
 * so it gives up soon and is tried again. Without a wait it may take long. */
static bool limit_locks(struct postgres_connection *connection, struct error *error) {
    const char *sql = connection->limited ? "SELECT set_config('lock_timeout', '2s', true), "
                                            "set_config('statement_timeout', '0', true)"
                                          : "SELECT set_config('lock_timeout', '2s', true)";
    PGresult *result = postgres_run(connection, sql, 0, NULL, error);

    PQclear(result);
    return result != NULL;
}

static enum store_answer prepare_under_lock(struct postgres_connection *connection, struct error *error) {
    PGresult *result;
    enum store_answer answer;

    /* Servers that start at the same time do this one after another. */
    result = postgres_run(connection, "SELECT pg_advisory_xact_lock(hashtext('curlew ' || $1))", 1,
                          (const char *const[]){connection->store->config->table_name}, error);
    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    if (!limit_locks(connection, error))
        return postgres_failure(connection);
    answer = update_postgres_table(connection, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    if (!read_postgres_columns(connection, error))
        return postgres_failure(connection);
    if ((postgres_columns(connection) & row_required_fields) != row_required_fields)
        return STORE_OK; /* postgres_know_columns says so */
    if (widen_postgres_secrets(connection, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    answer = install_triggers(connection, error);
    return answer != STORE_UNAVAILABLE ? add_postgres_defaults(connection, error) : answer;
}

enum store_answer postgres_prepare(struct store_connection *base, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    PGresult *result = postgres_run(connection, "BEGIN", 0, NULL, error);
    enum store_answer answer;

    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    answer = prepare_under_lock(connection, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    result = postgres_run(connection, "COMMIT", 0, NULL, error);
    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    connection->reread_columns_ms = 0;
    return postgres_know_columns(connection, error);
}

/* Adds the column `policy` in a transaction of its own. STORE_REFUSED if this user may not. */
static enum store_answer add_postgres_policy(struct postgres_connection *connection, struct error *error) {
    PGresult *result = postgres_run(connection, "BEGIN", 0, NULL, error);
    enum store_answer answer = STORE_OK;
    struct error ignored;
    char sql[256];

    snprintf(sql, sizeof sql, "ALTER TABLE \"%s\" ADD COLUMN IF NOT EXISTS \"%s\" %s NULL",
             connection->store->config->table_name, app_fields[APP_POLICY].name, postgres_column_type(APP_POLICY));
    if (result == NULL || !limit_locks(connection, error))
        answer = postgres_failure(connection);
    PQclear(result);
    if (answer == STORE_OK)
        answer = change_postgres_schema(connection, sql, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    if (answer != STORE_OK)
        error_prefix(error, "the table has no column policy, and it cannot be added");
    result = postgres_run(connection, "COMMIT", 0, NULL, answer == STORE_OK ? error : &ignored);
    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    if (answer == STORE_OK)
        store_change_table(&connection->base);
    return answer;
}

/* STORE_OK if the texts of the app fit into their columns. */
static enum store_answer check_postgres_room(const struct postgres_connection *connection, const struct app *app,
                                             struct error *error) {
    struct buffer sql = {0};

    for (enum app_field i = APP_ID; i <= APP_PREVIOUS_SECRET; i++) {
        if (row_fits(i, app, connection->fields[i].room, error))
            continue;
        if (app_fields[i].hidden)
            append_postgres_widening(&sql, connection);
        return row_refuse_without(error, &sql);
    }
    return STORE_OK;
}

enum store_answer postgres_know_columns_for(struct postgres_connection *connection, const struct app *app,
                                            struct error *error) {
    enum store_answer answer = postgres_know_columns(connection, error);
    struct buffer sql = {0};

    if (answer != STORE_OK)
        return answer;
    if (row_keeps(postgres_columns(connection), app, error) && check_postgres_room(connection, app, error) == STORE_OK)
        return STORE_OK;
    connection->reread_columns_ms = 0; /* the column may have been added by now */
    answer = postgres_know_columns(connection, error);
    if (answer == STORE_OK && row_needs_policy(postgres_columns(connection), app)) {
        answer = add_postgres_policy(connection, error);
        if (answer == STORE_OK)
            answer = postgres_know_columns(connection, error);
    }
    if (answer != STORE_OK)
        return answer;
    if (row_keeps(postgres_columns(connection), app, error))
        return check_postgres_room(connection, app, error);
    append_postgres_additions(&sql, connection->store->config->table_name,
                              row_missing(postgres_columns(connection), app));
    return row_refuse_without(error, &sql);
}

enum store_answer postgres_inspect(struct store_connection *base, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);

    if (!read_postgres_columns(connection, error))
        return postgres_failure(connection);
    if (postgres_columns(connection) != 0)
        return postgres_know_columns(connection, error);
    error_set(error, "database.postgres.table_name: there is no table %s", connection->store->config->table_name);
    return STORE_NOT_FOUND;
}
