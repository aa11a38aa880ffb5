#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "store/name_conflict.h"
#include "store/row.h"
#include "store/scylladb/scylladb_internal.h"

#define VALUES_MAX (APP_FIELD_COUNT + 3)

/* The values of a statement, and the names of their columns. */
struct write_values {
    unsigned count;
    const char *names[VALUES_MAX];
    struct buffer bytes[VALUES_MAX];
    struct slice slices[VALUES_MAX];
};

static void finish_value(struct write_values *values, const char *name, bool is_null) {
    unsigned at = values->count++;

    values->names[at] = name;
    values->slices[at] = is_null ? (struct slice){NULL, 0} : buffer_slice(&values->bytes[at]);
}

static void add_time_value(struct write_values *values, const char *name) {
    cql_append_timestamp_value(&values->bytes[values->count], clock_wall_ms());
    finish_value(values, name, false);
}

/*
 * Adds the fields that have a column. A field that is not set is left out of a new row, and of an update whose column
 * has a type that we do not write.
 */
static bool add_fields(struct write_values *values, const struct scylladb_connection *connection, const struct app *app,
                       bool is_new, struct error *error) {
    uint32_t written = 0;

    for (unsigned i = is_new ? APP_ID : APP_ID + 1; i < APP_FIELD_COUNT; i++) {
        const struct scylladb_column *column = &connection->columns[i];
        bool is_null;
        if (!column->exists)
            continue;
        written |= 1u << i;
        if (!scylladb_field_value(&values->bytes[values->count], &is_null, app, (enum app_field)i, column, error))
            return false;
        if (!is_null || (!is_new && scylladb_column_fits((enum app_field)i, column)))
            finish_value(values, app_fields[i].name, is_null);
    }
    if (row_keeps(written, app, error))
        return true;
    scylladb_advise_columns(connection, app, error);
    return false;
}

static void write_values_dispose(struct write_values *values) {
    for (unsigned i = 0; i < VALUES_MAX; i++)
        buffer_dispose(&values->bytes[i]);
}

/* Whether the node may have done a write although it failed. */
static bool outcome_unknown(const struct scylladb_connection *connection) {
    uint32_t code = cql_failure_code(connection->link);

    return cql_failure(connection->link) == CQL_LOST || code == CQL_ERROR_WRITE_TIMEOUT ||
           code == CQL_ERROR_WRITE_FAILURE;
}

/* Runs a write; `applied` is false if a lightweight transaction's condition did not hold. */
static enum store_answer run_scylladb_write(struct scylladb_connection *connection, struct slice statement,
                                            const struct slice *values, unsigned count, bool *applied,
                                            struct error *error) {
    struct cql_request request = {
        .statement = statement, .values = values, .count = count, .conditional = !connection->no_quorum};
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

static enum store_answer scylladb_id_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                           struct error *error) {
    struct app *found = NULL;
    enum store_answer answer = scylladb_find_app(scylladb_connection_of(base), APP_ID, app->id, &found, error);

    app_unref(found);
    if (answer == STORE_OK || answer == STORE_INVALID) { /* a broken record has its id, too */
        buffer_append(owner, app->id);
        return STORE_OK;
    }
    return answer;
}

static const struct conflict_lookups scylladb_lookups = {scylladb_id_owner, scylladb_key_owner};

static enum store_answer insert_row(struct scylladb_connection *connection, const struct app *app,
                                    struct error *error) {
    struct write_values values = {0};
    struct buffer statement = {0};
    enum store_answer answer = STORE_REFUSED;
    bool applied = true;

    buffer_appendf(&statement, "INSERT INTO \"%s\".\"%s\" (", connection->store->keyspace, connection->store->table);
    if (add_fields(&values, connection, app, true, error)) {
        if (connection->has_created_at)
            add_time_value(&values, "created_at");
        if (connection->has_updated_at)
            add_time_value(&values, "updated_at");
        for (unsigned i = 0; i < values.count; i++)
            buffer_appendf(&statement, "%s\"%s\"", i > 0 ? ", " : "", values.names[i]);
        buffer_append_string(&statement, ") VALUES (?");
        for (unsigned i = 1; i < values.count; i++)
            buffer_append_string(&statement, ", ?");
        buffer_appendf(&statement, ")%s", connection->no_quorum ? "" : " IF NOT EXISTS");
        answer = run_scylladb_write(connection, buffer_slice(&statement), values.slices, values.count, &applied, error);
    } else {
        connection->table_known = false; /* the columns may have changed */
    }
    buffer_dispose(&statement);
    write_values_dispose(&values);
    return answer == STORE_OK && !applied ? conflict_id_taken(app->id, error) : answer;
}

static enum store_answer create_app_once(struct scylladb_connection *connection, const struct app *app,
                                         struct error *error) {
    enum store_answer answer = conflict_check_create(&connection->base, &scylladb_lookups, app, error);

    if (answer == STORE_OK)
        answer = scylladb_make_room(connection, app, error);
    return answer == STORE_OK ? insert_row(connection, app, error) : answer;
}

enum store_answer scylladb_create(struct store_connection *base, const struct app *app, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = create_app_once(connection, app, error);

    return scylladb_table_changed(connection, answer) ? create_app_once(connection, app, error) : answer;
}

/* An UPDATE in CQL creates a row that does not exist, so it has IF EXISTS; without a quorum only the check before
 * the write prevents that. */
static enum store_answer update_row(struct scylladb_connection *connection, const struct app *app,
                                    struct error *error) {
    struct write_values values = {0};
    struct buffer statement = {0};
    enum store_answer answer = STORE_REFUSED;
    bool applied = true;

    buffer_appendf(&statement, "UPDATE \"%s\".\"%s\" SET ", connection->store->keyspace, connection->store->table);
    if (add_fields(&values, connection, app, false, error)) {
        if (connection->has_updated_at)
            add_time_value(&values, "updated_at");
        for (unsigned i = 0; i < values.count; i++)
            buffer_appendf(&statement, "%s\"%s\" = ?", i > 0 ? ", " : "", values.names[i]);
        buffer_appendf(&statement, " WHERE id = ?%s", connection->no_quorum ? "" : " IF EXISTS");
        scylladb_bind_name(&values.bytes[values.count], connection, APP_ID, app->id);
        finish_value(&values, "id", false);
        answer = run_scylladb_write(connection, buffer_slice(&statement), values.slices, values.count, &applied, error);
    } else {
        connection->table_known = false; /* the columns may have changed */
    }
    buffer_dispose(&statement);
    write_values_dispose(&values);
    return answer == STORE_OK && !applied ? conflict_no_such_app(app->id, error) : answer;
}

static enum store_answer update_app_once(struct scylladb_connection *connection, const struct app *app,
                                         struct error *error) {
    enum store_answer answer = conflict_check_update(&connection->base, &scylladb_lookups, app, error);

    if (answer == STORE_OK)
        answer = scylladb_make_room(connection, app, error);
    return answer == STORE_OK ? update_row(connection, app, error) : answer;
}

enum store_answer scylladb_update(struct store_connection *base, const struct app *app, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = update_app_once(connection, app, error);

    return scylladb_table_changed(connection, answer) ? update_app_once(connection, app, error) : answer;
}

enum store_answer scylladb_remove(struct store_connection *base, struct slice id, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    struct app *found = NULL;
    enum store_answer answer = scylladb_find_app(connection, APP_ID, id, &found, error);
    struct buffer value = {0};
    struct slice values[1];
    char statement[1024];
    bool applied;

    app_unref(found);
    if (answer == STORE_NOT_FOUND)
        return conflict_no_such_app(id, error);
    if (answer != STORE_OK && answer != STORE_INVALID)
        return answer;
    scylladb_bind_name(&value, connection, APP_ID, id);
    values[0] = buffer_slice(&value);
    snprintf(statement, sizeof statement, "DELETE FROM \"%s\".\"%s\" WHERE id = ?%s", connection->store->keyspace,
             connection->store->table, connection->no_quorum ? "" : " IF EXISTS");
    answer = run_scylladb_write(connection, slice_of(statement), values, 1, &applied, error);
    buffer_dispose(&value);
    return answer == STORE_OK && !applied ? conflict_no_such_app(id, error) : answer;
}
