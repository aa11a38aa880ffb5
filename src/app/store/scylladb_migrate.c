#include <stdlib.h>
#include <string.h>

#include "app/store/row.h"
#include "app/store/scylladb.h"
#include "base/alloc.h"
#include "base/log.h"

#define AGREEMENT_PAUSE_MS 100
#define AGREEMENT_TRIES 100

static bool ask_schema(struct store_connection *connection, const char *statement, const struct slice *values,
                       unsigned count, const struct patience *patience, struct cql_rows *rows, struct error *error) {
    struct cql_request request = {
        .statement = slice_of(statement), .values = values, .count = count, .consistency = CQL_ONE};

    return cql_run(connection->link, &request, patience, rows, error) ||
           error_prefix(error, "scylladb node %s:%u", connection->node.host, connection->node.port);
}

/* --- what is there --- */

static uint16_t type_of(struct slice text) {
    static const struct {
        const char *name;
        uint16_t type;
    } types[] = {
        {"text", CQL_TYPE_VARCHAR},    {"varchar", CQL_TYPE_VARCHAR},         {"ascii", CQL_TYPE_ASCII},
        {"int", CQL_TYPE_INT},         {"bigint", CQL_TYPE_BIGINT},           {"smallint", CQL_TYPE_SMALLINT},
        {"tinyint", CQL_TYPE_TINYINT}, {"boolean", CQL_TYPE_BOOLEAN},         {"list<text>", CQL_TYPE_LIST},
        {"set<text>", CQL_TYPE_SET},   {"frozen<list<text>>", CQL_TYPE_LIST},
    };

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (slice_equal(slice_of(types[i].name), text))
            return types[i].type;
    return CQL_TYPE_CUSTOM;
}

static void note_column(struct store_connection *connection, struct slice name, struct slice type) {
    enum app_field field;

    if (app_field_from_name(name, &field))
        connection->columns[field] = (uint16_t)(type_of(type) + 1);
    connection->has_created_at = connection->has_created_at || slice_equal(name, SLICE("created_at"));
    connection->has_updated_at = connection->has_updated_at || slice_equal(name, SLICE("updated_at"));
}

static bool read_columns(struct store_connection *connection, const struct patience *patience, struct error *error) {
    const struct slice names[] = {slice_of(connection->store->keyspace), slice_of(connection->store->table)};
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = ask_schema(connection,
                           "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND "
                           "table_name = ?",
                           names, 2, patience, rows, error);

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

/* Whether there is an index on the key: its options name the column. */
static bool read_index(struct store_connection *connection, const struct patience *patience, struct error *error) {
    const struct slice names[] = {slice_of(connection->store->keyspace), slice_of(connection->store->table)};
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good =
        ask_schema(connection, "SELECT options FROM system_schema.indexes WHERE keyspace_name = ? AND table_name = ?",
                   names, 2, patience, rows, error);

    connection->has_index = false;
    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        struct slice options;
        if (!cql_next_value(rows, &options))
            continue;
        /* A map of texts; the target is `key`, quoted or not, alone or in parentheses. */
        if (memmem(options.data, options.length, "target", 6) != NULL &&
            memmem(options.data, options.length, "key", 3) != NULL)
            connection->has_index = true;
    }
    free(rows);
    return good;
}

enum store_answer scylladb_look(struct store_connection *connection, const struct patience *patience,
                                struct error *error) {
    if (connection->looked)
        return STORE_OK;
    if (!read_columns(connection, patience, error) || !read_index(connection, patience, error))
        return scylladb_failure(connection);
    if (connection->columns[APP_ID] == 0 || connection->columns[APP_KEY] == 0 || connection->columns[APP_SECRET] == 0) {
        error_set(error, "database.scylladb: there is no table %s.%s with the columns id, key and secret",
                  connection->store->keyspace, connection->store->table);
        return STORE_UNAVAILABLE;
    }
    connection->looked = true;
    return STORE_OK;
}

/* --- changes --- */

static bool read_version(struct store_connection *connection, const char *statement, const struct patience *patience,
                         char version[16], bool *agreed, struct error *error) {
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = ask_schema(connection, statement, NULL, 0, patience, rows, error);

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

/* Until all nodes that are known to be up have the same schema, for ten seconds at most. */
static void await_agreement(struct store_connection *connection, const struct patience *patience) {
    char version[16] = {0};
    struct error ignored;

    for (unsigned i = 0; i < AGREEMENT_TRIES; i++) {
        bool agreed = true;
        if (!read_version(connection, "SELECT schema_version FROM system.local", patience, version, NULL, &ignored) ||
            !read_version(connection, "SELECT schema_version FROM system.peers", patience, version, &agreed,
                          &ignored) ||
            agreed || !patience_pause(patience, AGREEMENT_PAUSE_MS))
            return;
    }
}

/* Runs what changes the schema. Where it may not, the log says what somebody else should run. */
static enum store_answer change(struct store_connection *connection, const char *statement,
                                const struct patience *patience, struct error *error) {
    struct cql_rows *rows = alloc(sizeof *rows);
    bool done = ask_schema(connection, statement, NULL, 0, patience, rows, error);
    enum store_answer answer = done ? STORE_OK : scylladb_failure(connection);

    free(rows);
    if (done) {
        log_info("app", "scylladb: %s", statement);
        await_agreement(connection, patience);
    } else if (cql_failure_code(connection->link) == CQL_ERROR_ALREADY_EXISTS) {
        return STORE_OK;
    } else if (cql_failure_code(connection->link) == CQL_ERROR_UNAUTHORIZED) {
        log_warning("app", "%s; to be run by somebody who may: %s", error->text, statement);
    }
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

static enum store_answer create_keyspace(struct store_connection *connection, const struct patience *patience,
                                         struct error *error) {
    const struct app_store *store = connection->store;
    const struct slice keyspace = slice_of(store->keyspace);
    struct cql_rows *rows = alloc(sizeof *rows);
    bool good = ask_schema(connection, "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?",
                           &keyspace, 1, patience, rows, error);
    bool there = good && rows->row_count > 0;
    char statement[1024];

    free(rows);
    if (!good)
        return scylladb_failure(connection);
    if (there)
        return STORE_OK;
    snprintf(statement, sizeof statement,
             "CREATE KEYSPACE IF NOT EXISTS \"%s\" WITH replication = {'class': '%s', 'replication_factor': %u}",
             store->keyspace, store->config->database.scylladb.replication_class,
             store->config->database.scylladb.replication_factor);
    return change(connection, statement, patience, error);
}

static void append_create_table(struct buffer *statement, const struct app_store *store) {
    buffer_appendf(statement, "CREATE TABLE IF NOT EXISTS \"%s\".\"%s\" (", store->keyspace, store->table);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        buffer_appendf(statement, "\"%s\" %s%s, ", app_fields[i].name, column_type((enum app_field)i),
                       i == APP_ID ? " PRIMARY KEY" : "");
    buffer_appendf(statement, "created_at timestamp, updated_at timestamp)");
    buffer_append_byte(statement, '\0');
}

/* Columns one by one: another server may be adding the same ones. */
static enum store_answer add_columns(struct store_connection *connection, const struct patience *patience,
                                     struct error *error) {
    const struct app_store *store = connection->store;
    enum store_answer answer = STORE_OK;
    char statement[1024];

    for (unsigned i = 0; i < APP_FIELD_COUNT && answer == STORE_OK; i++) {
        if (connection->columns[i] != 0)
            continue;
        snprintf(statement, sizeof statement, "ALTER TABLE \"%s\".\"%s\" ADD \"%s\" %s", store->keyspace, store->table,
                 app_fields[i].name, column_type((enum app_field)i));
        answer = change(connection, statement, patience, error);
        if (cql_failure_code(connection->link) == CQL_ERROR_INVALID) /* somebody was faster */
            answer = STORE_OK;
    }
    return answer;
}

static enum store_answer create_table(struct store_connection *connection, const struct patience *patience,
                                      struct error *error) {
    struct buffer statement = {0};
    enum store_answer answer;

    if (!read_columns(connection, patience, error))
        return scylladb_failure(connection);
    if (connection->columns[APP_ID] != 0)
        return add_columns(connection, patience, error);
    append_create_table(&statement, connection->store);
    answer = change(connection, statement.data, patience, error);
    buffer_dispose(&statement);
    return answer;
}

static enum store_answer create_index(struct store_connection *connection, const struct patience *patience,
                                      struct error *error) {
    const struct app_store *store = connection->store;
    char statement[1024];

    if (!read_index(connection, patience, error))
        return scylladb_failure(connection);
    if (connection->has_index)
        return STORE_OK;
    snprintf(statement, sizeof statement, "CREATE INDEX IF NOT EXISTS ON \"%s\".\"%s\" (\"key\")", store->keyspace,
             store->table);
    return change(connection, statement, patience, error);
}

enum store_answer scylladb_prepare(struct store_connection *connection, const struct patience *patience,
                                   struct error *error) {
    enum store_answer answer = create_keyspace(connection, patience, error);

    if (answer != STORE_UNAVAILABLE)
        answer = create_table(connection, patience, error);
    if (answer != STORE_UNAVAILABLE)
        answer = create_index(connection, patience, error);
    if (answer == STORE_UNAVAILABLE)
        return answer;
    if (!scylladb_look_at_replicas(connection, patience, error))
        return scylladb_failure(connection);
    connection->looked = false;
    return scylladb_look(connection, patience, error);
}
