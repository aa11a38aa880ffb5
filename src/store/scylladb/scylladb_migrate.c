#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/row.h"
#include "store/scylladb/scylladb_internal.h"

#define AGREEMENT_PAUSE_MS 100
#define AGREEMENT_TRIES 100
#define ADD_TRIES 5

/* Runs a statement about the schema, which one node answers. */
static bool query_schema(struct scylladb_connection *connection, const char *statement, const struct slice *values,
                         unsigned count, struct cql_rows *rows, struct error *error) {
    struct cql_request request = {
        .statement = slice_of(statement), .values = values, .count = count, .consistency = CQL_ONE};

    return cql_run(connection->link, &request, &connection->base.deadline, rows, error) ||
           error_prefix(error, "scylladb node %s:%u", connection->node.host, connection->node.port);
}

/* --- the table --- */

static void note_scylladb_column(struct scylladb_connection *connection, struct slice name, struct slice type) {
    struct scylladb_column column = {.exists = true};
    bool is_time;
    enum app_field field;

    cql_type_from_name(type, &column.type, &column.element);
    snprintf(column.type_name, sizeof column.type_name, "%.*s", SLICE_ARGS(type));
    if (app_field_from_name(name, &field))
        connection->columns[field] = column;
    is_time = column.type == CQL_TYPE_TIMESTAMP || column.type == CQL_TYPE_BIGINT;
    connection->has_created_at = connection->has_created_at || (is_time && slice_equal(name, SLICE("created_at")));
    connection->has_updated_at = connection->has_updated_at || (is_time && slice_equal(name, SLICE("updated_at")));
}

static bool read_scylladb_columns(struct scylladb_connection *connection, struct error *error) {
    const struct slice names[] = {slice_of(connection->store->keyspace), slice_of(connection->store->table)};
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = query_schema(connection,
                             "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND "
                             "table_name = ?",
                             names, 2, rows, error);

    memset(connection->columns, 0, sizeof connection->columns);
    connection->has_created_at = connection->has_updated_at = false;
    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        struct slice name, type;
        if (cql_next_value(rows, &name) && cql_next_value(rows, &type))
            note_scylladb_column(connection, name, type);
    }
    free(rows);
    return good;
}

/* Whether the options of an index name the column key as its target; the name may be in quotes. */
static bool is_key_index(struct slice options) {
    struct cql_reader reader = {(const uint8_t *)options.data, (const uint8_t *)options.data + options.length, false};

    for (uint32_t left = cql_read_int(&reader); left > 0 && !reader.failed; left--) {
        struct slice name, value;
        cql_read_bytes(&reader, &name);
        cql_read_bytes(&reader, &value);
        if (slice_equal(name, SLICE("target")))
            return slice_equal(value, SLICE("key")) || slice_equal(value, SLICE("\"key\""));
    }
    return false;
}

static bool read_index(struct scylladb_connection *connection, struct error *error) {
    const struct slice names[] = {slice_of(connection->store->keyspace), slice_of(connection->store->table)};
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good =
        query_schema(connection, "SELECT options FROM system_schema.indexes WHERE keyspace_name = ? AND table_name = ?",
                     names, 2, rows, error);

    connection->has_index = false;
    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        struct slice options;
        if (cql_next_value(rows, &options) && is_key_index(options))
            connection->has_index = true;
    }
    free(rows);
    return good;
}

static bool read_table(struct scylladb_connection *connection, struct error *error) {
    static const enum app_field needed[] = {APP_ID, APP_KEY, APP_SECRET};

    if (!read_scylladb_columns(connection, error) || !read_index(connection, error))
        return false;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const struct scylladb_column *column = &connection->columns[needed[i]];
        if (!column->exists)
            return error_set(
                error,
                "app_manager.scylladb.keyspace and .table_name: there is no table %s.%s with the columns id, "
                "key and secret",
                connection->store->keyspace, connection->store->table);
        if (!scylladb_column_fits(needed[i], column))
            return error_set(error, "app_manager.scylladb: the column %s of %s.%s has the type %s, which holds no text",
                             app_fields[needed[i]].name, connection->store->keyspace, connection->store->table,
                             column->type_name);
    }
    return true;
}

uint32_t scylladb_columns(const struct scylladb_connection *connection) {
    uint32_t bits = 0;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        bits |= (uint32_t)connection->columns[i].exists << i;
    return bits;
}

enum store_answer scylladb_know_table(struct scylladb_connection *connection, struct error *error) {
    if (!scylladb_refresh_nodes(connection, error))
        return STORE_UNAVAILABLE;
    if (store_table_changed(&connection->base) || clock_monotonic_ms() >= connection->reread_table_ms)
        connection->table_known = false;
    if (connection->table_known)
        return STORE_OK;
    if (!read_table(connection, error))
        return STORE_UNAVAILABLE;
    connection->table_known = true;
    connection->reread_table_ms = row_reread_ms(scylladb_columns(connection));
    return STORE_OK;
}

/* --- changes --- */

static bool read_version(struct scylladb_connection *connection, const char *statement, char version[16], bool *agreed,
                         struct error *error) {
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = query_schema(connection, statement, NULL, 0, rows, error);

    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        struct slice value;
        if (!cql_next_value(rows, &value) || value.length != 16)
            continue;
        if (agreed == NULL)
            memcpy(version, value.data, 16);
        else if (memcmp(version, value.data, 16) != 0)
            *agreed = false;
    }
    free(rows);
    return good;
}

/*
 * Waits until the nodes have the same schema: a node that does not have a new table yet answers that there is none. The
 * last schema of a node that is down counts as well, so the wait ends after ten seconds, and the server goes on.
 */
static void await_schema_agreement(struct scylladb_connection *connection) {
    char version[16] = {0};
    struct error ignored;

    for (unsigned i = 0; i < AGREEMENT_TRIES; i++) {
        bool agreed = true;
        if (!read_version(connection, "SELECT schema_version FROM system.local", version, NULL, &ignored) ||
            !read_version(connection, "SELECT schema_version FROM system.peers", version, &agreed, &ignored) ||
            agreed || !deadline_sleep(&connection->base.deadline, AGREEMENT_PAUSE_MS))
            return;
    }
    log_warning("app",
                "scylladb: after a change of the schema not all nodes have the same one; if one of them is down "
                "that is why");
}

/* Runs a statement that changes the schema. If this user may not, logs it for a user who may. */
static enum store_answer change_scylladb_schema(struct scylladb_connection *connection, const char *statement,
                                                struct error *error) {
    struct cql_rows *rows = alloc(sizeof *rows);
    bool done = query_schema(connection, statement, NULL, 0, rows, error);
    enum store_answer answer = done ? STORE_OK : scylladb_failure(connection);

    free(rows);
    if (done)
        log_info("app", "scylladb: %s", statement);
    else if (cql_failure(connection->link) == CQL_LOST)
        return STORE_UNAVAILABLE;
    else if (cql_failure_code(connection->link) == CQL_ERROR_ALREADY_EXISTS)
        return STORE_OK;
    else if (cql_failure_code(connection->link) == CQL_ERROR_UNAUTHORIZED)
        log_warning("app", "%s; an administrator should run: %s", error->text, statement);
    return answer;
}

static const char *scylladb_type_name(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        return "int";
    case APP_TYPE_TIME:
        return "bigint";
    case APP_TYPE_FLAG:
        return "boolean";
    default:
        return "text";
    }
}

static enum store_answer create_keyspace(struct scylladb_connection *connection, struct error *error) {
    const struct scylladb_store *store = connection->store;
    const struct slice keyspace = slice_of(store->keyspace);
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = query_schema(connection, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
                             &keyspace, 1, rows, error);
    bool exists = good && rows->row_count > 0;
    char statement[1024];

    free(rows);
    if (!good)
        return STORE_UNAVAILABLE;
    if (exists)
        return STORE_OK;
    snprintf(statement, sizeof statement,
             "CREATE KEYSPACE IF NOT EXISTS \"%s\" WITH replication = {'class': '%s', 'replication_factor': %u}",
             store->keyspace, store->config->database.scylladb.replication_class,
             store->config->database.scylladb.replication_factor);
    return change_scylladb_schema(connection, statement, error);
}

static void append_scylladb_table(struct buffer *statement, const struct scylladb_store *store) {
    buffer_appendf(statement, "CREATE TABLE IF NOT EXISTS \"%s\".\"%s\" (", store->keyspace, store->table);
    for_each_field(i, row_layout_fields)
        buffer_appendf(statement, "\"%s\" %s%s, ", app_fields[i].name, scylladb_type_name((enum app_field)i),
                       i == APP_ID ? " PRIMARY KEY" : "");
    buffer_appendf(statement, "created_at timestamp, updated_at timestamp)");
}

/* Appends the statement that adds these columns (bits). False if there are none. */
static bool append_add_columns(struct buffer *statement, const struct scylladb_connection *connection,
                               uint32_t columns) {
    const char *between = "(";

    buffer_appendf(statement, "ALTER TABLE \"%s\".\"%s\" ADD ", connection->store->keyspace, connection->store->table);
    for_each_field(i, columns) {
        buffer_appendf(statement, "%s\"%s\" %s", between, app_fields[i].name, scylladb_type_name((enum app_field)i));
        between = ", ";
    }
    buffer_append_string(statement, ")");
    return between[0] == ',';
}

void scylladb_advise_columns(const struct scylladb_connection *connection, const struct app *app, struct error *error) {
    struct buffer statement = {0};

    if (append_add_columns(&statement, connection, row_missing(scylladb_columns(connection), app)))
        row_refuse_without(error, &statement);
    buffer_dispose(&statement);
}

/* Adds the missing columns. If another server adds them at the same time the statement is invalid, and fewer are
 * missing at the next attempt. */
static enum store_answer add_scylladb_columns(struct scylladb_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;

    for (unsigned attempt = 0; attempt < ADD_TRIES; attempt++) {
        struct buffer statement = {0};
        bool missing = append_add_columns(&statement, connection, row_layout_fields & ~scylladb_columns(connection));
        answer = missing ? change_scylladb_schema(connection, buffer_string(&statement), error) : STORE_OK;
        buffer_dispose(&statement);
        if (answer != STORE_REFUSED || cql_failure_code(connection->link) != CQL_ERROR_INVALID)
            return answer;
        if (!read_scylladb_columns(connection, error))
            return STORE_UNAVAILABLE;
    }
    return answer;
}

static enum store_answer create_scylladb_table(struct scylladb_connection *connection, struct error *error) {
    struct buffer statement = {0};
    enum store_answer answer;

    if (!read_scylladb_columns(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->columns[APP_ID].exists)
        return add_scylladb_columns(connection, error);
    append_scylladb_table(&statement, connection->store);
    answer = change_scylladb_schema(connection, buffer_string(&statement), error);
    buffer_dispose(&statement);
    return answer;
}

static enum store_answer create_key_index(struct scylladb_connection *connection, struct error *error) {
    const struct scylladb_store *store = connection->store;
    char statement[1024];

    if (!read_index(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->has_index)
        return STORE_OK;
    snprintf(statement, sizeof statement, "CREATE INDEX IF NOT EXISTS ON \"%s\".\"%s\" (\"key\")", store->keyspace,
             store->table);
    return change_scylladb_schema(connection, statement, error);
}

static enum store_answer create_schema(struct scylladb_connection *connection, struct error *error) {
    enum store_answer answer = create_keyspace(connection, error);

    if (answer != STORE_UNAVAILABLE)
        answer = create_scylladb_table(connection, error);
    if (answer != STORE_UNAVAILABLE)
        answer = create_key_index(connection, error);
    if (answer != STORE_UNAVAILABLE)
        await_schema_agreement(connection);
    return answer;
}

/* Whether nothing has to be changed. */
static bool is_complete(struct scylladb_connection *connection) {
    struct error ignored;

    return read_table(connection, &ignored) && connection->has_index &&
           (row_layout_fields & ~scylladb_columns(connection)) == 0;
}

static enum store_answer add_scylladb_policy(struct scylladb_connection *connection, struct error *error) {
    const struct scylladb_store *store = connection->store;
    enum store_answer answer;
    char statement[1024];

    if (!read_scylladb_columns(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->columns[APP_POLICY].exists)
        return STORE_OK;
    snprintf(statement, sizeof statement, "ALTER TABLE \"%s\".\"%s\" ADD \"%s\" %s", store->keyspace, store->table,
             app_fields[APP_POLICY].name, scylladb_type_name(APP_POLICY));
    answer = change_scylladb_schema(connection, statement, error);
    if (answer == STORE_REFUSED && cql_failure_code(connection->link) == CQL_ERROR_INVALID &&
        read_scylladb_columns(connection, error) && connection->columns[APP_POLICY].exists)
        answer = STORE_OK; /* another server has just added it */
    if (answer == STORE_OK)
        await_schema_agreement(connection);
    return answer;
}

/* Changes the schema through the node that all servers use for it, if it can be had: one after the other. */
static enum store_answer change_through_schema_node(struct scylladb_connection *connection,
                                                    enum store_answer (*change)(struct scylladb_connection *connection,
                                                                                struct error *error),
                                                    struct error *error) {
    struct scylladb_connection *other =
        connection->schema_node[0] != '\0' ? scylladb_connect_to_schema_node(connection) : NULL;
    enum store_answer answer = change(other != NULL ? other : connection, error);

    if (other != NULL)
        scylladb_close_connection(other);
    return answer;
}

enum store_answer scylladb_make_room(struct scylladb_connection *connection, const struct app *app,
                                     struct error *error) {
    enum store_answer answer;

    if (!row_needs_policy(scylladb_columns(connection), app))
        return STORE_OK;
    answer = change_through_schema_node(connection, add_scylladb_policy, error);
    if (answer == STORE_REFUSED)
        error_prefix(error, "the table has no column policy, and it cannot be added");
    if (answer != STORE_OK)
        return answer;
    store_change_table(&connection->base);
    return scylladb_know_table(connection, error);
}

enum store_answer scylladb_prepare(struct store_connection *base, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    if (!is_complete(connection) && change_through_schema_node(connection, create_schema, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    connection->table_known = false;
    connection->refresh_nodes_ms = 0; /* the keyspace may be new */
    return scylladb_know_table(connection, error);
}

enum store_answer scylladb_inspect(struct store_connection *base, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    if (!read_scylladb_columns(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->columns[APP_ID].exists)
        return scylladb_know_table(connection, error);
    error_set(error, "app_manager.scylladb: there is no table %s.%s", connection->store->keyspace,
              connection->store->table);
    return STORE_NOT_FOUND;
}
