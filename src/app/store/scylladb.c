/*
 * The ScyllaDB and Cassandra driver, over our own client of the CQL protocol. Writes are lightweight transactions where
 * the cluster has nodes enough for them, so that two servers never both create an app; ids are unique, keys are checked
 * before the write.
 */
#include "app/store/scylladb.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "app/store/row.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

static void fold(const char *name, char out[SCYLLADB_NAME_MAX]) {
    size_t i = 0;

    for (; name[i] != '\0'; i++)
        out[i] = (char)tolower((unsigned char)name[i]);
    out[i] = '\0';
}

static struct app_store *scylladb_open(const struct config *config, const struct app_defaults *defaults,
                                       struct error *error) {
    struct app_store *store;

    if (!row_name_valid(config->database.scylladb.keyspace, "", "database.scylladb.keyspace", error) ||
        !row_name_valid(config->database.scylladb.table_name, "", "database.scylladb.table_name", error) ||
        !row_name_valid(config->database.scylladb.replication_class, ".", "database.scylladb.replication_class", error))
        return NULL;
    store = alloc_zero(sizeof *store);
    store->config = config;
    store->defaults = defaults;
    fold(config->database.scylladb.keyspace, store->keyspace);
    fold(config->database.scylladb.table_name, store->table);
    if (!scylladb_nodes_init(store, error)) {
        free(store);
        return NULL;
    }
    pthread_mutex_init(&store->mutex, NULL);
    return store;
}

static void scylladb_close(struct app_store *store) {
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

/* --- rows --- */

struct found_row {
    json_t *record;
    int64_t created_at; /* INT64_MAX: not known */
};

static json_t *read_texts(struct slice value) {
    struct cql_reader reader = {(const uint8_t *)value.data, (const uint8_t *)value.data + value.length, false};
    json_t *texts = json_array();

    for (uint32_t left = cql_read_int(&reader); left > 0 && !reader.failed; left--) {
        struct slice text;
        if (cql_read_bytes(&reader, &text))
            json_array_append_new(texts, json_stringn(text.data, text.length));
    }
    return texts;
}

static void read_field(json_t *record, enum app_field field, const struct cql_column *column, struct slice value) {
    int64_t number;

    switch (column->type) {
    case CQL_TYPE_ASCII:
    case CQL_TYPE_VARCHAR:
        row_set_text(record, field, value);
        break;
    case CQL_TYPE_BOOLEAN:
        row_set_flag(record, field, value.length == 1 && value.data[0] != 0);
        break;
    case CQL_TYPE_LIST:
    case CQL_TYPE_SET:
        json_object_set_new(record, app_fields[field].name, read_texts(value));
        break;
    default:
        if (cql_integer(value, &number))
            row_set_number(record, field, number);
    }
}

static struct found_row read_row(struct cql_rows *rows) {
    struct found_row row = {json_object(), INT64_MAX};

    for (uint32_t i = 0; i < rows->column_count; i++) {
        const struct cql_column *column = &rows->columns[i];
        enum app_field field;
        struct slice value;
        if (!cql_next_value(rows, &value))
            continue;
        if (app_field_from_name(column->name, &field))
            read_field(row.record, field, column, value);
        else if (slice_equal(column->name, SLICE("created_at")))
            cql_integer(value, &row.created_at);
    }
    return row;
}

static const char *id_of(const json_t *record) {
    const char *id = json_string_value(json_object_get(record, "id"));

    return id != NULL ? id : "";
}

/* --- reading --- */

static void append_columns(struct buffer *out, const struct store_connection *connection, bool writable) {
    const char *between = "";

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        uint16_t type = connection->columns[i];
        if (type == 0 || (writable && (type == CQL_TYPE_LIST + 1 || type == CQL_TYPE_SET + 1)))
            continue;
        buffer_appendf(out, "%s\"%s\"", between, app_fields[i].name);
        between = ", ";
    }
}

static bool select_rows(struct store_connection *connection, const char *behind, struct cql_request *request,
                        const struct patience *patience, struct cql_rows *rows, struct error *error) {
    struct buffer statement = {0};
    bool done;

    buffer_appendf(&statement, "SELECT ");
    append_columns(&statement, connection, false);
    buffer_appendf(&statement, "%s FROM \"%s\".\"%s\" %s", connection->has_created_at ? ", created_at" : "",
                   connection->store->keyspace, connection->store->table, behind);
    request->statement = buffer_slice(&statement);
    done = scylladb_run(connection, request, patience, rows, error);
    buffer_dispose(&statement);
    return done;
}

/* A text that is no UTF-8, or empty, is in no row, and the node would not even look. */
static bool can_be_asked(struct slice name) {
    json_t *text = name.length != 0 ? json_stringn(name.data, name.length) : NULL;

    json_decref(text);
    return text != NULL;
}

/* Which of two with the same key answers: the one that was there first. */
static bool before(const struct found_row *a, const struct found_row *b) {
    if (a->created_at != b->created_at)
        return a->created_at < b->created_at;
    return strcmp(id_of(a->record), id_of(b->record)) < 0;
}

static void keep_first(struct found_row *best, struct found_row row) {
    if (best->record == NULL) {
        *best = row;
        return;
    }
    if (before(&row, best)) {
        struct found_row other = *best;
        *best = row;
        row = other;
    }
    log_error("app", "apps %s and %s have the same key; the first one counts", id_of(best->record), id_of(row.record));
    json_decref(row.record);
}

static bool names(const json_t *record, enum app_field field, struct slice name) {
    const json_t *text = json_object_get(record, app_fields[field].name);

    return json_is_string(text) && slice_equal((struct slice){json_string_value(text), json_string_length(text)}, name);
}

static enum store_answer find(struct store_connection *connection, enum app_field field, const char *condition,
                              struct slice name, const struct patience *patience, struct app **app,
                              struct error *error) {
    enum store_answer answer = scylladb_look(connection, patience, error);
    struct cql_request request = {.values = &name, .count = 1};
    struct found_row best = {0};
    struct cql_rows *rows;

    if (answer != STORE_OK)
        return answer;
    if (!can_be_asked(name))
        return STORE_NOT_FOUND;
    rows = alloc(sizeof *rows);
    if (!select_rows(connection, condition, &request, patience, rows, error)) {
        free(rows);
        return scylladb_failure(connection);
    }
    for (uint32_t i = 0; i < rows->row_count; i++) {
        struct found_row row = read_row(rows);
        if (names(row.record, field, name))
            keep_first(&best, row);
        else
            json_decref(row.record);
    }
    free(rows);
    return best.record != NULL ? row_to_app(best.record, connection->store->defaults, app, error) : STORE_NOT_FOUND;
}

static enum store_answer scylladb_find_by_id(struct store_connection *connection, struct slice id,
                                             const struct patience *patience, struct app **app, struct error *error) {
    return find(connection, APP_ID, "WHERE id = ?", id, patience, app, error);
}

static enum store_answer scylladb_find_by_key(struct store_connection *connection, struct slice key,
                                              const struct patience *patience, struct app **app, struct error *error) {
    enum store_answer answer = scylladb_look(connection, patience, error);

    if (answer != STORE_OK)
        return answer;
    return find(connection, APP_KEY, connection->has_index ? "WHERE \"key\" = ?" : "WHERE \"key\" = ? ALLOW FILTERING",
                key, patience, app, error);
}

/* In the order of the ids' tokens. */
static enum store_answer scylladb_list(struct store_connection *connection, struct slice after, size_t limit,
                                       const struct patience *patience, store_list_function *each, void *context,
                                       struct error *error) {
    enum store_answer answer = scylladb_look(connection, patience, error);
    char number[4], behind[128];
    const struct slice values[] = {after, {number, 4}};
    bool from_first = after.length == 0;
    struct cql_request request = {.values = from_first ? values + 1 : values,
                                  .count = from_first ? 1 : 2,
                                  .page_size = (uint32_t)(limit < 5000 ? limit : 5000)};
    struct cql_rows *rows;

    if (answer != STORE_OK)
        return answer;
    for (unsigned i = 0; i < 4; i++)
        number[i] = (char)(limit >> (24 - 8 * i));
    snprintf(behind, sizeof behind, "%s LIMIT ?", from_first ? "" : "WHERE token(id) > token(?)");
    rows = alloc(sizeof *rows);
    do {
        if (!select_rows(connection, behind, &request, patience, rows, error)) {
            free(rows);
            return scylladb_failure(connection);
        }
        for (uint32_t i = 0; i < rows->row_count; i++)
            row_to_list(read_row(rows).record, connection->store->defaults, each, context);
        request.paging_state = rows->paging_state;
    } while (rows->paging_state.length != 0);
    free(rows);
    return STORE_OK;
}

static enum store_answer scylladb_check_health(struct store_connection *connection, const struct patience *patience,
                                               struct error *error) {
    enum store_answer answer = scylladb_look(connection, patience, error);
    const struct slice id = SLICE("-");
    struct cql_request request = {.values = &id, .count = 1};
    struct cql_rows *rows;

    if (answer != STORE_OK)
        return answer;
    rows = alloc(sizeof *rows);
    if (!select_rows(connection, "WHERE id = ?", &request, patience, rows, error))
        answer = scylladb_failure(connection);
    free(rows);
    return answer;
}

/* --- writing --- */

/* The fields that have a column, then what else a statement takes. */
struct parameters {
    unsigned count, owned;
    struct row_value values[APP_FIELD_COUNT];
    char numbers[APP_FIELD_COUNT + 2][8];
    char texts[APP_FIELD_COUNT][16];
    struct slice list[APP_FIELD_COUNT + 4];
};

static struct slice big_endian(char out[8], uint64_t number, unsigned bytes) {
    for (unsigned i = 0; i < bytes; i++)
        out[i] = (char)(number >> (8 * (bytes - 1 - i)));
    return (struct slice){out, bytes};
}

static struct slice number_parameter(uint16_t type, uint32_t number, char bytes[8], char text[16]) {
    switch (type) {
    case CQL_TYPE_BIGINT:
        return big_endian(bytes, number, 8);
    case CQL_TYPE_INT:
        return big_endian(bytes, number, 4); /* above 2147483647 the negative number of the same bits */
    case CQL_TYPE_SMALLINT:
        return big_endian(bytes, number, 2);
    case CQL_TYPE_TINYINT:
    case CQL_TYPE_BOOLEAN:
        return big_endian(bytes, number, 1);
    default:
        snprintf(text, 16, "%u", number);
        return slice_of(text);
    }
}

static struct slice parameter(const struct row_value *value, uint16_t type, char bytes[8], char text[16]) {
    switch (value->kind) {
    case ROW_TEXT:
        return value->text.length != 0 ? value->text : SLICE("");
    case ROW_FLAG:
        return number_parameter(type, value->flag, bytes, text);
    case ROW_NUMBER:
        return number_parameter(type, value->number, bytes, text);
    case ROW_NULL:
        break;
    }
    return (struct slice){NULL, 0};
}

static void parameters_init(struct parameters *parameters, const struct store_connection *connection,
                            const struct app *app, enum app_field first) {
    parameters->count = 0;
    for (unsigned i = first; i < APP_FIELD_COUNT; i++) {
        uint16_t type = connection->columns[i];
        unsigned at = parameters->count;
        if (type == 0 || type == CQL_TYPE_LIST + 1 || type == CQL_TYPE_SET + 1)
            continue;
        row_value_init(&parameters->values[at], app, (enum app_field)i);
        parameters->list[at] =
            parameter(&parameters->values[at], (uint16_t)(type - 1), parameters->numbers[at], parameters->texts[at]);
        parameters->count++;
    }
    parameters->owned = parameters->count;
}

static void add_time(struct parameters *parameters, bool there, unsigned place) {
    if (there)
        parameters->list[parameters->count++] =
            big_endian(parameters->numbers[APP_FIELD_COUNT + place], clock_wall_ms(), 8);
}

static void parameters_dispose(struct parameters *parameters) {
    for (unsigned i = 0; i < parameters->owned; i++)
        row_value_dispose(&parameters->values[i]);
}

/* Runs a write; `applied` is false if a lightweight transaction's condition did not hold. */
static enum store_answer run_write(struct store_connection *connection, struct slice statement,
                                   const struct slice *values, unsigned count, const struct patience *patience,
                                   bool *applied, struct error *error) {
    struct cql_request request = {
        .statement = statement, .values = values, .count = count, .conditional = !connection->alone};
    struct cql_rows *rows = alloc(sizeof *rows);
    enum store_answer answer = STORE_OK;
    struct slice value;

    *applied = true;
    if (!scylladb_run(connection, &request, patience, rows, error)) {
        answer = scylladb_failure(connection);
        if (answer == STORE_UNAVAILABLE)
            error_prefix(error, "the write may or may not have been done");
    } else if (rows->row_count > 0 && slice_equal(rows->columns[0].name, SLICE("[applied]")) &&
               cql_next_value(rows, &value)) {
        *applied = value.length == 1 && value.data[0] != 0;
    }
    free(rows);
    return answer;
}

/* STORE_OK if no other app has the key. */
static enum store_answer check_key(struct store_connection *connection, const struct app *app,
                                   const struct patience *patience, struct error *error) {
    struct cql_request request = {.values = &app->key, .count = 1};
    struct cql_rows *rows = alloc(sizeof *rows);
    enum store_answer answer = STORE_OK;

    if (!select_rows(connection, connection->has_index ? "WHERE \"key\" = ?" : "WHERE \"key\" = ? ALLOW FILTERING",
                     &request, patience, rows, error))
        answer = scylladb_failure(connection);
    for (uint32_t i = 0; answer == STORE_OK && i < rows->row_count; i++) {
        struct found_row row = read_row(rows);
        if (names(row.record, APP_KEY, app->key) && !names(row.record, APP_ID, app->id)) {
            error_set(error, "the key is already that of app %s", id_of(row.record));
            answer = STORE_KEY_TAKEN;
        }
        json_decref(row.record);
    }
    free(rows);
    return answer;
}

/* Whether the id is there: STORE_OK or STORE_NOT_FOUND; a broken record is there. */
static enum store_answer check_id(struct store_connection *connection, struct slice id, const struct patience *patience,
                                  struct error *error) {
    struct app *there = NULL;
    enum store_answer answer = scylladb_find_by_id(connection, id, patience, &there, error);

    app_unref(there);
    return answer == STORE_INVALID ? STORE_OK : answer;
}

static enum store_answer missing(struct slice id, struct error *error) {
    error_set(error, "there is no app with the id %.*s", SLICE_ARGS(id));
    return STORE_NOT_FOUND;
}

static enum store_answer taken(const struct app *app, struct error *error) {
    error_set(error, "there is already an app with the id %s", app->id.data);
    return STORE_ID_TAKEN;
}

static enum store_answer insert(struct store_connection *connection, const struct app *app,
                                const struct patience *patience, struct error *error) {
    struct parameters parameters;
    struct buffer statement = {0};
    enum store_answer answer;
    bool applied;

    parameters_init(&parameters, connection, app, APP_ID);
    add_time(&parameters, connection->has_created_at, 0);
    add_time(&parameters, connection->has_updated_at, 1);
    buffer_appendf(&statement, "INSERT INTO \"%s\".\"%s\" (", connection->store->keyspace, connection->store->table);
    append_columns(&statement, connection, true);
    buffer_appendf(&statement, "%s%s) VALUES (?", connection->has_created_at ? ", created_at" : "",
                   connection->has_updated_at ? ", updated_at" : "");
    for (unsigned i = 1; i < parameters.count; i++)
        buffer_appendf(&statement, ", ?");
    buffer_appendf(&statement, ")%s", connection->alone ? "" : " IF NOT EXISTS");
    answer =
        run_write(connection, buffer_slice(&statement), parameters.list, parameters.count, patience, &applied, error);
    buffer_dispose(&statement);
    parameters_dispose(&parameters);
    return answer == STORE_OK && !applied ? taken(app, error) : answer;
}

static enum store_answer scylladb_create(struct store_connection *connection, const struct app *app,
                                         const struct patience *patience, struct error *error) {
    enum store_answer answer = check_id(connection, app->id, patience, error);

    if (answer == STORE_OK)
        return taken(app, error);
    if (answer != STORE_NOT_FOUND)
        return answer;
    answer = check_key(connection, app, patience, error);
    return answer == STORE_OK ? insert(connection, app, patience, error) : answer;
}

static void append_assignments(struct buffer *out, const struct store_connection *connection) {
    const char *between = "";

    for (unsigned i = APP_ID + 1; i < APP_FIELD_COUNT; i++) {
        uint16_t type = connection->columns[i];
        if (type == 0 || type == CQL_TYPE_LIST + 1 || type == CQL_TYPE_SET + 1)
            continue;
        buffer_appendf(out, "%s\"%s\" = ?", between, app_fields[i].name);
        between = ", ";
    }
    if (connection->has_updated_at)
        buffer_appendf(out, ", updated_at = ?");
}

/* An update in CQL makes what it does not find, so it says that it must not, or looks before. */
static enum store_answer scylladb_update(struct store_connection *connection, const struct app *app,
                                         const struct patience *patience, struct error *error) {
    enum store_answer answer = check_id(connection, app->id, patience, error);
    struct parameters parameters;
    struct buffer statement = {0};
    bool applied;

    if (answer == STORE_NOT_FOUND)
        return missing(app->id, error);
    if (answer == STORE_OK)
        answer = check_key(connection, app, patience, error);
    if (answer != STORE_OK)
        return answer;
    parameters_init(&parameters, connection, app, APP_ID + 1);
    add_time(&parameters, connection->has_updated_at, 0);
    parameters.list[parameters.count++] = app->id;
    buffer_appendf(&statement, "UPDATE \"%s\".\"%s\" SET ", connection->store->keyspace, connection->store->table);
    append_assignments(&statement, connection);
    buffer_appendf(&statement, " WHERE id = ?%s", connection->alone ? "" : " IF EXISTS");
    answer =
        run_write(connection, buffer_slice(&statement), parameters.list, parameters.count, patience, &applied, error);
    buffer_dispose(&statement);
    parameters_dispose(&parameters);
    return answer == STORE_OK && !applied ? missing(app->id, error) : answer;
}

static enum store_answer scylladb_remove(struct store_connection *connection, struct slice id,
                                         const struct patience *patience, struct error *error) {
    enum store_answer answer = check_id(connection, id, patience, error);
    char statement[1024];
    bool applied;

    if (answer == STORE_NOT_FOUND)
        return missing(id, error);
    if (answer != STORE_OK)
        return answer;
    snprintf(statement, sizeof statement, "DELETE FROM \"%s\".\"%s\" WHERE id = ?%s", connection->store->keyspace,
             connection->store->table, connection->alone ? "" : " IF EXISTS");
    answer = run_write(connection, slice_of(statement), &id, 1, patience, &applied, error);
    return answer == STORE_OK && !applied ? missing(id, error) : answer;
}

const struct app_store_driver scylladb_store_driver = {
    .name = "scylladb",
    .open = scylladb_open,
    .close = scylladb_close,
    .connect = scylladb_connect,
    .disconnect = scylladb_disconnect,
    .prepare = scylladb_prepare,
    .find_by_id = scylladb_find_by_id,
    .find_by_key = scylladb_find_by_key,
    .list = scylladb_list,
    .create = scylladb_create,
    .update = scylladb_update,
    .remove = scylladb_remove,
    .check_health = scylladb_check_health,
};
