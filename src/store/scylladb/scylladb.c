/*
 * The ScyllaDB and Cassandra driver, over our own client of the CQL protocol. Writes are lightweight transactions where
 * the cluster has nodes enough for them, so that two servers never both create an app; ids are unique, keys are checked
 * before the write.
 */
#include "store/scylladb/scylladb_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/name_conflict.h"
#include "store/row.h"

static void fold(const char *name, char out[SCYLLADB_NAME_MAX]) {
    size_t i = 0;

    for (; name[i] != '\0'; i++)
        out[i] = (char)tolower((unsigned char)name[i]);
    out[i] = '\0';
}

static struct app_store *scylladb_open(const struct config *config, const struct app_defaults *defaults,
                                       struct error *error) {
    struct scylladb_store *store;

    if (!row_name_valid(config->database.scylladb.keyspace, "", 255, "database.scylladb.keyspace", error) ||
        !row_name_valid(config->database.scylladb.table_name, "", 255, "database.scylladb.table_name", error) ||
        !row_name_valid(config->database.scylladb.replication_class, ".", 255, "database.scylladb.replication_class",
                        error))
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
    return &store->base;
}

static void scylladb_close(struct app_store *base) {
    struct scylladb_store *store = scylladb_store_of(base);

    pthread_mutex_destroy(&store->mutex);
    free(store);
}

static struct store_connection *scylladb_connect(struct app_store *base, const struct deadline *deadline,
                                                 struct error *error) {
    struct scylladb_connection *connection = scylladb_open_connection(scylladb_store_of(base), deadline, error);

    return connection != NULL ? &connection->base : NULL;
}

static void scylladb_disconnect(struct store_connection *base) {
    scylladb_close_connection(scylladb_connection_of(base));
}

/* --- rows --- */

struct found_row {
    json_t *record;
    int64_t created_at; /* INT64_MAX: not known */
};

static struct found_row read_row(struct cql_rows *rows) {
    struct found_row row = {json_object(), INT64_MAX};

    for (uint32_t i = 0; i < rows->column_count; i++) {
        const struct cql_column *column = &rows->columns[i];
        enum app_field field;
        struct slice value;
        if (!cql_next_value(rows, &value))
            continue;
        if (app_field_from_name(column->name, &field))
            scylladb_read_field(row.record, field, column, value);
        else if (slice_equal(column->name, SLICE("created_at")))
            cql_number_of(column->type, value, &row.created_at);
    }
    return row;
}

static const char *id_of(const json_t *record) {
    const char *id = json_string_value(json_object_get(record, "id"));

    return id != NULL ? id : "";
}

/* --- reading --- */

#define PAGE_ROWS 200 /* of which even large ones fit in an answer (CQL_BODY_MAX_BYTES) */
#define INDEX_TRIES 20
#define INDEX_PAUSE_MS 100

static bool select_rows(struct scylladb_connection *connection, const char *behind, struct cql_request *request,
                        struct cql_rows *rows, struct error *error) {
    struct buffer statement = {0};
    bool done;

    buffer_append_string(&statement, "SELECT ");
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (connection->columns[i].there)
            buffer_appendf(&statement, "\"%s\", ", app_fields[i].name);
    statement.length -= 2;
    buffer_appendf(&statement, "%s FROM \"%s\".\"%s\" %s", connection->has_created_at ? ", created_at" : "",
                   connection->store->keyspace, connection->store->table, behind);
    request->statement = buffer_slice(&statement);
    done = scylladb_run(connection, request, rows, error);
    buffer_dispose(&statement);
    return done;
}

/* The name as a value of its column. A text that is no UTF-8, or empty, or nothing that the column could hold, is in no
 * row, and the node would not even look: false. */
static bool bind_name(struct buffer *value, const struct scylladb_connection *connection, enum app_field field,
                      struct slice name) {
    json_t *text = name.length != 0 ? json_stringn(name.data, name.length) : NULL;

    json_decref(text);
    return text != NULL && cql_append_text_value(value, connection->columns[field].type, name);
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

/* With an index the node uses it, whatever it is allowed; it may be there for some nodes and not yet for others. */
static const char *condition_on(enum app_field field) {
    return field == APP_ID ? "WHERE id = ?" : "WHERE \"key\" = ? ALLOW FILTERING";
}

/* The rows with this name. A new index fails until it is built, which for a small table is soon. */
static bool select_by_name(struct scylladb_connection *connection, enum app_field field, struct slice value,
                           struct cql_rows *rows, struct error *error) {
    struct cql_request request = {.values = &value, .count = 1};

    for (unsigned tries = 1;; tries++) {
        if (select_rows(connection, condition_on(field), &request, rows, error))
            return true;
        if (field != APP_KEY || cql_failure(connection->link) == CQL_LOST ||
            cql_failure_code(connection->link) != CQL_ERROR_READ_FAILURE || tries == INDEX_TRIES ||
            !deadline_sleep(&connection->base.deadline, INDEX_PAUSE_MS))
            return false;
    }
}

/* The first of the records with this name; NULL: there is none. */
static enum store_answer find_first(struct scylladb_connection *connection, enum app_field field, struct slice name,
                                    json_t **record, struct error *error) {
    struct buffer value = {0};
    struct found_row best = {0};
    enum store_answer answer = STORE_OK;
    struct cql_rows *rows = NULL;

    if (bind_name(&value, connection, field, name)) {
        rows = alloc(sizeof *rows);
        if (!select_by_name(connection, field, buffer_slice(&value), rows, error))
            answer = scylladb_failure(connection);
    }
    for (uint32_t i = 0; rows != NULL && i < rows->row_count; i++) {
        struct found_row row = read_row(rows);
        if (names(row.record, field, name))
            keep_first(&best, row);
        else
            json_decref(row.record);
    }
    free(rows);
    buffer_dispose(&value);
    *record = best.record;
    return answer;
}

static enum store_answer find_once(struct scylladb_connection *connection, enum app_field field, struct slice name,
                                   struct app **app, struct error *error) {
    enum store_answer answer = scylladb_look(connection, error);
    json_t *record;

    if (answer == STORE_OK)
        answer = find_first(connection, field, name, &record, error);
    if (answer != STORE_OK)
        return answer;
    return record != NULL ? row_to_app(record, connection->store->defaults, app, error) : STORE_NOT_FOUND;
}

/* True for a request that was refused since the table is not any more what it was: it may be made again. */
static bool table_changed(const struct scylladb_connection *connection, enum store_answer answer) {
    return answer == STORE_REFUSED && !connection->looked;
}

static enum store_answer find(struct scylladb_connection *connection, enum app_field field, struct slice name,
                              struct app **app, struct error *error) {
    enum store_answer answer = find_once(connection, field, name, app, error);

    return table_changed(connection, answer) ? find_once(connection, field, name, app, error) : answer;
}

/* The connection's deadline is shared with the other nodes: see scylladb_share_deadline. */
static enum store_answer find_within_share(struct scylladb_connection *connection, enum app_field field,
                                           struct slice name, struct app **app, struct error *error) {
    const struct deadline whole = scylladb_share_deadline(connection);
    enum store_answer answer = find(connection, field, name, app, error);

    store_begin(&connection->base, &whole);
    return answer;
}

static enum store_answer scylladb_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                             struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    return find_within_share(connection, APP_ID, id, app, error);
}

static enum store_answer scylladb_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                              struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    return find_within_share(connection, APP_KEY, key, app, error);
}

/* In the order of the ids' tokens. */
static enum store_answer list_behind(struct scylladb_connection *connection, struct slice after, size_t limit,
                                     store_list_function *each, void *context, struct error *error) {
    char number[4], behind[128];
    const struct slice values[] = {after, {number, 4}};
    bool from_first = after.data == NULL;
    struct cql_request request = {.values = from_first ? values + 1 : values,
                                  .count = from_first ? 1 : 2,
                                  .page_size = (uint32_t)(limit < PAGE_ROWS ? limit : PAGE_ROWS)};
    struct cql_rows *rows = alloc(sizeof *rows);
    enum store_answer answer = STORE_OK;
    struct buffer paging_state = {0};

    for (unsigned i = 0; i < 4; i++)
        number[i] = (char)(limit >> (24 - 8 * i));
    snprintf(behind, sizeof behind, "%s LIMIT ?", from_first ? "" : "WHERE token(id) > token(?)");
    do {
        const struct deadline whole = scylladb_share_deadline(connection);
        bool read = select_rows(connection, behind, &request, rows, error);

        store_begin(&connection->base, &whole);
        if (!read) {
            answer = scylladb_failure(connection);
            break;
        }
        for (uint32_t i = 0; i < rows->row_count; i++)
            row_to_list(read_row(rows).record, connection->store->defaults, each, context);
        /* Of its own, since it has to outlive the answer that it came with. */
        paging_state.length = 0;
        buffer_append(&paging_state, rows->paging_state);
        request.paging_state = buffer_slice(&paging_state);
    } while (request.paging_state.length != 0);
    buffer_dispose(&paging_state);
    free(rows);
    return answer;
}

static enum store_answer scylladb_list(struct store_connection *base, struct slice after, size_t limit,
                                       store_list_function *each, void *context, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = scylladb_look(connection, error);
    struct buffer value = {0};

    if (answer == STORE_OK && after.length != 0 && !bind_name(&value, connection, APP_ID, after)) {
        error_set(error, "%.*s is no id that the table could hold", SLICE_ARGS(after));
        answer = STORE_REFUSED;
    }
    if (answer == STORE_OK)
        answer = list_behind(connection, buffer_slice(&value), limit, each, context, error);
    buffer_dispose(&value);
    return answer;
}

static enum store_answer scylladb_check_health(struct store_connection *base, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    struct app *nobody = NULL;
    enum store_answer answer = find_within_share(connection, APP_ID, SLICE("-"), &nobody, error);

    app_unref(nobody);
    return answer == STORE_NOT_FOUND || answer == STORE_INVALID ? STORE_OK : answer;
}

/* --- writing --- */

#define PARAMETERS_MAX (APP_FIELD_COUNT + 3)

/* The values of a statement, and the columns that they are for. */
struct parameters {
    unsigned count;
    const char *names[PARAMETERS_MAX];
    struct buffer bytes[PARAMETERS_MAX];
    struct slice values[PARAMETERS_MAX];
};

static void close_parameter(struct parameters *parameters, const char *name, bool is_null) {
    unsigned at = parameters->count++;

    parameters->names[at] = name;
    parameters->values[at] = is_null ? (struct slice){NULL, 0} : buffer_slice(&parameters->bytes[at]);
}

static void add_time(struct parameters *parameters, const char *name) {
    cql_append_timestamp_value(&parameters->bytes[parameters->count], clock_wall_ms());
    close_parameter(parameters, name, false);
}

/*
 * The fields that have a column. What is not set is left away where there is nothing that it could undo, and where the
 * column is of a type that is not ours to write.
 */
static bool add_fields(struct parameters *parameters, const struct scylladb_connection *connection,
                       const struct app *app, bool is_new, struct error *error) {
    uint32_t there = 0;

    for (unsigned i = is_new ? APP_ID : APP_ID + 1; i < APP_FIELD_COUNT; i++) {
        const struct scylladb_column *column = &connection->columns[i];
        bool is_null;
        if (!column->there)
            continue;
        there |= 1u << i;
        if (!scylladb_field_value(&parameters->bytes[parameters->count], &is_null, app, (enum app_field)i, column,
                                  error))
            return false;
        if (!is_null || (!is_new && scylladb_column_fits((enum app_field)i, column)))
            close_parameter(parameters, app_fields[i].name, is_null);
    }
    return row_keeps(there, app, error);
}

static void parameters_dispose(struct parameters *parameters) {
    for (unsigned i = 0; i < PARAMETERS_MAX; i++)
        buffer_dispose(&parameters->bytes[i]);
}

/* The node may have done it, and nobody has heard of it. */
static bool outcome_unknown(const struct scylladb_connection *connection) {
    uint32_t code = cql_failure_code(connection->link);

    return cql_failure(connection->link) == CQL_LOST || code == CQL_ERROR_WRITE_TIMEOUT ||
           code == CQL_ERROR_WRITE_FAILURE;
}

/* Runs a write; `applied` is false if a lightweight transaction's condition did not hold. */
static enum store_answer run_write(struct scylladb_connection *connection, struct slice statement,
                                   const struct slice *values, unsigned count, bool *applied, struct error *error) {
    struct cql_request request = {
        .statement = statement, .values = values, .count = count, .conditional = !connection->alone};
    struct cql_rows *rows = alloc(sizeof *rows);
    enum store_answer answer = STORE_OK;
    struct slice value;

    *applied = true;
    if (!scylladb_run(connection, &request, rows, error)) {
        answer = scylladb_failure(connection);
        if (outcome_unknown(connection))
            error_prefix(error, "the write may or may not have been done");
    } else if (rows->row_count > 0 && slice_equal(rows->columns[0].name, SLICE("[applied]")) &&
               cql_next_value(rows, &value)) {
        *applied = value.length == 1 && value.data[0] != 0;
    }
    free(rows);
    return answer;
}

/* STORE_OK if no other app has the key. */
static enum store_answer check_key(struct scylladb_connection *connection, const struct app *app, struct error *error) {
    struct buffer value = {0};
    struct cql_rows *rows;
    enum store_answer answer = STORE_OK;

    if (!bind_name(&value, connection, APP_KEY, app->key)) { /* refused when it is written, with the column's type */
        buffer_dispose(&value);
        return STORE_OK;
    }
    rows = alloc(sizeof *rows);
    if (!select_by_name(connection, APP_KEY, buffer_slice(&value), rows, error))
        answer = scylladb_failure(connection);
    for (uint32_t i = 0; answer == STORE_OK && i < rows->row_count; i++) {
        struct found_row row = read_row(rows);
        if (names(row.record, APP_KEY, app->key) && !names(row.record, APP_ID, app->id))
            answer = conflict_key_taken(slice_of(id_of(row.record)), error);
        json_decref(row.record);
    }
    free(rows);
    buffer_dispose(&value);
    return answer;
}

/* Whether the id is there: STORE_OK or STORE_NOT_FOUND; a broken record is there. */
static enum store_answer check_id(struct scylladb_connection *connection, struct slice id, struct error *error) {
    struct app *there = NULL;
    enum store_answer answer = find(connection, APP_ID, id, &there, error);

    app_unref(there);
    return answer == STORE_INVALID ? STORE_OK : answer;
}

static enum store_answer insert(struct scylladb_connection *connection, const struct app *app, struct error *error) {
    struct parameters parameters = {0};
    struct buffer statement = {0};
    enum store_answer answer = STORE_REFUSED;
    bool applied = true;

    buffer_appendf(&statement, "INSERT INTO \"%s\".\"%s\" (", connection->store->keyspace, connection->store->table);
    if (add_fields(&parameters, connection, app, true, error)) {
        if (connection->has_created_at)
            add_time(&parameters, "created_at");
        if (connection->has_updated_at)
            add_time(&parameters, "updated_at");
        for (unsigned i = 0; i < parameters.count; i++)
            buffer_appendf(&statement, "%s\"%s\"", i > 0 ? ", " : "", parameters.names[i]);
        buffer_append_string(&statement, ") VALUES (?");
        for (unsigned i = 1; i < parameters.count; i++)
            buffer_append_string(&statement, ", ?");
        buffer_appendf(&statement, ")%s", connection->alone ? "" : " IF NOT EXISTS");
        answer = run_write(connection, buffer_slice(&statement), parameters.values, parameters.count, &applied, error);
    } else {
        connection->looked = false; /* the table may have other columns by now */
    }
    buffer_dispose(&statement);
    parameters_dispose(&parameters);
    return answer == STORE_OK && !applied ? conflict_id_taken(app->id, error) : answer;
}

static enum store_answer create_once(struct scylladb_connection *connection, const struct app *app,
                                     struct error *error) {
    enum store_answer answer = check_id(connection, app->id, error);

    if (answer == STORE_OK)
        return conflict_id_taken(app->id, error);
    if (answer != STORE_NOT_FOUND)
        return answer;
    answer = check_key(connection, app, error);
    return answer == STORE_OK ? insert(connection, app, error) : answer;
}

static enum store_answer scylladb_create(struct store_connection *base, const struct app *app, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = create_once(connection, app, error);

    return table_changed(connection, answer) ? create_once(connection, app, error) : answer;
}

/* An update in CQL makes what it does not find, so it says that it must not, or looks before. */
static enum store_answer replace(struct scylladb_connection *connection, const struct app *app, struct error *error) {
    struct parameters parameters = {0};
    struct buffer statement = {0};
    enum store_answer answer = STORE_REFUSED;
    bool applied = true;

    buffer_appendf(&statement, "UPDATE \"%s\".\"%s\" SET ", connection->store->keyspace, connection->store->table);
    if (add_fields(&parameters, connection, app, false, error)) {
        if (connection->has_updated_at)
            add_time(&parameters, "updated_at");
        for (unsigned i = 0; i < parameters.count; i++)
            buffer_appendf(&statement, "%s\"%s\" = ?", i > 0 ? ", " : "", parameters.names[i]);
        buffer_appendf(&statement, " WHERE id = ?%s", connection->alone ? "" : " IF EXISTS");
        bind_name(&parameters.bytes[parameters.count], connection, APP_ID, app->id);
        close_parameter(&parameters, "id", false);
        answer = run_write(connection, buffer_slice(&statement), parameters.values, parameters.count, &applied, error);
    } else {
        connection->looked = false; /* the table may have other columns by now */
    }
    buffer_dispose(&statement);
    parameters_dispose(&parameters);
    return answer == STORE_OK && !applied ? conflict_no_such_app(app->id, error) : answer;
}

static enum store_answer update_once(struct scylladb_connection *connection, const struct app *app,
                                     struct error *error) {
    enum store_answer answer = check_id(connection, app->id, error);

    if (answer == STORE_NOT_FOUND)
        return conflict_no_such_app(app->id, error);
    if (answer == STORE_OK)
        answer = check_key(connection, app, error);
    return answer == STORE_OK ? replace(connection, app, error) : answer;
}

static enum store_answer scylladb_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = update_once(connection, app, error);

    return table_changed(connection, answer) ? update_once(connection, app, error) : answer;
}

static enum store_answer scylladb_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = check_id(connection, id, error);
    struct buffer value = {0};
    struct slice values[1];
    char statement[1024];
    bool applied;

    if (answer == STORE_NOT_FOUND)
        return conflict_no_such_app(id, error);
    if (answer != STORE_OK)
        return answer;
    bind_name(&value, connection, APP_ID, id);
    values[0] = buffer_slice(&value);
    snprintf(statement, sizeof statement, "DELETE FROM \"%s\".\"%s\" WHERE id = ?%s", connection->store->keyspace,
             connection->store->table, connection->alone ? "" : " IF EXISTS");
    answer = run_write(connection, slice_of(statement), values, 1, &applied, error);
    buffer_dispose(&value);
    return answer == STORE_OK && !applied ? conflict_no_such_app(id, error) : answer;
}

const struct app_store_driver scylladb_store_driver = {
    .name = "scylladb",
    .open = scylladb_open,
    .close = scylladb_close,
    .connect = scylladb_connect,
    .disconnect = scylladb_disconnect,
    .prepare = scylladb_prepare,
    .inspect = scylladb_inspect,
    .find_by_id = scylladb_find_by_id,
    .find_by_key = scylladb_find_by_key,
    .list = scylladb_list,
    .create = scylladb_create,
    .update = scylladb_update,
    .remove = scylladb_remove,
    .check_health = scylladb_check_health,
};
