#include "app/store/cql/cql_connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

#define STATEMENTS_MAX 64 /* prepared ones that are remembered */

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
    uint8_t *body;
    size_t body_capacity;
    struct cql_header header; /* of the answer in hand */
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

/* What a TLS call that returned `result` waits for; 0: it failed. */
static short tls_wants(const struct cql_connection *connection, int result) {
    switch (SSL_get_error(connection->tls, result)) {
    case SSL_ERROR_WANT_READ:
        return POLLIN;
    case SSL_ERROR_WANT_WRITE:
        return POLLOUT;
    default:
        return 0;
    }
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
        *wanted = tls_wants(connection, result);
        return *wanted != 0 ? 0 : -1;
    }
    moved = writes ? send(connection->fd, data, length, MSG_NOSIGNAL) : recv(connection->fd, data, length, 0);
    if (moved > 0)
        return moved;
    return moved < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static bool move_all(struct cql_connection *connection, void *data, size_t length, bool writes,
                     const struct patience *patience, struct error *error) {
    size_t done = 0;
    short wanted;

    while (done < length) {
        ssize_t moved = move_some(connection, (char *)data + done, length - done, writes, &wanted);
        if (moved < 0) {
            error_set(error, "the node closed the connection");
            return lose(connection);
        }
        done += (size_t)moved;
        if (moved == 0 && !patience_wait_or_fail(patience, connection->fd, wanted, error))
            return lose(connection);
    }
    return true;
}

/* --- frames --- */

static bool receive_frame(struct cql_connection *connection, const struct patience *patience, struct error *error) {
    uint8_t bytes[CQL_HEADER_BYTES];

    do {
        if (!move_all(connection, bytes, sizeof bytes, false, patience, error))
            return false;
        if (!cql_read_header(bytes, &connection->header, error))
            return lose(connection);
        if (connection->header.length > connection->body_capacity) {
            connection->body_capacity = connection->header.length;
            connection->body = alloc_array(connection->body, connection->body_capacity, 1);
        }
        if (!move_all(connection, connection->body, connection->header.length, false, patience, error))
            return false;
    } while (connection->header.opcode == CQL_OPCODE_EVENT || connection->header.stream != 0);
    return true;
}

static struct cql_reader body_of(struct cql_connection *connection) {
    struct cql_reader reader = {connection->body, connection->body + connection->header.length, false};

    cql_skip_extras(&reader, connection->header.flags);
    return reader;
}

/* Sends the frame in `out` and receives the answer. An answer that is an error is false, too. */
static bool exchange(struct cql_connection *connection, const struct patience *patience, struct error *error) {
    struct cql_reader reader;
    struct slice text;

    connection->code = 0;
    if (connection->lost)
        return error_set(error, "the connection is lost");
    if (patience_ended(patience)) {
        error_set(error, "no answer in time");
        return lose(connection);
    }
    cql_end_frame(&connection->out);
    if (!move_all(connection, connection->out.data, connection->out.length, true, patience, error) ||
        !receive_frame(connection, patience, error))
        return false;
    if (connection->header.opcode != CQL_OPCODE_ERROR)
        return true;
    reader = body_of(connection);
    connection->code = cql_read_int(&reader);
    text = cql_read_string(&reader);
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

static bool finish_connect(int fd, const struct patience *patience, struct error *error) {
    int code = 0;
    socklen_t size = sizeof code;

    if (!patience_wait_or_fail(patience, fd, POLLOUT, error))
        return false;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    return code == 0 || error_set(error, "%s", strerror(code));
}

static int connect_socket(const struct cql_node_address *node, const struct patience *patience, struct error *error) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses = NULL;
    char port[16];
    int fd = -1, code;

    snprintf(port, sizeof port, "%u", node->port);
    code = getaddrinfo(node->host, port, &hints, &addresses);
    if (code != 0) {
        error_set(error, "%s", gai_strerror(code));
        return -1;
    }
    for (const struct addrinfo *at = addresses; at != NULL && fd < 0; at = at->ai_next) {
        fd = begin_connect(at);
        if (fd < 0) {
            error_set(error, "%s", strerror(errno));
        } else if (!finish_connect(fd, patience, error)) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(addresses);
    return fd;
}

static bool set_up_context(SSL_CTX *context, const struct config_tls *tls, struct error *error) {
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (tls->ca_path != NULL && SSL_CTX_load_verify_locations(context, tls->ca_path, NULL) != 1)
        return error_set(error, "database.scylladb.tls.ca_path %s cannot be read", tls->ca_path);
    if (tls->ca_path == NULL)
        SSL_CTX_set_default_verify_paths(context);
    if (tls->cert_path != NULL && SSL_CTX_use_certificate_chain_file(context, tls->cert_path) != 1)
        return error_set(error, "database.scylladb.tls.cert_path %s cannot be read", tls->cert_path);
    if (tls->key_path != NULL && SSL_CTX_use_PrivateKey_file(context, tls->key_path, SSL_FILETYPE_PEM) != 1)
        return error_set(error, "database.scylladb.tls.key_path %s cannot be read", tls->key_path);
    if (tls->mode == CONFIG_TLS_VERIFY)
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    return true;
}

static void name_peer(SSL *tls, const char *host) {
    struct in6_addr ignored;

    if (inet_pton(AF_INET, host, &ignored) == 1 || inet_pton(AF_INET6, host, &ignored) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host);
        return;
    }
    SSL_set_tlsext_host_name(tls, host);
    SSL_set1_host(tls, host);
}

static bool start_tls(struct cql_connection *connection, const char *host, const struct config_tls *tls,
                      const struct patience *patience, struct error *error) {
    int result;

    connection->tls_context = SSL_CTX_new(TLS_client_method());
    if (connection->tls_context == NULL || !set_up_context(connection->tls_context, tls, error))
        return false;
    connection->tls = SSL_new(connection->tls_context);
    SSL_set_fd(connection->tls, connection->fd);
    name_peer(connection->tls, host);
    for (;;) {
        short wanted;
        ERR_clear_error();
        result = SSL_connect(connection->tls);
        if (result == 1)
            return true;
        wanted = tls_wants(connection, result);
        if (wanted == 0)
            return error_set(error, "database.scylladb.tls: %s",
                             SSL_get_verify_result(connection->tls) != X509_V_OK
                                 ? X509_verify_cert_error_string(SSL_get_verify_result(connection->tls))
                                 : "the node does not speak TLS as asked for");
        if (!patience_wait_or_fail(patience, connection->fd, wanted, error))
            return false;
    }
}

/* SASL PLAIN (RFC 4616), as PasswordAuthenticator takes it. */
static bool sign_in(struct cql_connection *connection, const char *username, const char *password,
                    const struct patience *patience, struct error *error) {
    struct buffer token = {0};
    bool good;

    if (username == NULL)
        return error_set(error, "the node wants a password: set database.scylladb.username and .password");
    buffer_append_byte(&token, '\0');
    buffer_append_string(&token, username);
    buffer_append_byte(&token, '\0');
    buffer_append_string(&token, password != NULL ? password : "");
    cql_begin_frame(&connection->out, CQL_OPCODE_AUTH_RESPONSE);
    cql_append_bytes(&connection->out, buffer_slice(&token));
    good = exchange(connection, patience, error);
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
                     const struct patience *patience, struct error *error) {
    cql_begin_frame(&connection->out, CQL_OPCODE_STARTUP);
    cql_append_short(&connection->out, 1);
    cql_append_string(&connection->out, SLICE("CQL_VERSION"));
    cql_append_string(&connection->out, SLICE("3.0.0"));
    if (!exchange(connection, patience, error))
        return false;
    if (connection->header.opcode == CQL_OPCODE_AUTHENTICATE)
        return sign_in(connection, username, password, patience, error);
    return connection->header.opcode == CQL_OPCODE_READY || error_set(error, "an answer that was not asked for");
}

static struct cql_connection *connect_with(const struct cql_node_address *address, const char *username,
                                           const char *password, const struct config_tls *tls, bool encrypted,
                                           const struct patience *patience, struct error *error) {
    struct cql_connection *connection;
    int fd = connect_socket(address, patience, error);

    if (fd < 0)
        return NULL;
    connection = alloc_zero(sizeof *connection);
    connection->fd = fd;
    if ((!encrypted || start_tls(connection, address->host, tls, patience, error)) &&
        start_up(connection, username, password, patience, error))
        return connection;
    cql_close(connection);
    return NULL;
}

struct cql_connection *cql_connect(const struct cql_node_address *address, const char *username, const char *password,
                                   const struct config_tls *tls, const struct patience *patience, struct error *error) {
    bool encrypted = tls->mode != CONFIG_TLS_DISABLE;
    struct cql_connection *connection = connect_with(address, username, password, tls, encrypted, patience, error);

    if (connection == NULL && tls->mode == CONFIG_TLS_PREFER && !patience_ended(patience))
        connection = connect_with(address, username, password, tls, false, patience, error);
    return connection;
}

void cql_close(struct cql_connection *connection) {
    for (unsigned i = 0; i < connection->statement_count; i++) {
        free(connection->statements[i].text);
        free(connection->statements[i].id);
    }
    SSL_free(connection->tls);
    SSL_CTX_free(connection->tls_context);
    close(connection->fd);
    buffer_dispose(&connection->out);
    free(connection->body);
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

static struct prepared *prepare(struct cql_connection *connection, struct slice text, const struct patience *patience,
                                struct error *error) {
    struct cql_reader reader;
    struct prepared *prepared;
    struct slice id;

    cql_begin_frame(&connection->out, CQL_OPCODE_PREPARE);
    cql_append_long_string(&connection->out, text);
    if (!exchange(connection, patience, error))
        return NULL;
    reader = body_of(connection);
    if (connection->header.opcode != CQL_OPCODE_RESULT || cql_read_int(&reader) != RESULT_PREPARED) {
        error_set(error, "an answer that was not asked for");
        lose(connection);
        return NULL;
    }
    id = cql_read_string(&reader);
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
                    const struct patience *patience, struct error *error) {
    struct prepared *prepared = NULL;

    if (request->count == 0) { /* changes of the schema, and what is asked once */
        cql_begin_frame(&connection->out, CQL_OPCODE_QUERY);
        cql_append_long_string(&connection->out, request->statement);
        append_parameters(&connection->out, request);
        return exchange(connection, patience, error);
    }
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        prepared = find_prepared(connection, request->statement);
        if (prepared == NULL)
            prepared = prepare(connection, request->statement, patience, error);
        if (prepared == NULL)
            return false;
        cql_begin_frame(&connection->out, CQL_OPCODE_EXECUTE);
        cql_append_string(&connection->out, (struct slice){prepared->id, prepared->id_length});
        append_parameters(&connection->out, request);
        if (exchange(connection, patience, error))
            return true;
        if (connection->code != CQL_ERROR_UNPREPARED) /* the node may have forgotten it */
            return false;
        forget(connection, prepared);
    }
    return false;
}

bool cql_run(struct cql_connection *connection, const struct cql_request *request, const struct patience *patience,
             struct cql_rows *rows, struct error *error) {
    struct cql_reader reader;

    rows->column_count = rows->row_count = 0;
    rows->paging_state = SLICE("");
    if (!execute(connection, request, patience, error))
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
