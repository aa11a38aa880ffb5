#include "store/scylladb/cql/cql_connection.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/network.h"

#define BODY_STEP_BYTES 65536 /* a body gets more memory than this only after as many bytes have arrived */
#define STATEMENTS_MAX 64     /* prepared statements that are kept */

#define QUERY_VALUES 0x01
#define QUERY_PAGE_SIZE 0x04
#define QUERY_PAGING_STATE 0x08
#define QUERY_SERIAL 0x10

#define RESULT_ROWS 2
#define RESULT_PREPARED 4

/* A prepared statement. */
struct cql_statement {
    char *text, *id;
    size_t id_length;
};

struct cql_connection {
    struct cql_socket socket;
    struct deadline deadline; /* of the request in progress */
    struct buffer out;
    struct buffer body;       /* of the response to the last request */
    struct cql_header header; /* likewise */
    /* The number of the last request; responses with another number are skipped. */
    int16_t stream;
    struct cql_statement statements[STATEMENTS_MAX];
    unsigned statement_count;
    bool lost;     /* of no further use */
    uint32_t code; /* of the error in the last response; 0: none */
    bool password_was_clear;
};

static void forget_statement(struct cql_connection *connection, struct cql_statement *statement) {
    free(statement->text);
    free(statement->id);
    *statement = connection->statements[--connection->statement_count];
}

/* --- frames --- */

/* Marks the connection as useless. Returns false, for the caller to return. */
static bool lose_connection(struct cql_connection *connection) {
    connection->lost = true;
    return false;
}

static bool receive_bytes(struct cql_connection *connection, void *data, size_t length, struct error *error) {
    return cql_socket_receive(&connection->socket, data, length, &connection->deadline, error) ||
           lose_connection(connection);
}

/* Receives the body that the header announces. Its memory grows with the bytes that arrive. */
static bool receive_frame_body(struct cql_connection *connection, struct error *error) {
    struct buffer *body = &connection->body;
    size_t left = connection->header.length;

    body->length = 0;
    while (left > 0) {
        size_t step = body->length > BODY_STEP_BYTES ? body->length : BODY_STEP_BYTES;
        if (step > left)
            step = left;
        if (!buffer_try_reserve(body, step)) {
            error_set(error, "no memory for an answer of %u bytes", connection->header.length);
            return lose_connection(connection);
        }
        if (!receive_bytes(connection, body->data + body->length, step, error))
            return false;
        body->length += step;
        left -= step;
    }
    return true;
}

/* Receives the response to the last request. Events and responses to other requests are skipped until the deadline. */
static bool receive_frame(struct cql_connection *connection, struct error *error) {
    uint8_t bytes[CQL_HEADER_BYTES];

    for (;;) {
        if (!receive_bytes(connection, bytes, sizeof bytes, error))
            return false;
        if (!cql_read_header(bytes, &connection->header, error))
            return lose_connection(connection);
        if (!receive_frame_body(connection, error))
            return false;
        if (connection->header.opcode != CQL_OPCODE_EVENT && connection->header.stream == connection->stream)
            return true;
        if (deadline_passed(&connection->deadline)) {
            error_set(error, "no answer in time");
            return lose_connection(connection);
        }
    }
}

static struct cql_reader cql_body_reader(const struct cql_connection *connection) {
    const uint8_t *bytes = (const uint8_t *)(connection->body.length != 0 ? connection->body.data : "");
    struct cql_reader reader = {bytes, bytes + connection->body.length, false};

    cql_skip_extras(&reader, connection->header.flags);
    return reader;
}

static void begin_request(struct cql_connection *connection, enum cql_opcode opcode) {
    connection->stream = connection->stream == INT16_MAX ? 0 : (int16_t)(connection->stream + 1);
    cql_begin_frame(&connection->out, opcode, connection->stream);
}

/* Sends the frame in `out` and receives the response. False with an error, also for a response that is an error. */
static bool exchange_frames(struct cql_connection *connection, struct error *error) {
    struct cql_reader reader;
    struct slice text;

    connection->code = 0;
    if (connection->lost)
        return error_set(error, "the connection is lost");
    if (deadline_passed(&connection->deadline)) {
        error_set(error, "no answer in time");
        return lose_connection(connection);
    }
    cql_end_frame(&connection->out);
    if (!cql_socket_send(&connection->socket, connection->out.data, connection->out.length, &connection->deadline,
                         error))
        return lose_connection(connection);
    if (!receive_frame(connection, error))
        return false;
    if (connection->header.opcode != CQL_OPCODE_ERROR)
        return true;
    reader = cql_body_reader(connection);
    connection->code = cql_read_int(&reader);
    text = cql_read_string(&reader);
    if (reader.failed) {
        error_set(error, "the node answers with half an error");
        return lose_connection(connection);
    }
    return error_set(error, "the node answers: %.*s", SLICE_ARGS(text));
}

/* --- connecting --- */

/* Signs in by SASL PLAIN (RFC 4616), which PasswordAuthenticator expects. */
static bool sign_in_to_node(struct cql_connection *connection, const char *username, const char *password,
                            struct error *error) {
    struct buffer token = {0};
    bool good;

    if (username == NULL)
        return error_set(error, "the node requires a password: set app_manager.scylladb.username and .password");
    buffer_append_byte(&token, '\0');
    buffer_append_string(&token, username);
    buffer_append_byte(&token, '\0');
    buffer_append_string(&token, password != NULL ? password : "");
    begin_request(connection, CQL_OPCODE_AUTH_RESPONSE);
    cql_append_bytes(&connection->out, buffer_slice(&token));
    good = exchange_frames(connection, error);
    connection->password_was_clear = connection->socket.tls == NULL && !network_peer_is_local(connection->socket.fd);
    explicit_bzero(token.data, token.length);
    explicit_bzero(connection->out.data, connection->out.length);
    buffer_dispose(&token);
    if (connection->code == CQL_ERROR_BAD_CREDENTIALS)
        return error_prefix(error, "app_manager.scylladb.username and .password");
    if (good && connection->header.opcode != CQL_OPCODE_AUTH_SUCCESS)
        return error_set(error, "the node requires another kind of authentication than a password");
    return good;
}

static bool start_protocol(struct cql_connection *connection, const char *username, const char *password,
                           struct error *error) {
    begin_request(connection, CQL_OPCODE_STARTUP);
    cql_append_short(&connection->out, 1);
    cql_append_string(&connection->out, SLICE("CQL_VERSION"));
    cql_append_string(&connection->out, SLICE("3.0.0"));
    if (!exchange_frames(connection, error))
        return false;
    if (connection->header.opcode == CQL_OPCODE_AUTHENTICATE)
        return sign_in_to_node(connection, username, password, error);
    return connection->header.opcode == CQL_OPCODE_READY || error_set(error, "an unexpected answer");
}

struct cql_connection *cql_connect(const struct cql_node_address *address, const char *username, const char *password,
                                   const struct config_tls *tls, const struct deadline *deadline, struct error *error) {
    struct cql_connection *connection = alloc_zero(sizeof *connection);

    connection->deadline = *deadline;
    if (cql_socket_open(&connection->socket, address, tls, deadline, error) &&
        start_protocol(connection, username, password, error))
        return connection;
    cql_close(connection);
    return NULL;
}

bool cql_password_was_clear(const struct cql_connection *connection) {
    return connection->password_was_clear;
}

void cql_close(struct cql_connection *connection) {
    while (connection->statement_count > 0)
        forget_statement(connection, &connection->statements[0]);
    cql_socket_close(&connection->socket);
    buffer_dispose(&connection->out);
    buffer_dispose(&connection->body);
    free(connection);
}

/* --- requests --- */

static struct cql_statement *find_statement(struct cql_connection *connection, struct slice text) {
    for (unsigned i = 0; i < connection->statement_count; i++)
        if (slice_equal(slice_of(connection->statements[i].text), text))
            return &connection->statements[i];
    return NULL;
}

static struct cql_statement *prepare_statement(struct cql_connection *connection, struct slice text,
                                               struct error *error) {
    struct cql_reader reader;
    struct cql_statement *prepared;
    struct slice id;

    begin_request(connection, CQL_OPCODE_PREPARE);
    cql_append_long_string(&connection->out, text);
    if (!exchange_frames(connection, error))
        return NULL;
    reader = cql_body_reader(connection);
    if (connection->header.opcode != CQL_OPCODE_RESULT || cql_read_int(&reader) != RESULT_PREPARED) {
        error_set(error, "an unexpected answer");
        lose_connection(connection);
        return NULL;
    }
    id = cql_read_string(&reader);
    if (reader.failed) {
        error_set(error, "an answer that ends too early");
        lose_connection(connection);
        return NULL;
    }
    if (connection->statement_count == STATEMENTS_MAX)
        forget_statement(connection, &connection->statements[0]);
    prepared = &connection->statements[connection->statement_count++];
    *prepared = (struct cql_statement){alloc_copy(text.data, text.length), alloc_copy(id.data, id.length), id.length};
    return prepared;
}

/* Section 4.1.4, <query_parameters>. */
static void append_query_parameters(struct buffer *out, const struct cql_request *request) {
    uint8_t flags = 0;

    flags |= request->count > 0 ? QUERY_VALUES : 0;
    flags |= request->page_size > 0 ? QUERY_PAGE_SIZE : 0;
    flags |= request->paging_state.length > 0 ? QUERY_PAGING_STATE : 0;
    flags |= request->conditional ? QUERY_SERIAL : 0;
    cql_append_short(out, (uint16_t)request->consistency);
    cql_append_byte(out, flags);
    if (request->count > 0)
        cql_append_short(out, (uint16_t)request->count);
    for (unsigned i = 0; i < request->count; i++)
        cql_append_bytes(out, request->values[i]);
    if (request->page_size > 0)
        cql_append_int(out, request->page_size);
    if (request->paging_state.length > 0)
        cql_append_bytes(out, request->paging_state);
    if (request->conditional)
        cql_append_short(out, CQL_LOCAL_SERIAL);
}

static bool execute_request(struct cql_connection *connection, const struct cql_request *request, struct error *error) {
    struct cql_statement *prepared = NULL;

    if (request->count == 0) { /* a change of the schema, or a query that runs once: not worth preparing */
        begin_request(connection, CQL_OPCODE_QUERY);
        cql_append_long_string(&connection->out, request->statement);
        append_query_parameters(&connection->out, request);
        return exchange_frames(connection, error);
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        prepared = find_statement(connection, request->statement);
        if (prepared == NULL)
            prepared = prepare_statement(connection, request->statement, error);
        if (prepared == NULL)
            return false;
        begin_request(connection, CQL_OPCODE_EXECUTE);
        cql_append_string(&connection->out, (struct slice){prepared->id, prepared->id_length});
        append_query_parameters(&connection->out, request);
        if (exchange_frames(connection, error))
            return true;
        if (connection->code != CQL_ERROR_UNPREPARED) /* the node may have dropped it */
            return false;
        forget_statement(connection, prepared);
    }
    return false;
}

bool cql_run(struct cql_connection *connection, const struct cql_request *request, const struct deadline *deadline,
             struct cql_rows *rows, struct error *error) {
    struct cql_reader reader;

    connection->deadline = *deadline;
    rows->column_count = rows->row_count = 0;
    rows->paging_state = SLICE("");
    if (!execute_request(connection, request, error))
        return false;
    reader = cql_body_reader(connection);
    if (connection->header.opcode != CQL_OPCODE_RESULT) {
        error_set(error, "an unexpected answer");
        return lose_connection(connection);
    }
    if (cql_read_int(&reader) != RESULT_ROWS)
        return true;
    return cql_read_rows(reader, rows, error) || lose_connection(connection);
}

enum cql_failure cql_failure(const struct cql_connection *connection) {
    return connection->lost ? CQL_LOST : CQL_REFUSED;
}

uint32_t cql_failure_code(const struct cql_connection *connection) {
    return connection->code;
}

bool cql_next_value(struct cql_rows *rows, struct slice *value) {
    return cql_read_bytes(&rows->reader, value);
}
