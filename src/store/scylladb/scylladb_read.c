#include <stdlib.h>
#include <string.h>

#include "app/record_json.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "store/name_conflict.h"
#include "store/row.h"
#include "store/scylladb/scylladb_internal.h"

/* --- rows --- */

struct scylladb_row {
    json_t *record;
    int64_t created_at; /* INT64_MAX: not known */
};

static struct scylladb_row read_scylladb_row(struct cql_rows *rows) {
    struct scylladb_row row = {json_object(), INT64_MAX};

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

/* --- reading --- */

#define PAGE_ROWS 200 /* so many large rows fit in a response (CQL_BODY_MAX_BYTES) */
#define INDEX_TRIES 20
#define INDEX_PAUSE_MS 100

static bool select_scylladb_rows(struct scylladb_connection *connection, const char *clause,
                                 struct cql_request *request, struct cql_rows *rows, struct error *error) {
    struct buffer statement = {0};
    bool done;

    buffer_append_string(&statement, "SELECT ");
    for_each_field(i, scylladb_columns(connection))
        buffer_appendf(&statement, "\"%s\", ", app_fields[i].name);
    statement.length -= 2;
    buffer_appendf(&statement, "%s FROM \"%s\".\"%s\" %s", connection->has_created_at ? ", created_at" : "",
                   connection->store->keyspace, connection->store->table, clause);
    request->statement = buffer_slice(&statement);
    done = scylladb_run(connection, request, rows, error);
    buffer_dispose(&statement);
    return done;
}

bool scylladb_bind_name(struct buffer *value, const struct scylladb_connection *connection, enum app_field field,
                        struct slice name) {
    return name.length != 0 && utf8_valid(name) && cql_append_text_value(value, connection->columns[field].type, name);
}

/* Of two apps with the same key the one that was created first is returned. */
static bool is_older_row(const struct scylladb_row *a, const struct scylladb_row *b) {
    if (a->created_at != b->created_at)
        return a->created_at < b->created_at;
    return slice_compare(record_member(a->record, "id"), record_member(b->record, "id")) < 0;
}

static void keep_older_row(struct scylladb_row *best, struct scylladb_row row) {
    if (best->record == NULL) {
        *best = row;
        return;
    }
    if (is_older_row(&row, best)) {
        struct scylladb_row other = *best;
        *best = row;
        row = other;
    }
    conflict_log_shared_key(record_member(best->record, "id"), record_member(row.record, "id"));
    json_decref(row.record);
}

static bool has_name(const json_t *record, enum app_field field, struct slice name) {
    return slice_equal(record_member(record, app_fields[field].name), name);
}

/* ALLOW FILTERING, since a new index may not exist on every node yet. A node that has the index uses it. */
static const char *condition_on(enum app_field field) {
    return field == APP_ID ? "WHERE id = ?" : "WHERE \"key\" = ? ALLOW FILTERING";
}

/* Selects the rows with this name. A new index fails until it is built, which takes a moment for a small table. */
static bool select_by_name(struct scylladb_connection *connection, enum app_field field, struct slice value,
                           struct cql_rows *rows, struct error *error) {
    struct cql_request request = {.values = &value, .count = 1};

    for (unsigned tries = 1;; tries++) {
        if (select_scylladb_rows(connection, condition_on(field), &request, rows, error))
            return true;
        if (field != APP_KEY || cql_failure(connection->link) == CQL_LOST ||
            cql_failure_code(connection->link) != CQL_ERROR_READ_FAILURE || tries == INDEX_TRIES ||
            !deadline_sleep(&connection->base.deadline, INDEX_PAUSE_MS))
            return false;
    }
}

/* Finds the record with this name, the oldest of several; NULL: there is none. */
static enum store_answer find_oldest(struct scylladb_connection *connection, enum app_field field, struct slice name,
                                     json_t **record, struct error *error) {
    struct buffer value = {0};
    struct scylladb_row best = {0};
    enum store_answer answer = STORE_OK;
    struct cql_rows *rows = NULL;

    if (scylladb_bind_name(&value, connection, field, name)) {
        rows = alloc(sizeof *rows);
        if (!select_by_name(connection, field, buffer_slice(&value), rows, error))
            answer = scylladb_failure(connection);
    }
    for (uint32_t i = 0; rows != NULL && i < rows->row_count; i++) {
        struct scylladb_row row = read_scylladb_row(rows);
        if (has_name(row.record, field, name))
            keep_older_row(&best, row);
        else
            json_decref(row.record);
    }
    free(rows);
    buffer_dispose(&value);
    *record = best.record;
    return answer;
}

static enum store_answer find_app_once(struct scylladb_connection *connection, enum app_field field, struct slice name,
                                       struct app **app, struct error *error) {
    enum store_answer answer = scylladb_know_table(connection, error);
    json_t *record;

    if (answer == STORE_OK)
        answer = find_oldest(connection, field, name, &record, error);
    if (answer != STORE_OK)
        return answer;
    return record != NULL ? row_to_app(record, connection->store->defaults, app, error) : STORE_NOT_FOUND;
}

bool scylladb_table_changed(const struct scylladb_connection *connection, enum store_answer answer) {
    return answer == STORE_REFUSED && !connection->table_known;
}

enum store_answer scylladb_find_app(struct scylladb_connection *connection, enum app_field field, struct slice name,
                                    struct app **app, struct error *error) {
    enum store_answer answer = find_app_once(connection, field, name, app, error);

    return scylladb_table_changed(connection, answer) ? find_app_once(connection, field, name, app, error) : answer;
}

/* Leaves time for other nodes: see scylladb_share_deadline. */
static enum store_answer find_within_share(struct scylladb_connection *connection, enum app_field field,
                                           struct slice name, struct app **app, struct error *error) {
    const struct deadline whole = scylladb_share_deadline(connection);
    enum store_answer answer = scylladb_find_app(connection, field, name, app, error);

    store_begin(&connection->base, &whole);
    return answer;
}

enum store_answer scylladb_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                      struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    return find_within_share(connection, APP_ID, id, app, error);
}

enum store_answer scylladb_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                       struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);

    return find_within_share(connection, APP_KEY, key, app, error);
}

enum store_answer scylladb_key_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                     struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = STORE_NOT_FOUND;
    struct buffer value = {0};
    struct cql_rows *rows;

    if (!scylladb_bind_name(&value, connection, APP_KEY, app->key)) { /* the write refuses it, with the column's type */
        buffer_dispose(&value);
        return STORE_NOT_FOUND;
    }
    rows = alloc(sizeof *rows);
    if (!select_by_name(connection, APP_KEY, buffer_slice(&value), rows, error))
        answer = scylladb_failure(connection);
    for (uint32_t i = 0; answer == STORE_NOT_FOUND && i < rows->row_count; i++) {
        struct scylladb_row row = read_scylladb_row(rows);
        if (has_name(row.record, APP_KEY, app->key) && !has_name(row.record, APP_ID, app->id)) {
            buffer_append(owner, record_member(row.record, "id"));
            answer = STORE_OK;
        }
        json_decref(row.record);
    }
    free(rows);
    buffer_dispose(&value);
    return answer;
}

/* Lists in the order of the tokens of the ids, beginning after `after` (NULL data: with the first). */
static enum store_answer list_after(struct scylladb_connection *connection, struct slice after, size_t limit,
                                    store_list_function *each, void *context, struct error *error) {
    char number[4], clause[128];
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
    snprintf(clause, sizeof clause, "%s LIMIT ?", from_first ? "" : "WHERE token(id) > token(?)");
    do {
        const struct deadline whole = scylladb_share_deadline(connection);
        bool read = select_scylladb_rows(connection, clause, &request, rows, error);

        store_begin(&connection->base, &whole);
        if (!read) {
            answer = scylladb_failure(connection);
            break;
        }
        for (uint32_t i = 0; i < rows->row_count; i++)
            row_to_list(read_scylladb_row(rows).record, connection->store->defaults, each, context);
        /* Copied, since the next response overwrites it. */
        paging_state.length = 0;
        buffer_append(&paging_state, rows->paging_state);
        request.paging_state = buffer_slice(&paging_state);
    } while (request.paging_state.length != 0);
    buffer_dispose(&paging_state);
    free(rows);
    return answer;
}

enum store_answer scylladb_list(struct store_connection *base, struct slice after, size_t limit,
                                store_list_function *each, void *context, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    enum store_answer answer = scylladb_know_table(connection, error);
    struct buffer value = {0};

    if (answer == STORE_OK && after.length != 0 && !scylladb_bind_name(&value, connection, APP_ID, after)) {
        error_set(error, "%.*s is no id that the table could hold", SLICE_ARGS(after));
        answer = STORE_REFUSED;
    }
    if (answer == STORE_OK)
        answer = list_after(connection, buffer_slice(&value), limit, each, context, error);
    buffer_dispose(&value);
    return answer;
}

enum store_answer scylladb_check_health(struct store_connection *base, struct error *error) {
    struct scylladb_connection *connection = scylladb_connection_of(base);
    struct app *ignored = NULL;
    enum store_answer answer = find_within_share(connection, APP_ID, SLICE("-"), &ignored, error);

    app_unref(ignored);
    return answer == STORE_NOT_FOUND || answer == STORE_INVALID ? STORE_OK : answer;
}
