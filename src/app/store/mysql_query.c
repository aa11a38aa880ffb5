#include <errmsg.h>
#include <mysqld_error.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "app/store/mysql.h"
#include "base/alloc.h"

#define CODE_TIMED_OUT CR_SERVER_LOST

/* Waits for what the library wants to wait for, as `*_cont` calls want to be told. When patience ends they are told so,
 * too, and come back with an error. */
static int wait_for(struct store_connection *connection, int wanted) {
    int happened = 0;
    short events =
        (short)(((wanted & MYSQL_WAIT_READ) != 0 ? POLLIN : 0) | ((wanted & MYSQL_WAIT_WRITE) != 0 ? POLLOUT : 0) |
                ((wanted & MYSQL_WAIT_EXCEPT) != 0 ? POLLPRI : 0));
    struct pollfd polled = {.fd = mysql_get_socket(connection->link), .events = events};

    if (connection->timed_out || patience_wait(connection->patience, polled.fd, events) != PATIENCE_READY) {
        connection->timed_out = true;
        return MYSQL_WAIT_TIMEOUT;
    }
    poll(&polled, 1, 0);
    happened |= (polled.revents & (POLLIN | POLLHUP | POLLERR)) != 0 ? MYSQL_WAIT_READ : 0;
    happened |= (polled.revents & POLLOUT) != 0 ? MYSQL_WAIT_WRITE : 0;
    happened |= (polled.revents & POLLPRI) != 0 ? MYSQL_WAIT_EXCEPT : 0;
    return happened & wanted ? happened & wanted : wanted & (MYSQL_WAIT_READ | MYSQL_WAIT_WRITE);
}

/* --- connecting --- */

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

static void start_library(void) {
    mysql_library_init(0, NULL, NULL);
}

static void set_options(MYSQL *link, const struct config_sql *config) {
    const my_bool yes = 1;
    const unsigned tcp = MYSQL_PROTOCOL_TCP;

    mysql_options(link, MYSQL_OPT_NONBLOCK, NULL);
    mysql_options(link, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    /* A value that a column cannot hold is an error, not another value. */
    mysql_options(link, MYSQL_INIT_COMMAND, "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'");
    if (config->host[0] != '/')
        mysql_options(link, MYSQL_OPT_PROTOCOL, &tcp);
    if (config->tls.mode == CONFIG_TLS_DISABLE)
        return;
    mysql_ssl_set(link, config->tls.key_path, config->tls.cert_path, config->tls.ca_path, NULL, NULL);
    mysql_options(link, MYSQL_OPT_SSL_ENFORCE, &yes);
    if (config->tls.mode == CONFIG_TLS_VERIFY)
        mysql_options(link, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
}

static bool connect_link(struct store_connection *connection) {
    const struct config_sql *config = connection->store->config;
    bool is_path = config->host[0] == '/';
    MYSQL *connected = NULL;
    int status = mysql_real_connect_start(&connected, connection->link, is_path ? NULL : config->host, config->username,
                                          config->password, config->database, config->port,
                                          is_path ? config->host : NULL, CLIENT_FOUND_ROWS);

    while (status != 0)
        status = mysql_real_connect_cont(&connected, connection->link, wait_for(connection, status));
    return connected != NULL;
}

static const char *setting_of(unsigned code) {
    switch (code) {
    case ER_ACCESS_DENIED_ERROR:
    case ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
        return "database.mysql.username and .password";
    case ER_BAD_DB_ERROR:
    case ER_DBACCESS_DENIED_ERROR:
        return "database.mysql.database";
    case CR_SSL_CONNECTION_ERROR:
        return "database.mysql.tls";
    default:
        return "database.mysql.host and .port";
    }
}

static void explain_connect(struct store_connection *connection, struct error *error) {
    const struct config_sql *config = connection->store->config;

    connection->code = mysql_errno(connection->link);
    if (connection->timed_out)
        error_set(error, "database.mysql.host and .port: no answer from MySQL at %s:%u in time", config->host,
                  config->port);
    else
        error_set(error, "%s: MySQL at %s:%u: %s", setting_of(connection->code), config->host, config->port,
                  mysql_error(connection->link));
}

/* The library goes on without TLS when the server has none. */
static bool is_encrypted_as_wanted(struct store_connection *connection, struct error *error) {
    const struct config_sql *config = connection->store->config;

    if (config->tls.mode < CONFIG_TLS_REQUIRE || mysql_get_ssl_cipher(connection->link) != NULL)
        return true;
    return error_set(error, "database.mysql.tls.mode: MySQL at %s:%u offers no TLS", config->host, config->port);
}

struct store_connection *mysql_store_connect(struct app_store *store, const struct patience *patience,
                                             struct error *error) {
    struct store_connection *connection = alloc_zero(sizeof *connection);

    pthread_once(&library_once, start_library);
    mysql_thread_init();
    connection->store = store;
    connection->patience = patience;
    connection->link = mysql_init(NULL);
    if (connection->link == NULL) {
        error_set(error, "no memory for a connection to MySQL");
        free(connection);
        return NULL;
    }
    set_options(connection->link, store->config);
    if (!connect_link(connection)) {
        explain_connect(connection, error);
        mysql_store_disconnect(connection);
        return NULL;
    }
    if (is_encrypted_as_wanted(connection, error))
        return connection;
    mysql_store_disconnect(connection);
    return NULL;
}

void mysql_store_disconnect(struct store_connection *connection) {
    /* A good-bye would wait for a server that does not read. */
    if (connection->timed_out)
        shutdown(mysql_get_socket(connection->link), SHUT_RDWR);
    mysql_close(connection->link);
    free(connection);
}

/* --- statements --- */

static bool prepare(struct store_connection *connection, MYSQL_STMT *statement, struct slice sql) {
    int failed = 0;
    int status = mysql_stmt_prepare_start(&failed, statement, sql.data, sql.length);

    while (status != 0)
        status = mysql_stmt_prepare_cont(&failed, statement, wait_for(connection, status));
    return failed == 0;
}

static bool execute(struct store_connection *connection, MYSQL_STMT *statement) {
    int failed = 0;
    int status = mysql_stmt_execute_start(&failed, statement);

    while (status != 0)
        status = mysql_stmt_execute_cont(&failed, statement, wait_for(connection, status));
    return failed == 0;
}

static bool store_result(struct store_connection *connection, MYSQL_STMT *statement) {
    int failed = 0;
    int status = mysql_stmt_store_result_start(&failed, statement);

    while (status != 0)
        status = mysql_stmt_store_result_cont(&failed, statement, wait_for(connection, status));
    return failed == 0;
}

static bool bind_parameters(MYSQL_STMT *statement, const struct mysql_parameter *parameters, unsigned count) {
    MYSQL_BIND binds[APP_FIELD_COUNT + 2] = {0};

    for (unsigned i = 0; i < count; i++) {
        binds[i].buffer_type = parameters[i].data != NULL ? MYSQL_TYPE_STRING : MYSQL_TYPE_NULL;
        binds[i].buffer = (void *)parameters[i].data;
        binds[i].buffer_length = parameters[i].length;
    }
    return count == 0 || mysql_stmt_bind_param(statement, binds) == 0;
}

static bool fail(struct store_connection *connection, MYSQL_STMT *statement, struct error *error) {
    const struct config_sql *config = connection->store->config;

    connection->code = connection->timed_out ? CODE_TIMED_OUT : mysql_stmt_errno(statement);
    if (connection->timed_out)
        error_set(error, "no answer from MySQL at %s:%u in time", config->host, config->port);
    else
        error_set(error, "MySQL at %s:%u: %s", config->host, config->port, mysql_stmt_error(statement));
    if (connection->timed_out)
        shutdown(mysql_get_socket(connection->link), SHUT_RDWR);
    mysql_stmt_close(statement);
    return false;
}

static void take_rows(struct mysql_rows *rows, MYSQL_STMT *statement) {
    *rows = (struct mysql_rows){.statement = statement,
                                .columns = mysql_stmt_field_count(statement),
                                .affected = mysql_stmt_affected_rows(statement)};
    if (rows->columns == 0)
        return;
    rows->values = alloc_zero(rows->columns * sizeof rows->values[0]);
    rows->nulls = alloc_zero(rows->columns * sizeof rows->nulls[0]);
}

bool mysql_store_run(struct store_connection *connection, struct slice sql, const struct mysql_parameter *parameters,
                     unsigned count, const struct patience *patience, struct mysql_rows *rows, struct error *error) {
    MYSQL_STMT *statement = mysql_stmt_init(connection->link);

    connection->patience = patience;
    connection->timed_out = connection->timed_out || patience_ended(patience);
    if (statement == NULL || connection->timed_out || !prepare(connection, statement, sql) ||
        !bind_parameters(statement, parameters, count) || !execute(connection, statement) ||
        (mysql_stmt_field_count(statement) != 0 && !store_result(connection, statement)))
        return fail(connection, statement, error);
    take_rows(rows, statement);
    return true;
}

/* A column of the row that stands ready, whatever its length. */
static void fetch_column(struct mysql_rows *rows, unsigned column) {
    struct buffer *value = &rows->values[column];
    unsigned long length = 0;
    my_bool is_null = 0;
    MYSQL_BIND bind = {.buffer_type = MYSQL_TYPE_STRING, .length = &length, .is_null = &is_null};

    value->length = 0;
    mysql_stmt_fetch_column(rows->statement, &bind, column, 0);
    rows->nulls[column] = is_null;
    if (is_null || length == 0)
        return;
    buffer_reserve(value, length);
    bind.buffer = value->data;
    bind.buffer_length = length;
    mysql_stmt_fetch_column(rows->statement, &bind, column, 0);
    value->length = length;
}

bool mysql_rows_next(struct mysql_rows *rows) {
    int code = mysql_stmt_fetch(rows->statement);

    if (code != 0 && code != MYSQL_DATA_TRUNCATED)
        return false;
    for (unsigned i = 0; i < rows->columns; i++)
        fetch_column(rows, i);
    return true;
}

void mysql_rows_dispose(struct mysql_rows *rows) {
    for (unsigned i = 0; i < rows->columns; i++)
        buffer_dispose(&rows->values[i]);
    free(rows->values);
    free(rows->nulls);
    mysql_stmt_close(rows->statement);
}

enum store_answer mysql_store_failure(const struct store_connection *connection) {
    if (connection->timed_out || (connection->code >= CR_MIN_ERROR && connection->code <= CR_MAX_ERROR))
        return STORE_UNAVAILABLE;
    switch (connection->code) {
    case ER_CON_COUNT_ERROR:
    case ER_SERVER_SHUTDOWN:
    case ER_LOCK_WAIT_TIMEOUT:
    case ER_LOCK_DEADLOCK:
    case ER_QUERY_INTERRUPTED:
    case ER_TOO_MANY_USER_CONNECTIONS:
    case ER_NEW_ABORTING_CONNECTION:
    case ER_CONNECTION_KILLED:
        return STORE_UNAVAILABLE;
    default:
        return STORE_REFUSED;
    }
}
