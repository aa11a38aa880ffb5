/*
 * The PostgreSQL driver. Statements are sent with their parameters apart, and every wait for the server ends with the
 * operation's deadline.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/name_conflict.h"
#include "store/postgres/postgres_internal.h"
#include "store/row.h"

static struct app_store *postgres_open(const struct config *config, const struct app_defaults *defaults,
                                       struct error *error) {
    struct postgres_store *store;

    /* What is longer PostgreSQL cuts in silence. */
    if (!row_name_valid(config->database.postgres.table_name, "", 63, "database.postgres.table_name", error))
        return NULL;
    store = alloc_zero(sizeof *store);
    store->config = &config->database.postgres;
    store->defaults = defaults;
    store->timeout_ms = config->app_manager.lookup_timeout_ms;
    return &store->base;
}

static void postgres_close(struct app_store *base) {
    struct postgres_store *store = postgres_store_of(base);

    free(store);
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

static json_t *read_row(const struct postgres_connection *connection, const PGresult *result, int row) {
    json_t *record = json_object();
    int column = 0;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (connection->fields[i].kind == POSTGRES_ABSENT)
            continue;
        if (!PQgetisnull(result, row, column))
            row_set_text(record, (enum app_field)i, postgres_value(result, row, column));
        column++;
    }
    return record;
}

static PGresult *select_rows(struct postgres_connection *connection, const char *behind, int count,
                             const char *const *values, struct error *error) {
    struct buffer sql = {0};
    PGresult *result;

    buffer_appendf(&sql, "SELECT ");
    row_append_columns(&sql, postgres_columns(connection), '"', "");
    buffer_appendf(&sql, " FROM \"%s\" %s", connection->store->config->table_name, behind);
    buffer_append_byte(&sql, '\0');
    result = postgres_run(connection, sql.data, count, values, error);
    buffer_dispose(&sql);
    return result;
}

/* What finds one app compares with `=` first, since that can use the index. A column's collation may take different
 * bytes for the same; the very same bytes are asked for again. */
#define SAME_ID "WHERE id = $1 AND id = $1 COLLATE \"C\""
#define SAME_KEY "WHERE \"key\" = $1 AND \"key\" = $1 COLLATE \"C\""

/* PostgreSQL's texts are UTF-8 without zero bytes; no name is anything else. */
static bool can_be_sent(struct slice name) {
    json_t *text;

    if (memchr(name.data, '\0', name.length) != NULL)
        return false;
    text = json_stringn(name.data, name.length);
    json_decref(text);
    return text != NULL;
}

static void warn_of_two(const PGresult *result, const struct postgres_connection *connection) {
    json_t *first = read_row(connection, result, 0), *second = read_row(connection, result, 1);

    log_error("app", "apps %s and %s have the same key; the first one counts",
              json_string_value(json_object_get(first, "id")), json_string_value(json_object_get(second, "id")));
    json_decref(first);
    json_decref(second);
}

static enum store_answer find(struct postgres_connection *connection, const char *condition, struct slice name,
                              struct app **app, struct error *error) {
    enum store_answer answer = postgres_look(connection, error);
    char *value;
    PGresult *result;

    if (answer != STORE_OK)
        return answer;
    if (name.length == 0 || !can_be_sent(name))
        return STORE_NOT_FOUND;
    value = alloc_copy(name.data, name.length);
    result = select_rows(connection, condition, 1, (const char *const[]){value}, error);
    free(value);
    if (result == NULL)
        return postgres_failure(connection);
    if (PQntuples(result) > 1)
        warn_of_two(result, connection);
    answer = PQntuples(result) == 0
                 ? STORE_NOT_FOUND
                 : row_to_app(read_row(connection, result, 0), connection->store->defaults, app, error);
    PQclear(result);
    return answer;
}

static enum store_answer postgres_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                             struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);

    return find(connection, SAME_ID, id, app, error);
}

static enum store_answer postgres_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                              struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_look(connection, error);

    if (answer != STORE_OK)
        return answer;
    return find(connection,
                connection->has_created_at ? SAME_KEY " ORDER BY created_at, id LIMIT 2"
                                           : SAME_KEY " ORDER BY id LIMIT 2",
                key, app, error);
}

static enum store_answer postgres_list(struct store_connection *base, struct slice after, size_t limit,
                                       store_list_function *each, void *context, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_look(connection, error);
    char number[32], *id;
    PGresult *result;

    if (answer != STORE_OK)
        return answer;
    snprintf(number, sizeof number, "%zu", limit);
    id = alloc_copy(after.data, after.length);
    result = select_rows(connection, "WHERE id > $1 ORDER BY id LIMIT $2::bigint", 2, (const char *const[]){id, number},
                         error);
    free(id);
    if (result == NULL)
        return postgres_failure(connection);
    for (int row = 0; row < PQntuples(result); row++)
        row_to_list(read_row(connection, result, row), connection->store->defaults, each, context);
    PQclear(result);
    return STORE_OK;
}

static enum store_answer postgres_check_health(struct store_connection *base, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    char sql[128];
    PGresult *result;

    /* Of the table: what else the server may answer is of no use. */
    snprintf(sql, sizeof sql, "SELECT 1 FROM \"%s\" WHERE id = ''", connection->store->config->table_name);
    result = postgres_run(connection, sql, 0, NULL, error);
    PQclear(result);
    return result != NULL ? STORE_OK : postgres_failure(connection);
}

/* --- writing --- */

/* The parameters of a write: the app's fields that have a column, as texts. */
struct parameters {
    int count;
    struct row_value values[APP_FIELD_COUNT];
    char numbers[APP_FIELD_COUNT][16];
    const char *texts[APP_FIELD_COUNT + 1];
};

static const char *parameter(const struct postgres_field *field, const struct row_value *value, char number[16]) {
    switch (value->kind) {
    case ROW_TEXT:
        return value->text.data;
    case ROW_FLAG:
        /* A flag may be kept as a number, by others. */
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

static void parameters_init(struct parameters *parameters, const struct postgres_connection *connection,
                            const struct app *app) {
    parameters->count = 0;
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        int at = parameters->count;
        if (connection->fields[i].kind == POSTGRES_ABSENT)
            continue;
        row_value_init(&parameters->values[at], app, (enum app_field)i);
        parameters->texts[at] = parameter(&connection->fields[i], &parameters->values[at], parameters->numbers[at]);
        parameters->count++;
    }
}

static void parameters_dispose(struct parameters *parameters) {
    for (int i = 0; i < parameters->count; i++)
        row_value_dispose(&parameters->values[i]);
}

static PGresult *run_write(struct postgres_connection *connection, struct buffer *sql, const struct app *app,
                           struct error *error) {
    struct parameters parameters;
    PGresult *result;

    buffer_append_byte(sql, '\0');
    parameters_init(&parameters, connection, app);
    result = postgres_run(connection, sql->data, parameters.count, parameters.texts, error);
    parameters_dispose(&parameters);
    buffer_dispose(sql);
    return result;
}

/* Who has the key besides `id`: its id into `owner`; false if nobody, or with `answer` other than STORE_OK. */
static bool key_owner(struct postgres_connection *connection, const struct app *app, char owner[256],
                      enum store_answer *answer, struct error *error) {
    char sql[512];
    PGresult *result;
    bool taken;

    snprintf(sql, sizeof sql, "SELECT id FROM \"%s\" WHERE \"key\" = $1 AND id <> $2 LIMIT 1",
             connection->store->config->table_name);
    result = postgres_run(connection, sql, 2, (const char *const[]){app->key.data, app->id.data}, error);
    *answer = result != NULL ? STORE_OK : postgres_failure(connection);
    taken = result != NULL && PQntuples(result) > 0;
    if (taken)
        snprintf(owner, 256, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return taken;
}

/* STORE_OK if the key is free. */
static enum store_answer check_key(struct postgres_connection *connection, const struct app *app, struct error *error) {
    enum store_answer answer;
    char owner[256];

    if (!key_owner(connection, app, owner, &answer, error))
        return answer;
    return conflict_key_taken(slice_of(owner), error);
}

/* STORE_OK if the id is free. */
static enum store_answer check_id(struct postgres_connection *connection, const struct app *app, struct error *error) {
    struct app *other = NULL;
    enum store_answer answer = find(connection, SAME_ID, app->id, &other, error);

    app_unref(other);
    switch (answer) {
    case STORE_NOT_FOUND:
        return STORE_OK;
    case STORE_OK:
    case STORE_INVALID:
        return conflict_id_taken(app->id, error);
    default:
        return answer;
    }
}

/* A write failed: was it because of a name that is taken? */
static enum store_answer explain_write(struct postgres_connection *connection, const struct app *app, bool creates,
                                       struct error *error) {
    enum store_answer failure = postgres_failure(connection), answer;
    struct error said = *error;

    if (strcmp(connection->sqlstate, "23505") != 0) /* unique_violation */
        return failure;
    answer = check_key(connection, app, error);
    if (answer != STORE_OK)
        return answer;
    answer = creates ? check_id(connection, app, error) : STORE_OK;
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
    enum store_answer answer = postgres_look_for(connection, app, error);
    struct buffer sql = {0};
    PGresult *result;
    int at = 0;

    if (answer == STORE_OK)
        answer = check_id(connection, app, error);
    if (answer == STORE_OK)
        answer = check_key(connection, app, error);
    if (answer != STORE_OK)
        return answer;
    buffer_appendf(&sql, "INSERT INTO \"%s\" (", connection->store->config->table_name);
    row_append_columns(&sql, postgres_columns(connection), '"', "");
    buffer_appendf(&sql, ") SELECT ");
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (connection->fields[i].kind == POSTGRES_ABSENT)
            continue;
        buffer_appendf(&sql, "%s", at > 0 ? ", " : "");
        append_cast(&sql, &connection->fields[i], ++at);
    }
    result = run_write(connection, &sql, app, error);
    if (result == NULL)
        return explain_write(connection, app, true, error);
    PQclear(result);
    return STORE_OK;
}

static bool changed_a_row(PGresult *result) {
    bool changed = strcmp(PQcmdTuples(result), "0") != 0;

    PQclear(result);
    return changed;
}

static enum store_answer postgres_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_look_for(connection, app, error);
    struct buffer sql = {0};
    PGresult *result;
    int at = 0;

    if (answer == STORE_OK)
        answer = check_key(connection, app, error);
    if (answer != STORE_OK)
        return answer;
    buffer_appendf(&sql, "UPDATE \"%s\" SET ", connection->store->config->table_name);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (connection->fields[i].kind == POSTGRES_ABSENT)
            continue;
        buffer_appendf(&sql, "%s\"%s\" = ", at > 0 ? ", " : "", app_fields[i].name);
        append_cast(&sql, &connection->fields[i], ++at);
    }
    if (connection->has_updated_at)
        buffer_appendf(&sql, ", updated_at = CURRENT_TIMESTAMP");
    buffer_appendf(&sql, " " SAME_ID); /* APP_ID is the first field */
    result = run_write(connection, &sql, app, error);
    if (result == NULL)
        return explain_write(connection, app, false, error);
    return changed_a_row(result) ? STORE_OK : conflict_no_such_app(app->id, error);
}

static enum store_answer postgres_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct postgres_connection *connection = postgres_connection_of(base);
    enum store_answer answer = postgres_look(connection, error);
    PGresult *result;
    char sql[512], *value;

    if (answer != STORE_OK)
        return answer;
    if (!can_be_sent(id))
        return conflict_no_such_app(id, error);
    value = alloc_copy(id.data, id.length);
    snprintf(sql, sizeof sql, "DELETE FROM \"%s\" " SAME_ID, connection->store->config->table_name);
    result = postgres_run(connection, sql, 1, (const char *const[]){value}, error);
    free(value);
    if (result == NULL)
        return postgres_failure(connection);
    return changed_a_row(result) ? STORE_OK : conflict_no_such_app(id, error);
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
