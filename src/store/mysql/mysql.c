#include <mysqld_error.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "app/record_json.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "store/drivers.h"
#include "store/mysql/mysql_internal.h"
#include "store/name_conflict.h"

static void start_mysql_library(void) {
    mysql_library_init(0, NULL, NULL);
}

static struct app_store *mysql_driver_open(const struct config *config, const struct app_defaults *defaults,
                                           struct error *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct mysql_store *store;

    if (!row_name_valid(config->database.mysql.table_name, "", 64, "database.mysql.table_name", error))
        return NULL;
    pthread_once(&once, start_mysql_library);
    store = alloc_zero(sizeof *store);
    store->config = &config->database.mysql;
    store->defaults = defaults;
    return &store->base;
}

static void mysql_driver_close(struct app_store *base) {
    free(mysql_store_of(base));
}

/* --- reading --- */

static struct row_value text_value(struct slice text) {
    return (struct row_value){.kind = ROW_TEXT, .text = text};
}

static json_t *read_mysql_row(struct mysql_connection *connection, enum mysql_statement which) {
    json_t *record = json_object();
    unsigned column = 0;
    struct slice text;

    for_each_field(i, connection->columns.present)
        if (mysql_driver_column(connection, which, column++, &text))
            row_set_text(record, (enum app_field)i, text);
    return record;
}

/* The next row whose field is the same bytes as `text`; NULL if there is none any more. */
static json_t *next_mysql_match(struct mysql_connection *connection, enum mysql_statement which, enum app_field field,
                                struct slice text) {
    while (mysql_driver_next(connection, which)) {
        json_t *record = read_mysql_row(connection, which);
        if (slice_equal(record_member(record, app_fields[field].name), text))
            return record;
        json_decref(record);
    }
    return NULL;
}

/* Logs a second row with the key, which a table without a unique index can hold. */
static void report_second_match(struct mysql_connection *connection, enum mysql_statement which, const json_t *first,
                                struct slice key) {
    json_t *second = next_mysql_match(connection, which, APP_KEY, key);

    if (second == NULL)
        return;
    conflict_log_shared_key(record_member(first, "id"), record_member(second, "id"));
    json_decref(second);
    mysql_driver_finish(connection, which);
}

static enum store_answer find_mysql_app(struct mysql_connection *connection, enum mysql_statement which,
                                        enum app_field field, struct slice name, struct app **app,
                                        struct error *error) {
    const struct row_value value = text_value(name);
    enum store_answer answer = mysql_driver_begin(connection, error);
    json_t *record;

    if (answer != STORE_OK)
        return answer;
    if (!utf8_valid(name)) /* no column holds it, and servers answer it differently */
        return STORE_NOT_FOUND;
    answer = mysql_driver_run(connection, which, &value, 1, error);
    if (answer != STORE_OK)
        return answer;
    record = next_mysql_match(connection, which, field, name);
    if (record == NULL)
        return STORE_NOT_FOUND;
    if (field == APP_KEY)
        report_second_match(connection, which, record, name);
    else
        mysql_driver_finish(connection, which);
    return row_to_app(record, connection->store->defaults, app, error);
}

static enum store_answer mysql_driver_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                                 struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);

    return find_mysql_app(connection, MYSQL_FIND_BY_ID, APP_ID, id, app, error);
}

static enum store_answer mysql_driver_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                                  struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);

    return find_mysql_app(connection, MYSQL_FIND_BY_KEY, APP_KEY, key, app, error);
}

static enum store_answer mysql_driver_list(struct store_connection *base, struct slice after, size_t limit,
                                           store_list_function *each, void *context, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    const struct row_value values[] = {
        text_value(after),
        {.kind = ROW_NUMBER, .number = limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX},
    };
    enum store_answer answer = mysql_driver_begin(connection, error);

    if (answer == STORE_OK)
        answer = mysql_driver_run(connection, MYSQL_LIST, values, 2, error);
    if (answer != STORE_OK)
        return answer;
    while (mysql_driver_next(connection, MYSQL_LIST))
        row_to_list(read_mysql_row(connection, MYSQL_LIST), connection->store->defaults, each, context);
    return STORE_OK;
}

static enum store_answer mysql_driver_check_health(struct store_connection *base, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    const struct row_value no_id = text_value(SLICE(""));
    enum store_answer answer = mysql_driver_begin(connection, error);

    if (answer == STORE_OK)
        answer = mysql_driver_run(connection, MYSQL_ID_OWNER, &no_id, 1, error);
    if (answer == STORE_OK)
        mysql_driver_finish(connection, MYSQL_ID_OWNER);
    return answer;
}

/* --- writing --- */

/* Which names are the same: those of the same bytes, or also those that the column's collation takes for equal. */
enum sameness { SAME_BYTES, SAME_FOR_COLLATION };

/* Finds an app other than `except` that has the id or key `name`; its id is appended to `owner`. `name` is UTF-8. */
static enum store_answer find_mysql_owner(struct mysql_connection *connection, enum mysql_statement which,
                                          struct slice name, struct slice except, enum sameness sameness,
                                          struct buffer *owner, struct error *error) {
    const struct row_value value = text_value(name);
    enum store_answer answer = mysql_driver_run(connection, which, &value, 1, error);
    struct slice text;

    if (answer != STORE_OK)
        return answer;
    while (mysql_driver_next(connection, which)) {
        if (!mysql_driver_column(connection, which, 1, &text) || (sameness == SAME_BYTES && !slice_equal(text, name)) ||
            !mysql_driver_column(connection, which, 0, &text) || slice_equal(text, except))
            continue;
        buffer_append(owner, text);
        mysql_driver_finish(connection, which);
        return STORE_OK;
    }
    return STORE_NOT_FOUND;
}

static enum store_answer mysql_id_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                        struct error *error) {
    return find_mysql_owner(mysql_connection_of(base), MYSQL_ID_OWNER, app->id, SLICE(""), SAME_BYTES, owner, error);
}

static enum store_answer mysql_key_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                         struct error *error) {
    return find_mysql_owner(mysql_connection_of(base), MYSQL_KEY_OWNER, app->key, app->id, SAME_BYTES, owner, error);
}

static enum store_answer mysql_similar_id_owner(struct store_connection *base, const struct app *app,
                                                struct buffer *owner, struct error *error) {
    return find_mysql_owner(mysql_connection_of(base), MYSQL_ID_OWNER, app->id, SLICE(""), SAME_FOR_COLLATION, owner,
                            error);
}

static enum store_answer mysql_similar_key_owner(struct store_connection *base, const struct app *app,
                                                 struct buffer *owner, struct error *error) {
    return find_mysql_owner(mysql_connection_of(base), MYSQL_KEY_OWNER, app->key, app->id, SAME_FOR_COLLATION, owner,
                            error);
}

/* STORE_OK if no name stands against writing the app. */
static enum store_answer check_mysql_names(struct mysql_connection *connection, enum mysql_statement which,
                                           const struct app *app, enum sameness sameness, struct error *error) {
    static const struct conflict_lookups lookups[] = {
        [SAME_BYTES] = {mysql_id_owner, mysql_key_owner},
        [SAME_FOR_COLLATION] = {mysql_similar_id_owner, mysql_similar_key_owner},
    };

    return which == MYSQL_CREATE ? conflict_check_create(&connection->base, &lookups[sameness], app, error)
                                 : conflict_check_update(&connection->base, &lookups[sameness], app, error);
}

/* The value for a field that is not set but whose column is NOT NULL: the one in force, which means the same. */
static void set_value_in_force(struct row_value *value, const struct app *app, enum app_field field) {
    const char *at = (const char *)app + app_fields[field].offset;

    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        *value = (struct row_value){.kind = ROW_NUMBER, .number = app_number(app, field)};
        break;
    case APP_TYPE_TIME:
        *value = (struct row_value){.kind = ROW_NUMBER, .number = 0};
        break;
    case APP_TYPE_FLAG:
        *value = (struct row_value){.kind = ROW_FLAG, .flag = *(const bool *)at};
        break;
    case APP_TYPE_TEXT:
        *value = text_value(SLICE(""));
        break;
    case APP_TYPE_JSON:
        *value = text_value(SLICE("null"));
        break;
    }
}

static enum store_answer write_mysql_row(struct mysql_connection *connection, enum mysql_statement which,
                                         const struct app *app, struct error *error) {
    const struct mysql_columns *columns = &connection->columns;
    struct row_value values[APP_FIELD_COUNT + 2];
    enum store_answer answer;
    unsigned fields = 0, count;

    for_each_field(i, columns->present) {
        row_value_init(&values[fields], app, (enum app_field)i);
        if (values[fields].kind == ROW_NULL && (columns->mandatory >> i & 1) != 0)
            set_value_in_force(&values[fields], app, (enum app_field)i);
        fields++;
    }
    count = fields;
    if (which == MYSQL_UPDATE)
        for (; count < fields + 2; count++)
            values[count] = text_value(app->id);
    answer = mysql_driver_run(connection, which, values, count, error);
    for (unsigned i = 0; i < fields; i++)
        row_value_dispose(&values[i]);
    if (answer == STORE_OK && mysql_stmt_affected_rows(connection->statements[which]) == 0)
        return conflict_no_such_app(app->id, error);
    return answer;
}

/* The server refused a write as a duplicate: looks again to say of which name. */
static enum store_answer explain_mysql_duplicate(struct mysql_connection *connection, enum mysql_statement which,
                                                 const struct app *app, struct error *error) {
    const struct error said = *error;
    enum store_answer answer = check_mysql_names(connection, which, app, SAME_FOR_COLLATION, error);

    if (answer != STORE_OK)
        return answer;
    *error = said; /* another unique column, or the other app is gone by now */
    return STORE_REFUSED;
}

static enum store_answer put_mysql_app(struct mysql_connection *connection, enum mysql_statement which,
                                       const struct app *app, struct error *error) {
    enum store_answer answer = mysql_driver_begin(connection, error);

    if (answer == STORE_OK && row_needs_policy(connection->columns.present, app))
        answer = mysql_driver_add_policy(connection, error);
    if (answer == STORE_OK)
        answer = mysql_driver_check_room(connection, app, error);
    if (answer == STORE_OK)
        answer = check_mysql_names(connection, which, app, SAME_BYTES, error);
    if (answer != STORE_OK)
        return answer;
    answer = write_mysql_row(connection, which, app, error);
    if (answer == STORE_REFUSED && connection->code == ER_DUP_ENTRY)
        return explain_mysql_duplicate(connection, which, app, error);
    return answer;
}

static enum store_answer mysql_driver_create(struct store_connection *base, const struct app *app,
                                             struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);

    return put_mysql_app(connection, MYSQL_CREATE, app, error);
}

static enum store_answer mysql_driver_update(struct store_connection *base, const struct app *app,
                                             struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);

    return put_mysql_app(connection, MYSQL_UPDATE, app, error);
}

static enum store_answer mysql_driver_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    const struct row_value values[] = {text_value(id), text_value(id)};
    enum store_answer answer = mysql_driver_begin(connection, error);

    if (answer == STORE_OK && !utf8_valid(id))
        return conflict_no_such_app(id, error);
    if (answer == STORE_OK)
        answer = mysql_driver_run(connection, MYSQL_REMOVE, values, 2, error);
    if (answer == STORE_OK && mysql_stmt_affected_rows(connection->statements[MYSQL_REMOVE]) == 0)
        return conflict_no_such_app(id, error);
    return answer;
}

const struct app_store_driver mysql_store_driver = {
    .name = "mysql",
    .open = mysql_driver_open,
    .close = mysql_driver_close,
    .connect = mysql_driver_connect,
    .disconnect = mysql_driver_disconnect,
    .prepare = mysql_driver_prepare,
    .inspect = mysql_driver_inspect,
    .find_by_id = mysql_driver_find_by_id,
    .find_by_key = mysql_driver_find_by_key,
    .list = mysql_driver_list,
    .create = mysql_driver_create,
    .update = mysql_driver_update,
    .remove = mysql_driver_remove,
    .check_health = mysql_driver_check_health,
};
