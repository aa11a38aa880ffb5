#include "store/scylladb/cql/cql_connection.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/resolve.h"
#include "store/scylladb/cql/cql_tls.h"

#define BODY_STEP_BYTES 65536 /* more memory than this for what is announced only when as much has arrived */
#define STATEMENTS_MAX 64     /* prepared ones that are remembered */

#define QUERY_VALUES 0x01
#define QUERY_PAGE_SIZE 0x04
#define QUERY_PAGING_STATE 0x08
#define QUERY_SERIAL 0x10

#define RESULT_ROWS 2
#define RESULT_PREPARED 4

struct prepared {
    char *text, *id;
    size_t id_length;
};

struct cql_connection {
    int fd;
    SSL_CTX *tls_context; /* NULL: plain */
    SSL *tls;
    struct buffer out;
    struct buffer body;       /* of the answer in hand */
    struct cql_header header; /* likewise */
    int16_t stream;           /* of the request in hand; answers to others are passed over */
    struct prepared statements[STATEMENTS_MAX];
    unsigned statement_count;
    bool lost;
    uint32_t code;
};

/* --- bytes --- */

static bool lose(struct cql_connection *connection) {
    connection->lost = true;
    return false;
}

/* Moves some bytes; 0: wait for `*wanted`; -1: it failed. */
static ssize_t move_some(struct cql_connection *connection, void *data, size_t length, bool writes, short *wanted) {
    ssize_t moved;

    *wanted = writes ? POLLOUT : POLLIN;
    if (connection->tls != NULL) {
        ERR_clear_error();
        int result =
            writes ? SSL_write(connection->tls, data, (int)length) : SSL_read(connection->tls, data, (int)length);
        if (result > 0)
            return result;
        *wanted = cql_tls_wants(connection->tls, result);
        return *wanted != 0 ? 0 : -1;
    }
    moved = writes ? send(connection->fd, data, length, MSG_NOSIGNAL) : recv(connection->fd, data, length, 0);
    if (moved > 0)
        return moved;
    return moved < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static bool move_all(struct cql_connection *connection, void *data, size_t length, bool writes,
                     const struct deadline *deadline, struct error *error) {
    size_t done = 0;
    short wanted;

    while (done < length) {
        ssize_t moved = move_some(connection, (char *)data + done, length - done, writes, &wanted);
        if (moved < 0) {
            const char *reason = connection->tls != NULL ? cql_tls_reason() : NULL;
            error_set(error, "the node closed the connection%s%s", reason != NULL ? ": " : "",
                      reason != NULL ? reason : "");
            return lose(connection);
        }
        done += (size_t)moved;
        if (moved == 0 && !deadline_wait_or_fail(deadline, connection->fd, wanted, error))
            return lose(connection);
    }
    return true;
}

/* --- frames --- */

/* Takes in what the header announces. The memory for it grows with what arrives. */
static bool receive_body(struct cql_connection *connection, const struct deadline *deadline, struct error *error) {
    struct buffer *body = &connection->body;
    size_t left = connection->header.length;

    body->length = 0;
    while (left > 0) {
        size_t step = body->length > BODY_STEP_BYTES ? body->length : BODY_STEP_BYTES;
        if (step > left)
            step = left;
        if (!buffer_try_reserve(body, step)) {
            error_set(error, "no memory for an answer of %u bytes", connection->header.length);
            return lose(connection);
        }
        if (!move_all(connection, body->data + body->length, step, false, deadline, error))
            return false;
        body->length += step;
        left -= step;
    }
    return true;
}

/* Receives the answer to the request in hand. Events, and answers to nobody, are passed over for as long as deadline
 * lasts. */
static bool receive_frame(struct cql_connection *connection, const struct deadline *deadline, struct error *error) {
    uint8_t bytes[CQL_HEADER_BYTES];

    for (;;) {
        if (!move_all(connection, bytes, sizeof bytes, false, deadline, error))
            return false;
        if (!cql_read_header(bytes, &connection->header, error))
            return lose(connection);
        if (!receive_body(connection, deadline, error))
            return false;
        if (connection->header.opcode != CQL_OPCODE_EVENT && connection->header.stream == connection->stream)
            return true;
        if (deadline_passed(deadline)) {
            error_set(error, "no answer in time");
            return lose(connection);
        }
    }
}

static struct cql_reader body_of(const struct cql_connection *connection) {
    const uint8_t *bytes = (const uint8_t *)(connection->body.length != 0 ? connection->body.data : "");
    struct cql_reader reader = {bytes, bytes + connection->body.length, false};

    cql_skip_extras(&reader, connection->header.flags);
    return reader;
}

static void begin_request(struct cql_connection *connection, enum cql_opcode opcode) {
    connection->stream = connection->stream == INT16_MAX ? 0 : (int16_t)(connection->stream + 1);
    cql_begin_frame(&connection->out, opcode, connection->stream);
}

/* Sends the frame in `out` and receives the answer. An answer that is an error is false, too. */
static bool exchange(struct cql_connection *connection, const struct deadline *deadline, struct error *error) {
    struct cql_reader reader;
    struct slice text;

    connection->code = 0;
    if (connection->lost)
        return error_set(error, "the connection is lost");
    if (deadline_passed(deadline)) {
        error_set(error, "no answer in time");
        return lose(connection);
    }
    cql_end_frame(&connection->out);
    if (!move_all(connection, connection->out.data, connection->out.length, true, deadline, error) ||
        !receive_frame(connection, deadline, error))
        return false;
    if (connection->header.opcode != CQL_OPCODE_ERROR)
        return true;
    reader = body_of(connection);
    connection->code = cql_read_int(&reader);
    text = cql_read_string(&reader);
    if (reader.failed) {
        error_set(error, "the node answers with half an error");
        return lose(connection);
    }
    return error_set(error, "the node answers: %.*s", SLICE_ARGS(text));
}

/* --- connecting --- */

static int begin_connect(const struct addrinfo *address) {
    const int yes = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static bool finish_connect(int fd, const struct deadline *deadline, struct error *error) {
    int code = 0;
    socklen_t size = sizeof code;

    if (!deadline_wait_or_fail(deadline, fd, POLLOUT, error))
        return false;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    return code == 0 || error_set(error, "%s", strerror(code));
}

/* What the first of `count` addresses gets of the deadline, so that one that swallows everything leaves time. */
static struct deadline part_of(const struct deadline *deadline, unsigned count) {
    struct deadline part = deadline_after(deadline_remaining_ms(deadline) / count, deadline->cancel_fd);

    return part.ends_ns < deadline->ends_ns ? part : *deadline;
}

static int connect_to_any(const struct addrinfo *addresses, const struct deadline *deadline, struct error *error) {
    unsigned left = 0;

    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next)
        left++;
    for (const struct addrinfo *at = addresses; at != NULL; at = at->ai_next) {
        const struct deadline part = part_of(deadline, left--);
        int fd = begin_connect(at);
        if (fd < 0) {
            error_set(error, "%s", strerror(errno));
            continue;
        }
        if (finish_connect(fd, &part, error))
            return fd;
        close(fd);
    }
    return -1;
}

static int connect_socket(const struct cql_node_address *node, const struct deadline *deadline, struct error *error) {
    struct addrinfo *addresses = resolve_addresses(node->host, node->port, deadline, error);
    int fd;

    if (addresses == NULL)
        return -1;
    fd = connect_to_any(addresses, deadline, error);
    freeaddrinfo(addresses);
    return fd;
}

/* SASL PLAIN (RFC 4616), as PasswordAuthenticator takes it. */
static bool sign_in(struct cql_connection *connection, const char *username, const char *password,
                    const struct deadline *deadline, struct error *error) {
    struct buffer token = {0};
    bool good;

    if (username == NULL)
        return error_set(error, "the node wants a password: set database.scylladb.username and .password");
    buffer_append_byte(&token, '\0');
    buffer_append_string(&token, username);
    buffer_append_byte(&token, '\0');
    buffer_append_string(&token, password != NULL ? password : "");
    begin_request(connection, CQL_OPCODE_AUTH_RESPONSE);
    cql_append_bytes(&connection->out, buffer_slice(&token));
    good = exchange(connection, deadline, error);
    explicit_bzero(token.data, token.length);
    explicit_bzero(connection->out.data, connection->out.length);
    buffer_dispose(&token);
    if (connection->code == CQL_ERROR_BAD_CREDENTIALS)
        return error_prefix(error, "database.scylladb.username and .password");
    if (good && connection->header.opcode != CQL_OPCODE_AUTH_SUCCESS)
        return error_set(error, "the node wants another way to sign in than a password");
    return good;
}

static bool start_up(struct cql_connection *connection, const char *username, const char *password,
                     const struct deadline *deadline, struct error *error) {
    begin_request(connection, CQL_OPCODE_STARTUP);
    cql_append_short(&connection->out, 1);
    cql_append_string(&connection->out, SLICE("CQL_VERSION"));
    cql_append_string(&connection->out, SLICE("3.0.0"));
    if (!exchange(connection, deadline, error))
        return false;
    if (connection->header.opcode == CQL_OPCODE_AUTHENTICATE)
        return sign_in(connection, username, password, deadline, error);
    return connection->header.opcode == CQL_OPCODE_READY || error_set(error, "an answer that was not asked for");
}

/* A connection on which nothing has been said; over TLS if there is a context, which is its own then. */
static struct cql_connection *open_connection(const struct cql_node_address *address, SSL_CTX *tls_context,
                                              const struct deadline *deadline, struct error *error) {
    struct cql_connection *connection = alloc_zero(sizeof *connection);

    connection->tls_context = tls_context;
    connection->fd = connect_socket(address, deadline, error);
    if (connection->fd >= 0 && tls_context != NULL)
        connection->tls = cql_tls_start(tls_context, connection->fd, address->host, deadline, error);
    if (connection->fd >= 0 && (tls_context == NULL || connection->tls != NULL))
        return connection;
    cql_close(connection);
    return NULL;
}

/* With `prefer`, a node with which TLS cannot be begun is spoken to without it. */
static struct cql_connection *open_as_configured(const struct cql_node_address *address,
                                                 const struct config_tls *settings, const struct deadline *deadline,
                                                 struct error *error) {
    struct cql_connection *connection;
    SSL_CTX *tls_context;
    struct deadline half;

    if (settings->mode == CONFIG_TLS_DISABLE)
        return open_connection(address, NULL, deadline, error);
    tls_context = cql_tls_context(settings, error);
    if (tls_context == NULL)
        return NULL;
    if (settings->mode != CONFIG_TLS_PREFER)
        return open_connection(address, tls_context, deadline, error);
    half = part_of(deadline, 2);
    connection = open_connection(address, tls_context, &half, error);
    return connection != NULL ? connection : open_connection(address, NULL, deadline, error);
}

struct cql_connection *cql_connect(const struct cql_node_address *address, const char *username, const char *password,
                                   const struct config_tls *tls, const struct deadline *deadline, struct error *error) {
    struct cql_connection *connection = open_as_configured(address, tls, deadline, error);

    if (connection == NULL || start_up(connection, username, password, deadline, error))
        return connection;
    cql_close(connection);
    return NULL;
}

void cql_close(struct cql_connection *connection) {
    for (unsigned i = 0; i < connection->statement_count; i++) {
        free(connection->statements[i].text);
        free(connection->statements[i].id);
    }
    SSL_free(connection->tls);
    SSL_CTX_free(connection->tls_context);
    if (connection->fd >= 0)
        close(connection->fd);
    buffer_dispose(&connection->out);
    buffer_dispose(&connection->body);
    free(connection);
}

/* --- requests --- */

static struct prepared *find_prepared(struct cql_connection *connection, struct slice text) {
    for (unsigned i = 0; i < connection->statement_count; i++)
        if (slice_equal(slice_of(connection->statements[i].text), text))
            return &connection->statements[i];
    return NULL;
}

static void forget(struct cql_connection *connection, struct prepared *prepared) {
    free(prepared->text);
    free(prepared->id);
    *prepared = connection->statements[--connection->statement_count];
}

static struct prepared *prepare(struct cql_connection *connection, struct slice text, const struct deadline *deadline,
                                struct error *error) {
    struct cql_reader reader;
    struct prepared *prepared;
    struct slice id;

    begin_request(connection, CQL_OPCODE_PREPARE);
    cql_append_long_string(&connection->out, text);
    if (!exchange(connection, deadline, error))
        return NULL;
    reader = body_of(connection);
    if (connection->header.opcode != CQL_OPCODE_RESULT || cql_read_int(&reader) != RESULT_PREPARED) {
        error_set(error, "an answer that was not asked for");
        lose(connection);
        return NULL;
    }
    id = cql_read_string(&reader);
    if (reader.failed) {
        error_set(error, "an answer that ends too early");
        lose(connection);
        return NULL;
    }
    if (connection->statement_count == STATEMENTS_MAX)
        forget(connection, &connection->statements[0]);
    prepared = &connection->statements[connection->statement_count++];
    *prepared = (struct prepared){alloc_copy(text.data, text.length), alloc_copy(id.data, id.length), id.length};
    return prepared;
}

/* Section 4.1.4, <query_parameters>. */
static void append_parameters(struct buffer *out, const struct cql_request *request) {
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

static bool execute(struct cql_connection *connection, const struct cql_request *request,
                    const struct deadline *deadline, struct error *error) {
    struct prepared *prepared = NULL;

    if (request->count == 0) { /* changes of the schema, and what is asked once */
        begin_request(connection, CQL_OPCODE_QUERY);
        cql_append_long_string(&connection->out, request->statement);
        append_parameters(&connection->out, request);
        return exchange(connection, deadline, error);
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        prepared = find_prepared(connection, request->statement);
        if (prepared == NULL)
            prepared = prepare(connection, request->statement, deadline, error);
        if (prepared == NULL)
            return false;
        begin_request(connection, CQL_OPCODE_EXECUTE);
        cql_append_string(&connection->out, (struct slice){prepared->id, prepared->id_length});
        append_parameters(&connection->out, request);
        if (exchange(connection, deadline, error))
            return true;
        if (connection->code != CQL_ERROR_UNPREPARED) /* the node may have forgotten it */
            return false;
        forget(connection, prepared);
    }
    return false;
}

bool cql_run(struct cql_connection *connection, const struct cql_request *request, const struct deadline *deadline,
             struct cql_rows *rows, struct error *error) {
    struct cql_reader reader;

    rows->column_count = rows->row_count = 0;
    rows->paging_state = SLICE("");
    if (!execute(connection, request, deadline, error))
        return false;
    reader = body_of(connection);
    if (connection->header.opcode != CQL_OPCODE_RESULT) {
        error_set(error, "an answer that was not asked for");
        return lose(connection);
    }
    if (cql_read_int(&reader) != RESULT_ROWS)
        return true;
    return cql_read_rows(reader, rows, error) || lose(connection);
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
