#include <stdlib.h>
#include <string.h>

#include "app/record_json.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "store/drivers.h"
#include "store/name_conflict.h"
#include "store/postgres/postgres_internal.h"
#include "store/row.h"

static struct app_store *postgres_open(const struct config *config, const struct app_defaults *defaults,
                                       struct error *error) {
    struct postgres_store *store;

    /* PostgreSQL cuts longer names without an error. */
    if (!row_name_valid(config->database.postgres.table_name, "", 63, "database.postgres.table_name", error))
        return NULL;
    store = alloc_zero(sizeof *store);
    store->config = &config->database.postgres;
    store->defaults = defaults;
    store->timeout_ms = config->app_manager.lookup_timeout_ms;
    return &store->base;
}

static void postgres_close(struct app_store *base) {
    free(postgres_store_of(base));
}

static struct store_connection *postgres_connect(struct app_store *base, const struct deadline *deadline,
                                                 struct error *error) {
    struct postgres_connection *connection = postgres_open_connection(postgres_store_of(base), deadline, error);

    return connection != NULL ? &connection->base : NULL;
}

static void postgres_disconnect(struct store_connection *base) {
    postgres_close_connection(postgres_connection_of(base));
}

/* --- reading --- */

static json_t *read_postgres_row(const struct postgres_connection *connection, const PGresult *result, int row) {
    json_t *record = json_object();
    int column = 0;

    for_each_field(i, postgres_columns(connection)) {
        if (!PQgetisnull(result, row, column))
            row_set_text(record, (enum app_field)i, postgres_value(result, row, column));
        column++;
    }
    return record;
}

static PGresult *select_postgres_rows(struct postgres_connection *connection, const char *clause, int count,
                                      const char *const *values, struct error *error) {
    struct buffer sql = {0};
    PGresult *result;

    buffer_appendf(&sql, "SELECT ");
    row_append_columns(&sql, postgres_columns(connection), '"', "");
    buffer_appendf(&sql, " FROM \"%s\" %s", connection->store->config->table_name, clause);
    result = postgres_run(connection, buffer_string(&sql), count, values, error);
    buffer_dispose(&sql);
    return result;
}

/* `=` can use the index; COLLATE "C" then rejects rows that only the column's collation takes for equal. */
#define SAME_ID "WHERE id = $1 AND id = $1 COLLATE \"C\""
#define SAME_KEY "WHERE \"key\" = $1 AND \"key\" = $1 COLLATE \"C\""

/* PostgreSQL's texts are UTF-8 without zero bytes; anything else is in no table. */
static bool is_postgres_text(struct slice text) {
    return text.length == 0 || (utf8_valid(text) && memchr(text.data, '\0', text.length) == NULL);
}

static void report_shared_key(const PGresult *result, const struct postgres_connection *connection) {
    json_t *first = read_postgres_row(connection, result, 0), *second = read_postgres_row(connection, result, 1);

    conflict_log_shared_key(record_member(first, "id"), record_member(second, "id"));
    json_decref(first);
    json_decref(second);
}

static enum store_answer find_postgres_app(struct postgres_connection *connection, const char *condition,
                                           struct slice name, struct app **app, struct error *error) {
    enum store_answer answer = postgres_know_columns(connection, error);
    char *value;
    PGresult *result;

    if (answer != STORE_OK)
        return answer;
    if (name.length == 0 || !is_postgres_text(name))
        return STORE_NOT_FOUND;
    value = alloc_copy(name.data, name.length);
    result = select_postgres_rows(connection, condition, 1, (const char *const[]){value}, error);
    free(value);
    if (result == NULL)
        return postgres_failure(connection);
    if (PQntuples(result) > 1)
        report_shared_key(result, connection);
    answer = PQntuples(result) == 0
                 ? STORE_NOT_FOUND
                 : row_to_app(read_postgres_row(connection, result, 0), connection->store->defaults, app, error);
    PQclear(result);
    return answer;
}

static enum store_answer postgres_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                             struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);

    return find_postgres_app(connection, SAME_ID, id, app, error);
}

static enum store_answer postgres_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                              struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_know_columns(connection, error);

    if (answer != STORE_OK)
        return answer;
    return find_postgres_app(connection,
                             connection->has_created_at ? SAME_KEY " ORDER BY created_at, id LIMIT 2"
                                                        : SAME_KEY " ORDER BY id LIMIT 2",
                             key, app, error);
}

static enum store_answer postgres_list(struct store_connection *base, struct slice after, size_t limit,
                                       store_list_function *each, void *context, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_know_columns(connection, error);
    char number[32], *id;
    PGresult *result;

    if (answer != STORE_OK)
        return answer;
    snprintf(number, sizeof number, "%zu", limit);
    id = alloc_copy(after.data, after.length);
    result = select_postgres_rows(connection, "WHERE id > $1 ORDER BY id LIMIT $2::bigint", 2,
                                  (const char *const[]){id, number}, error);
    free(id);
    if (result == NULL)
        return postgres_failure(connection);
    for (int row = 0; row < PQntuples(result); row++)
        row_to_list(read_postgres_row(connection, result, row), connection->store->defaults, each, context);
    PQclear(result);
    return STORE_OK;
}

static enum store_answer postgres_check_health(struct store_connection *base, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    char sql[128];
    PGresult *result;

    /* Reads the table, since only a server that can read it is of use. */
    snprintf(sql, sizeof sql, "SELECT 1 FROM \"%s\" WHERE id = ''", connection->store->config->table_name);
    result = postgres_run(connection, sql, 0, NULL, error);
    PQclear(result);
    return result != NULL ? STORE_OK : postgres_failure(connection);
}

/* --- writing --- */

/* The parameters of a write: the fields of the app that have a column, as texts. */
struct write_parameters {
    int count;
    struct row_value values[APP_FIELD_COUNT];
    char numbers[APP_FIELD_COUNT][16];
    const char *texts[APP_FIELD_COUNT];
};

static const char *parameter_text(const struct postgres_field *field, const struct row_value *value, char number[16]) {
    switch (value->kind) {
    case ROW_TEXT:
        return value->text.data;
    case ROW_FLAG:
        /* Other servers may have made the column a number. */
        return strcmp(field->type, "boolean") == 0 ? (value->flag ? "true" : "false") : (value->flag ? "1" : "0");
    case ROW_NUMBER:
        if (field->kind == POSTGRES_NARROW)
            snprintf(number, 16, "%d", (int32_t)value->number);
        else
            snprintf(number, 16, "%u", value->number);
        return number;
    case ROW_NULL:
        break;
    }
    return NULL;
}

static void write_parameters_init(struct write_parameters *parameters, const struct postgres_connection *connection,
                                  const struct app *app) {
    parameters->count = 0;
    for_each_field(i, postgres_columns(connection)) {
        int at = parameters->count;
        row_value_init(&parameters->values[at], app, (enum app_field)i);
        parameters->texts[at] =
            parameter_text(&connection->fields[i], &parameters->values[at], parameters->numbers[at]);
        parameters->count++;
    }
}

static void write_parameters_dispose(struct write_parameters *parameters) {
    for (int i = 0; i < parameters->count; i++)
        row_value_dispose(&parameters->values[i]);
}

/* Runs a write whose parameters are the fields of the app. Disposes of `sql`. */
static PGresult *run_postgres_write(struct postgres_connection *connection, struct buffer *sql, const struct app *app,
                                    struct error *error) {
    struct write_parameters parameters;
    PGresult *result;

    write_parameters_init(&parameters, connection, app);
    result = postgres_run(connection, buffer_string(sql), parameters.count, parameters.texts, error);
    write_parameters_dispose(&parameters);
    buffer_dispose(sql);
    return result;
}

static enum store_answer postgres_id_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                           struct error *error) {
    struct app *found = NULL;
    enum store_answer answer = postgres_find_by_id(base, app->id, &found, error);

    app_unref(found);
    if (answer == STORE_OK || answer == STORE_INVALID) { /* a broken record has its id, too */
        buffer_append(owner, app->id);
        return STORE_OK;
    }
    return answer;
}

static enum store_answer postgres_key_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                            struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer;
    PGresult *result;
    char sql[512];

    snprintf(sql, sizeof sql, "SELECT id FROM \"%s\" WHERE \"key\" = $1 AND id <> $2 LIMIT 1",
             connection->store->config->table_name);
    result = postgres_run(connection, sql, 2, (const char *const[]){app->key.data, app->id.data}, error);
    if (result == NULL)
        return postgres_failure(connection);
    answer = PQntuples(result) > 0 ? STORE_OK : STORE_NOT_FOUND;
    if (answer == STORE_OK)
        buffer_append(owner, postgres_value(result, 0, 0));
    PQclear(result);
    return answer;
}

static const struct conflict_lookups postgres_lookups = {postgres_id_owner, postgres_key_owner};

/* The answer for a write that failed. If the server refused a duplicate, looks again to say of which name. */
static enum store_answer explain_postgres_write(struct postgres_connection *connection, const struct app *app,
                                                bool creates, struct error *error) {
    enum store_answer failure = postgres_failure(connection), answer;
    struct error said = *error;

    if (strcmp(connection->sqlstate, "23505") != 0) /* unique_violation */
        return failure;
    answer = creates ? conflict_check_create(&connection->base, &postgres_lookups, app, error)
                     : conflict_check_key(&connection->base, &postgres_lookups, app, error);
    if (answer != STORE_OK)
        return answer;
    *error = said;
    return failure;
}

static void append_cast(struct buffer *sql, const struct postgres_field *field, int at) {
    buffer_appendf(sql, "$%d::%s", at, field->type);
}

static enum store_answer postgres_create(struct store_connection *base, const struct app *app, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_know_columns_for(connection, app, error);
    struct buffer sql = {0};
    PGresult *result;
    int at = 0;

    if (answer == STORE_OK)
        answer = conflict_check_create(base, &postgres_lookups, app, error);
    if (answer != STORE_OK)
        return answer;
    buffer_appendf(&sql, "INSERT INTO \"%s\" (", connection->store->config->table_name);
    row_append_columns(&sql, postgres_columns(connection), '"', "");
    buffer_appendf(&sql, ") SELECT ");
    for_each_field(i, postgres_columns(connection)) {
        buffer_appendf(&sql, "%s", at > 0 ? ", " : "");
        append_cast(&sql, &connection->fields[i], ++at);
    }
    result = run_postgres_write(connection, &sql, app, error);
    if (result == NULL)
        return explain_postgres_write(connection, app, true, error);
    PQclear(result);
    return STORE_OK;
}

/* Whether the write changed a row. Clears the result. */
static bool changed_row(PGresult *result) {
    bool changed = strcmp(PQcmdTuples(result), "0") != 0;

    PQclear(result);
    return changed;
}

static enum store_answer postgres_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_know_columns_for(connection, app, error);
    struct buffer sql = {0};
    PGresult *result;
    int at = 0;

    if (answer == STORE_OK)
        answer = conflict_check_key(base, &postgres_lookups, app, error);
    if (answer != STORE_OK)
        return answer;
    buffer_appendf(&sql, "UPDATE \"%s\" SET ", connection->store->config->table_name);
    for_each_field(i, postgres_columns(connection)) {
        buffer_appendf(&sql, "%s\"%s\" = ", at > 0 ? ", " : "", app_fields[i].name);
        append_cast(&sql, &connection->fields[i], ++at);
    }
    if (connection->has_updated_at)
        buffer_appendf(&sql, ", updated_at = CURRENT_TIMESTAMP");
    buffer_appendf(&sql, " " SAME_ID); /* APP_ID is the first field */
    result = run_postgres_write(connection, &sql, app, error);
    if (result == NULL)
        return explain_postgres_write(connection, app, false, error);
    return changed_row(result) ? STORE_OK : conflict_no_such_app(app->id, error);
}

static enum store_answer postgres_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_know_columns(connection, error);
    PGresult *result;
    char sql[512], *value;

    if (answer != STORE_OK)
        return answer;
    if (!is_postgres_text(id))
        return conflict_no_such_app(id, error);
    value = alloc_copy(id.data, id.length);
    snprintf(sql, sizeof sql, "DELETE FROM \"%s\" " SAME_ID, connection->store->config->table_name);
    result = postgres_run(connection, sql, 1, (const char *const[]){value}, error);
    free(value);
    if (result == NULL)
        return postgres_failure(connection);
    return changed_row(result) ? STORE_OK : conflict_no_such_app(id, error);
}

const struct app_store_driver postgres_store_driver = {
    .name = "postgres",
    .open = postgres_open,
    .close = postgres_close,
    .connect = postgres_connect,
    .disconnect = postgres_disconnect,
    .prepare = postgres_prepare,
    .inspect = postgres_inspect,
    .find_by_id = postgres_find_by_id,
    .find_by_key = postgres_find_by_key,
    .list = postgres_list,
    .create = postgres_create,
    .update = postgres_update,
    .remove = postgres_remove,
    .check_health = postgres_check_health,
    .watch = postgres_watch,
};
