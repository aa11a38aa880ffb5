/*
 * The MySQL and MariaDB driver: libmariadb's calls that do not block, with waits of our own between them, so that every
 * operation ends with its patience.
 */
#include "app/store/mysql.h"

#include <mysqld_error.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

static struct app_store *mysql_store_open(const struct config *config, const struct app_defaults *defaults,
                                          struct error *error) {
    struct app_store *store;

    if (!row_name_valid(config->database.mysql.table_name, "", "database.mysql.table_name", error))
        return NULL;
    store = alloc_zero(sizeof *store);
    *store = (struct app_store){&config->database.mysql, defaults};
    return store;
}

static void mysql_store_close(struct app_store *store) {
    free(store);
}

static struct mysql_parameter parameter_of(struct slice text) {
    return (struct mysql_parameter){text.length != 0 ? text.data : "", text.length};
}

/* --- reading --- */

static void append_columns(struct buffer *sql, uint32_t columns, const char *behind) {
    const char *between = "";

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if ((columns >> i & 1) == 0)
            continue;
        buffer_appendf(sql, "%s`%s`%s", between, app_fields[i].name, behind);
        between = ", ";
    }
}

static json_t *read_row(const struct store_connection *connection, const struct mysql_rows *rows) {
    json_t *record = json_object();
    unsigned column = 0;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if ((connection->columns >> i & 1) == 0)
            continue;
        if (!rows->nulls[column])
            row_set_text(record, (enum app_field)i, buffer_slice(&rows->values[column]));
        column++;
    }
    return record;
}

static bool select_rows(struct store_connection *connection, const char *behind,
                        const struct mysql_parameter *parameters, unsigned count, const struct patience *patience,
                        struct mysql_rows *rows, struct error *error) {
    struct buffer sql = {0};
    bool done;

    buffer_appendf(&sql, "SELECT ");
    append_columns(&sql, connection->columns, "");
    buffer_appendf(&sql, " FROM `%s` %s", connection->store->config->table_name, behind);
    done = mysql_store_run(connection, buffer_slice(&sql), parameters, count, patience, rows, error);
    buffer_dispose(&sql);
    return done;
}

static bool names(const json_t *record, enum app_field field, struct slice name) {
    const json_t *text = json_object_get(record, app_fields[field].name);

    return json_is_string(text) && slice_equal((struct slice){json_string_value(text), json_string_length(text)}, name);
}

/* The first of the rows whose field is `name` byte by byte: a collation may take others for equal. */
static json_t *first_named(const struct store_connection *connection, struct mysql_rows *rows, enum app_field field,
                           struct slice name) {
    json_t *first = NULL;

    while (mysql_rows_next(rows)) {
        json_t *record = read_row(connection, rows);
        if (!names(record, field, name)) {
            json_decref(record);
        } else if (first == NULL) {
            first = record;
        } else {
            log_error("app", "apps %s and %s have the same %s; the first one counts",
                      json_string_value(json_object_get(first, "id")), json_string_value(json_object_get(record, "id")),
                      app_fields[field].name);
            json_decref(record);
        }
    }
    return first;
}

/* Bytes that are no UTF-8 are in no column. */
static bool can_be_sent(struct slice name) {
    json_t *text = json_stringn(name.data, name.length);

    json_decref(text);
    return text != NULL;
}

static enum store_answer find(struct store_connection *connection, enum app_field field, struct slice name,
                              const struct patience *patience, struct app **app, struct error *error) {
    enum store_answer answer = mysql_store_look(connection, patience, error);
    const struct mysql_parameter parameter = parameter_of(name);
    struct mysql_rows rows;
    json_t *record;
    char behind[128];

    if (answer != STORE_OK)
        return answer;
    if (name.length == 0 || !can_be_sent(name))
        return STORE_NOT_FOUND;
    snprintf(behind, sizeof behind, "WHERE `%s` = ? ORDER BY %s`id` LIMIT 10", app_fields[field].name,
             connection->has_created_at ? "created_at, " : "");
    if (!select_rows(connection, behind, &parameter, 1, patience, &rows, error))
        return mysql_store_failure(connection);
    record = first_named(connection, &rows, field, name);
    mysql_rows_dispose(&rows);
    return record != NULL ? row_to_app(record, connection->store->defaults, app, error) : STORE_NOT_FOUND;
}

static enum store_answer mysql_find_by_id(struct store_connection *connection, struct slice id,
                                          const struct patience *patience, struct app **app, struct error *error) {
    return find(connection, APP_ID, id, patience, app, error);
}

static enum store_answer mysql_find_by_key(struct store_connection *connection, struct slice key,
                                           const struct patience *patience, struct app **app, struct error *error) {
    return find(connection, APP_KEY, key, patience, app, error);
}

static enum store_answer mysql_list(struct store_connection *connection, struct slice after, size_t limit,
                                    const struct patience *patience, store_list_function *each, void *context,
                                    struct error *error) {
    enum store_answer answer = mysql_store_look(connection, patience, error);
    const struct mysql_parameter parameter = parameter_of(after);
    struct mysql_rows rows;
    char behind[128];

    if (answer != STORE_OK)
        return answer;
    snprintf(behind, sizeof behind, "WHERE `id` > ? ORDER BY `id` LIMIT %zu", limit);
    if (!select_rows(connection, behind, &parameter, 1, patience, &rows, error))
        return mysql_store_failure(connection);
    while (mysql_rows_next(&rows))
        row_to_list(read_row(connection, &rows), connection->store->defaults, each, context);
    mysql_rows_dispose(&rows);
    return STORE_OK;
}

static enum store_answer mysql_check_health(struct store_connection *connection, const struct patience *patience,
                                            struct error *error) {
    struct mysql_rows rows;

    if (!mysql_store_run(connection, SLICE("SELECT 1"), NULL, 0, patience, &rows, error))
        return mysql_store_failure(connection);
    mysql_rows_dispose(&rows);
    return STORE_OK;
}

/* --- writing --- */

/* The fields that have a column, as texts; room for the id once more. */
struct parameters {
    unsigned count;
    unsigned owned;
    struct row_value values[APP_FIELD_COUNT];
    char numbers[APP_FIELD_COUNT][16];
    struct mysql_parameter list[APP_FIELD_COUNT + 1];
};

static struct mysql_parameter parameter(const struct row_value *value, char number[16]) {
    switch (value->kind) {
    case ROW_TEXT:
        return parameter_of(value->text);
    case ROW_FLAG:
        return parameter_of(value->flag ? SLICE("1") : SLICE("0"));
    case ROW_NUMBER:
        snprintf(number, 16, "%u", value->number);
        return parameter_of(slice_of(number));
    case ROW_NULL:
        break;
    }
    return (struct mysql_parameter){NULL, 0};
}

static void parameters_init(struct parameters *parameters, uint32_t columns, const struct app *app) {
    parameters->count = 0;
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        unsigned at = parameters->count;
        if ((columns >> i & 1) == 0)
            continue;
        row_value_init(&parameters->values[at], app, (enum app_field)i);
        parameters->list[at] = parameter(&parameters->values[at], parameters->numbers[at]);
        parameters->count++;
    }
    parameters->owned = parameters->count;
}

static void parameters_dispose(struct parameters *parameters) {
    for (unsigned i = 0; i < parameters->owned; i++)
        row_value_dispose(&parameters->values[i]);
}

static bool run_write(struct store_connection *connection, struct buffer *sql, const struct app *app, bool id_last,
                      const struct patience *patience, uint64_t *affected, struct error *error) {
    struct parameters parameters;
    struct mysql_rows rows;
    bool done;

    parameters_init(&parameters, connection->columns, app);
    if (id_last)
        parameters.list[parameters.count++] = parameter_of(app->id);
    done = mysql_store_run(connection, buffer_slice(sql), parameters.list, parameters.count, patience, &rows, error);
    if (done) {
        *affected = rows.affected;
        mysql_rows_dispose(&rows);
    }
    parameters_dispose(&parameters);
    buffer_dispose(sql);
    return done;
}

/* STORE_OK, or whose a name is already. */
static enum store_answer check_names(struct store_connection *connection, const struct app *app, bool creates,
                                     const struct patience *patience, struct error *error) {
    const struct mysql_parameter parameters[] = {parameter_of(app->id), parameter_of(app->key)};
    enum store_answer answer = STORE_OK;
    struct mysql_rows rows;
    char sql[512];

    snprintf(sql, sizeof sql, "SELECT `id`, `id` = ? FROM `%s` WHERE `id` = ? OR `key` = ?",
             connection->store->config->table_name);
    if (!mysql_store_run(connection, slice_of(sql),
                         (const struct mysql_parameter[]){parameters[0], parameters[0], parameters[1]}, 3, patience,
                         &rows, error))
        return mysql_store_failure(connection);
    while (answer != STORE_ID_TAKEN && mysql_rows_next(&rows)) {
        bool own = slice_equal(buffer_slice(&rows.values[1]), SLICE("1"));
        if (own && creates) {
            error_set(error, "there is already an app with the id %s", app->id.data);
            answer = STORE_ID_TAKEN;
        } else if (!own) {
            error_set(error, "the key is already that of app %.*s", SLICE_ARGS(buffer_slice(&rows.values[0])));
            answer = STORE_KEY_TAKEN;
        }
    }
    mysql_rows_dispose(&rows);
    return answer;
}

/* A write failed: was it because of a name that is taken? */
static enum store_answer explain_write(struct store_connection *connection, const struct app *app, bool creates,
                                       const struct patience *patience, struct error *error) {
    enum store_answer failure = mysql_store_failure(connection), answer;
    struct error said = *error;

    if (connection->code != ER_DUP_ENTRY)
        return failure;
    answer = check_names(connection, app, creates, patience, error);
    if (answer != STORE_OK)
        return answer;
    *error = said;
    return failure;
}

static enum store_answer mysql_create(struct store_connection *connection, const struct app *app,
                                      const struct patience *patience, struct error *error) {
    enum store_answer answer = mysql_store_look(connection, patience, error);
    struct buffer sql = {0};
    uint64_t affected;

    if (answer == STORE_OK)
        answer = check_names(connection, app, true, patience, error);
    if (answer != STORE_OK)
        return answer;
    buffer_appendf(&sql, "INSERT INTO `%s` (", connection->store->config->table_name);
    append_columns(&sql, connection->columns, "");
    buffer_appendf(&sql, ") VALUES (?");
    for (int i = 1; i < __builtin_popcount(connection->columns); i++)
        buffer_appendf(&sql, ", ?");
    buffer_appendf(&sql, ")");
    if (run_write(connection, &sql, app, false, patience, &affected, error))
        return STORE_OK;
    return explain_write(connection, app, true, patience, error);
}

static enum store_answer missing(struct slice id, struct error *error) {
    error_set(error, "there is no app with the id %.*s", SLICE_ARGS(id));
    return STORE_NOT_FOUND;
}

static enum store_answer mysql_update(struct store_connection *connection, const struct app *app,
                                      const struct patience *patience, struct error *error) {
    enum store_answer answer = mysql_store_look(connection, patience, error);
    struct buffer sql = {0};
    uint64_t affected;

    if (answer == STORE_OK)
        answer = check_names(connection, app, false, patience, error);
    if (answer != STORE_OK)
        return answer;
    buffer_appendf(&sql, "UPDATE `%s` SET ", connection->store->config->table_name);
    append_columns(&sql, connection->columns, " = ?");
    if (connection->has_updated_at)
        buffer_appendf(&sql, ", updated_at = CURRENT_TIMESTAMP");
    buffer_appendf(&sql, " WHERE `id` = ?");
    if (!run_write(connection, &sql, app, true, patience, &affected, error))
        return explain_write(connection, app, false, patience, error);
    return affected != 0 ? STORE_OK : missing(app->id, error);
}

static enum store_answer mysql_remove(struct store_connection *connection, struct slice id,
                                      const struct patience *patience, struct error *error) {
    enum store_answer answer = mysql_store_look(connection, patience, error);
    const struct mysql_parameter parameter = parameter_of(id);
    struct mysql_rows rows;
    uint64_t affected;
    char sql[512];

    if (answer != STORE_OK)
        return answer;
    if (!can_be_sent(id))
        return missing(id, error);
    snprintf(sql, sizeof sql, "DELETE FROM `%s` WHERE `id` = ?", connection->store->config->table_name);
    if (!mysql_store_run(connection, slice_of(sql), &parameter, 1, patience, &rows, error))
        return mysql_store_failure(connection);
    affected = rows.affected;
    mysql_rows_dispose(&rows);
    return affected != 0 ? STORE_OK : missing(id, error);
}

const struct app_store_driver mysql_store_driver = {
    .name = "mysql",
    .open = mysql_store_open,
    .close = mysql_store_close,
    .connect = mysql_store_connect,
    .disconnect = mysql_store_disconnect,
    .prepare = mysql_store_prepare,
    .find_by_id = mysql_find_by_id,
    .find_by_key = mysql_find_by_key,
    .list = mysql_list,
    .create = mysql_create,
    .update = mysql_update,
    .remove = mysql_remove,
    .check_health = mysql_check_health,
};
