#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/row.h"
#include "store/scylladb/scylladb_internal.h"

#define AGREEMENT_PAUSE_MS 100
#define AGREEMENT_TRIES 100
#define ADD_TRIES 5

static bool ask_schema(struct scylladb_connection *connection, const char *statement, const struct slice *values,
                       unsigned count, struct cql_rows *rows, struct error *error) {
    struct cql_request request = {
        .statement = slice_of(statement), .values = values, .count = count, .consistency = CQL_ONE};

    return cql_run(connection->link, &request, &connection->base.deadline, rows, error) ||
           error_prefix(error, "scylladb node %s:%u", connection->node.host, connection->node.port);
}

/* --- what is there --- */

static void note_column(struct scylladb_connection *connection, struct slice name, struct slice type) {
    struct scylladb_column column = {.there = true};
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

static bool read_columns(struct scylladb_connection *connection, struct error *error) {
    const struct slice names[] = {slice_of(connection->store->keyspace), slice_of(connection->store->table)};
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = ask_schema(connection,
                           "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND "
                           "table_name = ?",
                           names, 2, rows, error);

    memset(connection->columns, 0, sizeof connection->columns);
    connection->has_created_at = connection->has_updated_at = false;
    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        struct slice name, type;
        if (cql_next_value(rows, &name) && cql_next_value(rows, &type))
            note_column(connection, name, type);
    }
    free(rows);
    return good;
}

/* Whether an index's options name the key column as its target; the name may stand in quotes. */
static bool is_on_key(struct slice options) {
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
        ask_schema(connection, "SELECT options FROM system_schema.indexes WHERE keyspace_name = ? AND table_name = ?",
                   names, 2, rows, error);

    connection->has_index = false;
    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        struct slice options;
        if (cql_next_value(rows, &options) && is_on_key(options))
            connection->has_index = true;
    }
    free(rows);
    return good;
}

static bool look_at_table(struct scylladb_connection *connection, struct error *error) {
    static const enum app_field needed[] = {APP_ID, APP_KEY, APP_SECRET};

    if (!read_columns(connection, error) || !read_index(connection, error))
        return false;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const struct scylladb_column *column = &connection->columns[needed[i]];
        if (!column->there)
            return error_set(error,
                             "database.scylladb.keyspace and .table_name: there is no table %s.%s with the columns id, "
                             "key and secret",
                             connection->store->keyspace, connection->store->table);
        if (!scylladb_column_fits(needed[i], column))
            return error_set(error, "database.scylladb: the column %s of %s.%s has the type %s, which holds no text",
                             app_fields[needed[i]].name, connection->store->keyspace, connection->store->table,
                             column->type_name);
    }
    return true;
}

enum store_answer scylladb_look(struct scylladb_connection *connection, struct error *error) {
    if (!scylladb_look_around(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->looked)
        return STORE_OK;
    if (!look_at_table(connection, error))
        return STORE_UNAVAILABLE;
    connection->looked = true;
    return STORE_OK;
}

/* --- changes --- */

static bool read_version(struct scylladb_connection *connection, const char *statement, char version[16], bool *agreed,
                         struct error *error) {
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = ask_schema(connection, statement, NULL, 0, rows, error);

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
 * Until the nodes have the same schema: one that has not heard of a table yet answers that there is none. What a node
 * that is down had last counts as well, so this ends after ten seconds, and the servers go on.
 */
static void await_agreement(struct scylladb_connection *connection) {
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

/* Runs what changes the schema. Where it may not, the log says what somebody else should run. */
static enum store_answer change(struct scylladb_connection *connection, const char *statement, struct error *error) {
    struct cql_rows *rows = alloc(sizeof *rows);
    bool done = ask_schema(connection, statement, NULL, 0, rows, error);
    enum store_answer answer = done ? STORE_OK : scylladb_failure(connection);

    free(rows);
    if (done)
        log_info("app", "scylladb: %s", statement);
    else if (cql_failure(connection->link) == CQL_LOST)
        return STORE_UNAVAILABLE;
    else if (cql_failure_code(connection->link) == CQL_ERROR_ALREADY_EXISTS)
        return STORE_OK;
    else if (cql_failure_code(connection->link) == CQL_ERROR_UNAUTHORIZED)
        log_warning("app", "%s; to be run by somebody who may: %s", error->text, statement);
    return answer;
}

static const char *column_type(enum app_field field) {
    switch (app_fields[field].type) {
    case APP_TYPE_NUMBER:
        return "int";
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
    bool good = ask_schema(connection, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
                           &keyspace, 1, rows, error);
    bool there = good && rows->row_count > 0;
    char statement[1024];

    free(rows);
    if (!good)
        return STORE_UNAVAILABLE;
    if (there)
        return STORE_OK;
    snprintf(statement, sizeof statement,
             "CREATE KEYSPACE IF NOT EXISTS \"%s\" WITH replication = {'class': '%s', 'replication_factor': %u}",
             store->keyspace, store->config->database.scylladb.replication_class,
             store->config->database.scylladb.replication_factor);
    return change(connection, statement, error);
}

static void append_create_table(struct buffer *statement, const struct scylladb_store *store) {
    buffer_appendf(statement, "CREATE TABLE IF NOT EXISTS \"%s\".\"%s\" (", store->keyspace, store->table);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        buffer_appendf(statement, "\"%s\" %s%s, ", app_fields[i].name, column_type((enum app_field)i),
                       i == APP_ID ? " PRIMARY KEY" : "");
    buffer_appendf(statement, "created_at timestamp, updated_at timestamp)");
    buffer_append_byte(statement, '\0');
}

/* False if no column is missing. */
static bool append_add_columns(struct buffer *statement, const struct scylladb_connection *connection) {
    const char *between = "(";

    buffer_appendf(statement, "ALTER TABLE \"%s\".\"%s\" ADD ", connection->store->keyspace, connection->store->table);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (connection->columns[i].there)
            continue;
        buffer_appendf(statement, "%s\"%s\" %s", between, app_fields[i].name, column_type((enum app_field)i));
        between = ", ";
    }
    buffer_append_string(statement, ")");
    buffer_append_byte(statement, '\0');
    return between[0] == ',';
}

/* Another server may be adding the same ones: then the statement is invalid, and what is missing is less. */
static enum store_answer add_columns(struct scylladb_connection *connection, struct error *error) {
    enum store_answer answer = STORE_OK;

    for (unsigned attempt = 0; attempt < ADD_TRIES; attempt++) {
        struct buffer statement = {0};
        bool missing = append_add_columns(&statement, connection);
        answer = missing ? change(connection, statement.data, error) : STORE_OK;
        buffer_dispose(&statement);
        if (answer != STORE_REFUSED || cql_failure_code(connection->link) != CQL_ERROR_INVALID)
            return answer;
        if (!read_columns(connection, error))
            return STORE_UNAVAILABLE;
    }
    return answer;
}

static enum store_answer create_table(struct scylladb_connection *connection, struct error *error) {
    struct buffer statement = {0};
    enum store_answer answer;

    if (!read_columns(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->columns[APP_ID].there)
        return add_columns(connection, error);
    append_create_table(&statement, connection->store);
    answer = change(connection, statement.data, error);
    buffer_dispose(&statement);
    return answer;
}

static enum store_answer create_index(struct scylladb_connection *connection, struct error *error) {
    const struct scylladb_store *store = connection->store;
    char statement[1024];

    if (!read_index(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->has_index)
        return STORE_OK;
    snprintf(statement, sizeof statement, "CREATE INDEX IF NOT EXISTS ON \"%s\".\"%s\" (\"key\")", store->keyspace,
             store->table);
    return change(connection, statement, error);
}

static enum store_answer create_all(struct scylladb_connection *connection, struct error *error) {
    enum store_answer answer = create_keyspace(connection, error);

    if (answer != STORE_UNAVAILABLE)
        answer = create_table(connection, error);
    if (answer != STORE_UNAVAILABLE)
        answer = create_index(connection, error);
    if (answer != STORE_UNAVAILABLE)
        await_agreement(connection);
    return answer;
}

/* Whether there is nothing to change. */
static bool is_complete(struct scylladb_connection *connection) {
    struct error ignored;

    if (!look_at_table(connection, &ignored) || !connection->has_index)
        return false;
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (!connection->columns[i].there)
            return false;
    return true;
}

/* All servers change the schema through the same node if they can, one after the other. */
static enum store_answer create_through_first(struct scylladb_connection *connection, struct error *error) {
    struct scylladb_connection *first = connection->first[0] != '\0' ? scylladb_connect_to_first(connection) : NULL;
    enum store_answer answer = create_all(first != NULL ? first : connection, error);

    if (first != NULL)
        scylladb_close_connection(first);
    return answer;
}

enum store_answer scylladb_prepare(struct store_connection *base, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    if (!is_complete(connection) && create_through_first(connection, error) == STORE_UNAVAILABLE)
        return STORE_UNAVAILABLE;
    connection->looked = false;
    connection->look_around_ms = 0; /* the keyspace may be new */
    return scylladb_look(connection, error);
}

enum store_answer scylladb_inspect(struct store_connection *base, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    if (!read_columns(connection, error))
        return STORE_UNAVAILABLE;
    if (connection->columns[APP_ID].there)
        return scylladb_look(connection, error);
    error_set(error, "database.scylladb: there is no table %s.%s", connection->store->keyspace,
              connection->store->table);
    return STORE_NOT_FOUND;
}
