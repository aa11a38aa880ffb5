/*
 * The MySQL and MariaDB driver.
 */
#include <mysqld_error.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/utf8.h"
#include "store/mysql/mysql_internal.h"
#include "store/name_conflict.h"

static void start_library(void) {
    mysql_library_init(0, NULL, NULL);
}

static struct app_store *driver_open(const struct config *config, const struct app_defaults *defaults,
                                     struct error *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct mysql_store *store;

    if (!row_name_valid(config->database.mysql.table_name, "", 64, "database.mysql.table_name", error))
        return NULL;
    pthread_once(&once, start_library);
    store = alloc_zero(sizeof *store);
    store->config = &config->database.mysql;
    store->defaults = defaults;
    return &store->base;
}

static void driver_close(struct app_store *base) {
    struct mysql_store *store = mysql_store_of(base);

    free(store);
}

/* --- reading --- */

static struct row_value text_value(struct slice text) {
    return (struct row_value){.kind = ROW_TEXT, .text = text};
}

static json_t *read_row(struct mysql_connection *connection, enum mysql_statement which) {
    json_t *record = json_object();
    unsigned column = 0;
    struct slice text;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if ((connection->columns.present >> i & 1) != 0 && mysql_driver_column(connection, which, column++, &text))
            row_set_text(record, (enum app_field)i, text);
    return record;
}

static bool has_text(const json_t *record, enum app_field field, struct slice text) {
    const json_t *json = json_object_get(record, app_fields[field].name);

    return json_is_string(json) && slice_equal((struct slice){json_string_value(json), json_string_length(json)}, text);
}

/* The next row whose field is this text byte by byte; NULL if there is none any more. */
static json_t *next_match(struct mysql_connection *connection, enum mysql_statement which, enum app_field field,
                          struct slice text) {
    while (mysql_driver_next(connection, which)) {
        json_t *record = read_row(connection, which);
        if (has_text(record, field, text))
            return record;
        json_decref(record);
    }
    return NULL;
}

static void report_second(struct mysql_connection *connection, enum mysql_statement which, const json_t *first,
                          struct slice key) {
    json_t *second = next_match(connection, which, APP_KEY, key);

    if (second == NULL)
        return;
    log_error("app", "apps %s and %s have the same key; the first one counts",
              json_string_value(json_object_get(first, "id")), json_string_value(json_object_get(second, "id")));
    json_decref(second);
    mysql_driver_finish(connection, which);
}

static enum store_answer find(struct mysql_connection *connection, enum mysql_statement which, enum app_field field,
                              struct slice name, struct app **app, struct error *error) {
    const struct row_value value = text_value(name);
    enum store_answer answer = mysql_driver_begin(connection, error);
    json_t *record;

    if (answer != STORE_OK)
        return answer;
    if (!utf8_valid(name)) /* no column holds it, and servers differ in what they say to it */
        return STORE_NOT_FOUND;
    answer = mysql_driver_run(connection, which, &value, 1, error);
    if (answer != STORE_OK)
        return answer;
    record = next_match(connection, which, field, name);
    if (record == NULL)
        return STORE_NOT_FOUND;
    if (field == APP_KEY)
        report_second(connection, which, record, name); /* a table without a unique index */
    else
        mysql_driver_finish(connection, which);
    return row_to_app(record, connection->store->defaults, app, error);
}

static enum store_answer driver_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                           struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    return find(connection, MYSQL_FIND_BY_ID, APP_ID, id, app, error);
}

static enum store_answer driver_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                            struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    return find(connection, MYSQL_FIND_BY_KEY, APP_KEY, key, app, error);
}

static enum store_answer driver_list(struct store_connection *base, struct slice after, size_t limit,
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
        row_to_list(read_row(connection, MYSQL_LIST), connection->store->defaults, each, context);
    return STORE_OK;
}

static enum store_answer driver_check_health(struct store_connection *base, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    const struct row_value nobody = text_value(SLICE(""));
    enum store_answer answer = mysql_driver_begin(connection, error);

    if (answer == STORE_OK)
        answer = mysql_driver_run(connection, MYSQL_ID_OWNER, &nobody, 1, error);
    if (answer == STORE_OK)
        mysql_driver_finish(connection, MYSQL_ID_OWNER);
    return answer;
}

/* --- writing --- */

/* Which names count as the same: those of the same bytes, or those that the column's collation does not tell apart. */
enum sameness { SAME_BYTES, SAME_FOR_COLLATION };

/*
 * Whether an app other than `except` has the id or key `name`; its id goes into `owner`. Not to be called with a name
 * that is no UTF-8.
 */
static enum store_answer look_for_owner(struct mysql_connection *connection, enum mysql_statement which,
                                        struct slice name, struct slice except, enum sameness sameness,
                                        struct buffer *owner, struct error *error) {
    const struct row_value value = text_value(name);
    enum store_answer answer = mysql_driver_run(connection, which, &value, 1, error);
    struct slice text;

    owner->length = 0;
    if (answer != STORE_OK)
        return answer;
    while (mysql_driver_next(connection, which)) {
        if (!mysql_driver_column(connection, which, 1, &text) || (sameness == SAME_BYTES && !slice_equal(text, name)) ||
            !mysql_driver_column(connection, which, 0, &text) || slice_equal(text, except))
            continue;
        buffer_append(owner, text);
        mysql_driver_finish(connection, which);
        break;
    }
    return STORE_OK;
}

/* STORE_OK if nothing stands against writing the app. */
static enum store_answer check_names(struct mysql_connection *connection, enum mysql_statement which,
                                     const struct app *app, enum sameness sameness, struct error *error) {
    struct buffer owner = {0};
    enum store_answer answer = look_for_owner(connection, MYSQL_ID_OWNER, app->id, SLICE(""), sameness, &owner, error);

    if (answer == STORE_OK && which == MYSQL_CREATE && owner.length != 0) {
        answer = conflict_id_taken(buffer_slice(&owner), error);
    } else if (answer == STORE_OK && which == MYSQL_UPDATE && owner.length == 0) {
        answer = conflict_no_such_app(app->id, error);
    } else if (answer == STORE_OK) {
        answer = look_for_owner(connection, MYSQL_KEY_OWNER, app->key, app->id, sameness, &owner, error);
        if (answer == STORE_OK && owner.length != 0)
            answer = conflict_key_taken(buffer_slice(&owner), error);
    }
    buffer_dispose(&owner);
    return answer;
}

/* A column that must have a value gets the one in force: it says the same today. */
static void fill_in(struct row_value *value, const struct app *app, enum app_field field) {
    const char *at = (const char *)app + app_fields[field].offset;

    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        *value = (struct row_value){.kind = ROW_NUMBER, .number = app_number(app, field)};
        break;
    case APP_TYPE_FLAG:
        *value = (struct row_value){.kind = ROW_FLAG, .flag = *(const bool *)at};
        break;
    case APP_TYPE_JSON:
    case APP_TYPE_TEXT:
        *value = text_value(SLICE("null"));
        break;
    }
}

static enum store_answer write_row(struct mysql_connection *connection, enum mysql_statement which,
                                   const struct app *app, struct error *error) {
    const struct mysql_columns *columns = &connection->columns;
    struct row_value values[APP_FIELD_COUNT + 2];
    enum store_answer answer;
    unsigned fields = 0, count;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if ((columns->present >> i & 1) == 0)
            continue;
        row_value_init(&values[fields], app, (enum app_field)i);
        if (values[fields].kind == ROW_NULL && (columns->mandatory >> i & 1) != 0)
            fill_in(&values[fields], app, (enum app_field)i);
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

/* A write that the server calls a duplicate: says of what. */
static enum store_answer explain_duplicate(struct mysql_connection *connection, enum mysql_statement which,
                                           const struct app *app, struct error *error) {
    const struct error said = *error;
    enum store_answer answer = check_names(connection, which, app, SAME_FOR_COLLATION, error);

    if (answer != STORE_OK)
        return answer;
    *error = said; /* some other unique column, or the app that was in the way has gone */
    return STORE_REFUSED;
}

static enum store_answer put(struct mysql_connection *connection, enum mysql_statement which, const struct app *app,
                             struct error *error) {
    enum store_answer answer = mysql_driver_begin(connection, error);

    if (answer == STORE_OK && !row_keeps(connection->columns.present, app, error)) {
        connection->reread_columns_ms = 0; /* it may have been added by now */
        answer = mysql_driver_begin(connection, error);
        if (answer == STORE_OK && !row_keeps(connection->columns.present, app, error))
            answer = STORE_REFUSED;
    }
    if (answer == STORE_OK)
        answer = check_names(connection, which, app, SAME_BYTES, error);
    if (answer != STORE_OK)
        return answer;
    answer = write_row(connection, which, app, error);
    if (answer == STORE_REFUSED && connection->code == ER_DUP_ENTRY)
        return explain_duplicate(connection, which, app, error);
    return answer;
}

static enum store_answer driver_create(struct store_connection *base, const struct app *app, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    return put(connection, MYSQL_CREATE, app, error);
}

static enum store_answer driver_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct mysql_connection *connection = mysql_connection_of(base);
    return put(connection, MYSQL_UPDATE, app, error);
}

static enum store_answer driver_remove(struct store_connection *base, struct slice id, struct error *error) {
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
    .open = driver_open,
    .close = driver_close,
    .connect = mysql_driver_connect,
    .disconnect = mysql_driver_disconnect,
    .prepare = mysql_driver_prepare,
    .inspect = mysql_driver_inspect,
    .find_by_id = driver_find_by_id,
    .find_by_key = driver_find_by_key,
    .list = driver_list,
    .create = driver_create,
    .update = driver_update,
    .remove = driver_remove,
    .check_health = driver_check_health,
};
