#include <stdlib.h>
#include <string.h>

#include "app/store/postgres.h"
#include "app/store/row.h"
#include "base/log.h"

/* --- the columns --- */

static bool is_narrow(const char *type) {
    return strcmp(type, "integer") == 0 || strcmp(type, "smallint") == 0;
}

static void note_column(struct store_connection *connection, struct slice name, const char *type) {
    enum app_field field;

    if (slice_equal(name, SLICE("created_at")))
        connection->has_created_at = true;
    if (slice_equal(name, SLICE("updated_at")))
        connection->has_updated_at = true;
    if (!app_field_from_name(name, &field))
        return;
    snprintf(connection->fields[field].type, sizeof connection->fields[field].type, "%s", type);
    if (app_fields[field].type != APP_TYPE_NUMBER)
        connection->fields[field].kind = POSTGRES_OTHER;
    else
        connection->fields[field].kind = is_narrow(type) ? POSTGRES_NARROW : POSTGRES_WIDE;
}

static uint32_t columns(const struct store_connection *connection) {
    uint32_t bits = 0;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        bits |= (uint32_t)(connection->fields[i].kind != POSTGRES_ABSENT) << i;
    return bits;
}

/* The columns of the table that an unqualified name means; none if there is no table. */
static bool read_columns(struct store_connection *connection, const struct patience *patience, struct error *error) {
    const char *const values[] = {connection->store->config->table_name};
    PGresult *result = postgres_run(connection,
                                    "SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a "
                                    "WHERE a.attrelid = to_regclass(quote_ident($1)) AND a.attnum > 0 "
                                    "AND NOT a.attisdropped",
                                    1, values, patience, error);

    if (result == NULL)
        return false;
    memset(connection->fields, 0, sizeof connection->fields);
    connection->has_created_at = connection->has_updated_at = false;
    for (int row = 0; row < PQntuples(result); row++)
        note_column(connection, postgres_value(result, row, 0), PQgetvalue(result, row, 1));
    PQclear(result);
    return true;
}

enum store_answer postgres_look(struct store_connection *connection, const struct patience *patience,
                                struct error *error) {
    if (connection->looked)
        return STORE_OK;
    if (!read_columns(connection, patience, error))
        return postgres_failure(connection);
    if ((columns(connection) & row_required_fields) != row_required_fields) {
        error_set(error, "database.postgres.table_name: there is no table %s with the columns id, key and secret",
                  connection->store->config->table_name);
        return STORE_UNAVAILABLE;
    }
    connection->looked = true;
    return STORE_OK;
}

/* --- changes --- */

static const char *column_type(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        return "INTEGER";
    case APP_TYPE_FLAG:
        return "BOOLEAN";
    case APP_TYPE_JSON:
        return "JSONB";
    case APP_TYPE_TEXT:
        break;
    }
    return "VARCHAR(255)";
}

static void append_create_table(struct buffer *sql, const char *table) {
    buffer_appendf(sql, "CREATE TABLE \"%s\" (", table);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        buffer_appendf(sql, "\"%s\" %s%s, ", app_fields[i].name, column_type((enum app_field)i),
                       i == APP_ID              ? " PRIMARY KEY"
                       : i == APP_KEY           ? " UNIQUE NOT NULL"
                       : app_fields[i].optional ? " NULL"
                                                : " NOT NULL");
    buffer_appendf(sql,
                   "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)");
    buffer_append_byte(sql, '\0');
}

/* Runs what changes the schema inside the transaction under way. Where it may not, the transaction goes on as if it had
 * not been tried, and the log says what somebody else should run. */
static enum store_answer change(struct store_connection *connection, const char *sql, const struct patience *patience,
                                struct error *error) {
    PGresult *result;
    enum store_answer answer;
    struct error ignored;

    PQclear(postgres_run(connection, "SAVEPOINT curlew", 0, NULL, patience, error));
    result = postgres_run(connection, sql, 0, NULL, patience, error);
    if (result != NULL) {
        PQclear(result);
        log_info("app", "postgres: %s", sql);
        return STORE_OK;
    }
    answer = postgres_failure(connection);
    if (answer == STORE_REFUSED) {
        log_warning("app", "%s; to be run by somebody who may: %s", error->text, sql);
        PQclear(postgres_run(connection, "ROLLBACK TO SAVEPOINT curlew", 0, NULL, patience, &ignored));
    }
    return answer;
}

/* One statement for all that are missing. */
static enum store_answer add_columns(struct store_connection *connection, const struct patience *patience,
                                     struct error *error) {
    enum store_answer answer = STORE_OK;
    struct buffer sql = {0};

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (connection->fields[i].kind != POSTGRES_ABSENT)
            continue;
        if (sql.length == 0)
            buffer_appendf(&sql, "ALTER TABLE \"%s\"", connection->store->config->table_name);
        else
            buffer_appendf(&sql, ",");
        buffer_appendf(&sql, " ADD COLUMN \"%s\" %s NULL", app_fields[i].name, column_type((enum app_field)i));
    }
    if (sql.length != 0) {
        buffer_append_byte(&sql, '\0');
        answer = change(connection, sql.data, patience, error);
    }
    buffer_dispose(&sql);
    return answer;
}

static enum store_answer bring_table_up_to_date(struct store_connection *connection, const struct patience *patience,
                                                struct error *error) {
    struct buffer sql = {0};
    enum store_answer answer;

    if (!read_columns(connection, patience, error))
        return postgres_failure(connection);
    if (columns(connection) != 0)
        return add_columns(connection, patience, error);
    append_create_table(&sql, connection->store->config->table_name);
    answer = change(connection, sql.data, patience, error);
    buffer_dispose(&sql);
    return answer;
}

/* --- telling of changes --- */

bool postgres_channel(struct store_connection *connection, const struct patience *patience, struct buffer *channel,
                      struct error *error) {
    const char *const values[] = {connection->store->config->table_name};
    PGresult *result = postgres_run(connection,
                                    "SELECT 'curlew_' || md5(n.nspname || '.' || c.relname) FROM pg_class c "
                                    "JOIN pg_namespace n ON n.oid = c.relnamespace "
                                    "WHERE c.oid = to_regclass(quote_ident($1))",
                                    1, values, patience, error);

    if (result == NULL)
        return false;
    if (PQntuples(result) == 1)
        buffer_append(channel, postgres_value(result, 0, 0));
    buffer_append_byte(channel, '\0');
    PQclear(result);
    return channel->length > 1 || error_set(error, "there is no table to listen for");
}

static void append_function(struct buffer *sql, const char *table, const char *channel) {
    buffer_appendf(sql,
                   "CREATE OR REPLACE FUNCTION \"%s_curlew_notify\"() RETURNS trigger LANGUAGE plpgsql AS $curlew$ "
                   "BEGIN "
                   "IF TG_OP = 'TRUNCATE' THEN PERFORM pg_notify('%s', '{}'); RETURN NULL; END IF; "
                   "PERFORM pg_notify('%s', json_build_object("
                   "'id', CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END, "
                   "'old_key', CASE WHEN TG_OP = 'INSERT' THEN NULL ELSE OLD.key END, "
                   "'new_key', CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE NEW.key END)::text); "
                   "RETURN NULL; END $curlew$",
                   table, channel, channel);
    buffer_append_byte(sql, '\0');
}

/* Whether the table has the trigger: 1 or 0; -1 with an error. */
static int has_trigger(struct store_connection *connection, const char *name, const struct patience *patience,
                       struct error *error) {
    const char *const values[] = {connection->store->config->table_name, name};
    PGresult *result = postgres_run(connection,
                                    "SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass(quote_ident($1)) "
                                    "AND tgname = $2",
                                    2, values, patience, error);
    int count = result != NULL ? PQntuples(result) : -1;

    PQclear(result);
    return count;
}

static enum store_answer install_trigger(struct store_connection *connection, const struct patience *patience,
                                         struct error *error) {
    const char *table = connection->store->config->table_name;
    struct buffer channel = {0}, function = {0};
    enum store_answer answer = STORE_OK;
    char sql[1024];
    int rows = has_trigger(connection, "curlew_notify", patience, error);
    int truncate = rows >= 0 ? has_trigger(connection, "curlew_notify_truncate", patience, error) : -1;

    if (rows < 0 || truncate < 0 || !postgres_channel(connection, patience, &channel, error)) {
        buffer_dispose(&channel);
        return postgres_failure(connection);
    }
    if (rows == 0 || truncate == 0) {
        append_function(&function, table, channel.data);
        answer = change(connection, function.data, patience, error);
        buffer_dispose(&function);
    }
    if (rows == 0 && answer == STORE_OK) {
        snprintf(sql, sizeof sql,
                 "CREATE TRIGGER curlew_notify AFTER INSERT OR UPDATE OR DELETE ON \"%s\" FOR EACH ROW "
                 "EXECUTE FUNCTION \"%s_curlew_notify\"()",
                 table, table);
        answer = change(connection, sql, patience, error);
    }
    if (truncate == 0 && answer == STORE_OK) {
        snprintf(sql, sizeof sql,
                 "CREATE TRIGGER curlew_notify_truncate AFTER TRUNCATE ON \"%s\" FOR EACH STATEMENT "
                 "EXECUTE FUNCTION \"%s_curlew_notify\"()",
                 table, table);
        answer = change(connection, sql, patience, error);
    }
    buffer_dispose(&channel);
    return answer;
}

/* --- all of it --- */

static enum store_answer run_alone(struct store_connection *connection, const struct patience *patience,
                                   struct error *error) {
    PGresult *result;
    enum store_answer answer;

    /* Servers that start at the same instant do this one after another. */
    result = postgres_run(connection, "SELECT pg_advisory_xact_lock(hashtext('curlew ' || $1))", 1,
                          (const char *const[]){connection->store->config->table_name}, patience, error);
    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    answer = bring_table_up_to_date(connection, patience, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    if (!read_columns(connection, patience, error))
        return postgres_failure(connection);
    if ((columns(connection) & row_required_fields) != row_required_fields)
        return STORE_OK; /* postgres_look says so */
    return install_trigger(connection, patience, error);
}

enum store_answer postgres_prepare(struct store_connection *connection, const struct patience *patience,
                                   struct error *error) {
    PGresult *result = postgres_run(connection, "BEGIN", 0, NULL, patience, error);
    enum store_answer answer;

    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    answer = run_alone(connection, patience, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    result = postgres_run(connection, "COMMIT", 0, NULL, patience, error);
    if (result == NULL)
        return postgres_failure(connection);
    PQclear(result);
    connection->looked = false;
    return postgres_look(connection, patience, error);
}
