#include <errmsg.h>
#include <mysqld_error.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/resolve.h"
#include "store/mysql/mysql_internal.h"
#include "store/response_limit.h"

static bool is_socket_path(const char *host) {
    return host[0] == '/';
}

/* --- errors --- */

static const char *mysql_setting(unsigned code) {
    switch (code) {
    case ER_ACCESS_DENIED_ERROR:
    case ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
        return "database.mysql.username and .password";
    case ER_DBACCESS_DENIED_ERROR:
    case ER_BAD_DB_ERROR:
        return "database.mysql.database";
    case CR_SSL_CONNECTION_ERROR:
        return "database.mysql.tls";
    default:
        return "database.mysql.host and .port";
    }
}

static bool explain_sign_in(struct mysql_connection *connection, struct error *error) {
    const struct config_sql *config = connection->store->config;

    if (connection->gave_up)
        return error_set(error, "database.mysql.host and .port: MySQL at %s:%u: %s", config->host, config->port,
                         mysql_driver_why(connection));
    if (connection->offers_no_tls && config->tls.mode != CONFIG_TLS_PREFER)
        return error_set(error, "database.mysql.tls.mode: MySQL at %s:%u offers no TLS", config->host, config->port);
    connection->code = mysql_errno(connection->link);
    if (connection->code == CR_PLUGIN_NOT_ALLOWED)
        return error_set(
            error,
            "database.mysql.tls.mode: MySQL at %s:%u asks for the password in clear text, or by a way in which it "
            "could "
            "read it, and the connection is not encrypted: set tls.mode to `require` or `verify`, or give the user one "
            "of the plugins mysql_native_password and ed25519 (%s)",
            config->host, config->port, mysql_error(connection->link));
    return error_set(error, "%s: MySQL at %s:%u: %s", mysql_setting(connection->code), config->host, config->port,
                     mysql_error(connection->link));
}

/* --- TLS --- */

static bool mysql_tls_file_failed(const char *setting, const char *path, struct error *error) {
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    error_set(error, "database.mysql.tls.%s %s: %s", setting, path, reason != NULL ? reason : "it cannot be read");
    ERR_clear_error();
    return false;
}

/* Reads the files here, since the library does not say which file it cannot use. */
static bool check_mysql_tls_files(const struct config_tls *tls, struct error *error) {
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    const char *key_path = tls->key_path != NULL ? tls->key_path : tls->cert_path;
    bool good;

    ERR_clear_error();
    good = (tls->ca_path == NULL || SSL_CTX_load_verify_locations(context, tls->ca_path, NULL) == 1 ||
            mysql_tls_file_failed("ca_path", tls->ca_path, error)) &&
           (tls->cert_path == NULL || SSL_CTX_use_certificate_chain_file(context, tls->cert_path) == 1 ||
            mysql_tls_file_failed("cert_path", tls->cert_path, error)) &&
           (key_path == NULL || SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) == 1 ||
            mysql_tls_file_failed("key_path", key_path, error));
    SSL_CTX_free(context);
    return good;
}

/* Names the system's certificate authorities if none are configured: without any, some versions of the library do not
 * check the host name in the certificate. */
static void set_mysql_authorities(MYSQL *link, const char *ca_path) {
    const char *file = getenv(X509_get_default_cert_file_env()), *folder = getenv(X509_get_default_cert_dir_env());

    if (ca_path != NULL) {
        mysql_options(link, MYSQL_OPT_SSL_CA, ca_path);
        return;
    }
    if (file == NULL && access(X509_get_default_cert_file(), R_OK) == 0)
        file = X509_get_default_cert_file();
    if (file != NULL)
        mysql_options(link, MYSQL_OPT_SSL_CA, file);
    mysql_options(link, MYSQL_OPT_SSL_CAPATH, folder != NULL ? folder : X509_get_default_cert_dir());
}

static void set_mysql_tls(MYSQL *link, const struct config_tls *tls, bool encrypted) {
    my_bool wanted = encrypted, verified = encrypted && tls->mode == CONFIG_TLS_VERIFY;

    if (encrypted && tls->cert_path != NULL) {
        mysql_options(link, MYSQL_OPT_SSL_CERT, tls->cert_path);
        mysql_options(link, MYSQL_OPT_SSL_KEY, tls->key_path != NULL ? tls->key_path : tls->cert_path);
    }
    if (verified)
        set_mysql_authorities(link, tls->ca_path);
    /* The defaults depend on the version of the library. */
    mysql_options(link, MYSQL_OPT_SSL_ENFORCE, &wanted);
    mysql_options(link, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verified);
}

/* --- signing in --- */

static void set_mysql_options(struct mysql_connection *connection, bool encrypted) {
    const struct config_sql *config = connection->store->config;
    unsigned protocol = is_socket_path(config->host) ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP, no_files = 0;
    unsigned timeout_s = deadline_remaining_ms(&connection->base.deadline) / 1000 + 1;
    size_t row_max_bytes = RESPONSE_MAX_BYTES;
    char limits[128];

    mysql_options(connection->link, MARIADB_OPT_IO_WAIT, (const void *)mysql_driver_wait);
    /* Bounds a read before the first wait, in which mysql_driver_wait makes the socket non-blocking. */
    mysql_options(connection->link, MYSQL_OPT_CONNECT_TIMEOUT, &timeout_s);
    mysql_options(connection->link, MYSQL_OPT_PROTOCOL, &protocol); /* otherwise "localhost" means a Unix socket */
    mysql_options(connection->link, MYSQL_OPT_LOCAL_INFILE, &no_files);
    mysql_options(connection->link, MYSQL_OPT_MAX_ALLOWED_PACKET, &row_max_bytes);
    mysql_options(connection->link, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    /* A server may ignore the character set in the sign-in packet. */
    mysql_options(connection->link, MYSQL_INIT_COMMAND, "SET NAMES utf8mb4");
    /* Strict mode: a value that a column cannot hold is refused, never cut. */
    mysql_options(connection->link, MYSQL_INIT_COMMAND,
                  "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1");
    /* The server stops waiting for locks when we do: a statement that still waited to change the table would block all
     * others. */
    snprintf(limits, sizeof limits, "SET SESSION lock_wait_timeout = %u, innodb_lock_wait_timeout = %u", timeout_s,
             timeout_s);
    mysql_options(connection->link, MYSQL_INIT_COMMAND, limits);
    mysql_options4(connection->link, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", "curlew");
    set_mysql_tls(connection->link, &config->tls, encrypted);
}

static bool sign_in_to_mysql(struct mysql_connection *connection, bool encrypted, struct error *error) {
    const struct config_sql *config = connection->store->config;
    bool socket = is_socket_path(config->host);

    connection->link = mysql_init(NULL);
    connection->wants_tls = encrypted;
    connection->expects_greeting = !socket;
    set_mysql_options(connection, encrypted);
    return mysql_real_connect(connection->link, socket ? NULL : config->host, config->username, config->password,
                              config->database, config->port, socket ? config->host : NULL,
                              CLIENT_FOUND_ROWS) != NULL ||
           explain_sign_in(connection, error);
}

static bool sign_in_with_configured_tls(struct mysql_connection *connection, struct error *error) {
    const struct config_sql *config = connection->store->config;
    bool preferred = config->tls.mode == CONFIG_TLS_PREFER,
         optional = preferred || config->tls.mode == CONFIG_TLS_DISABLE;

    /* The traffic of a Unix socket stays on this machine. */
    if (sign_in_to_mysql(connection, !optional || (preferred && !is_socket_path(config->host)), error))
        return optional || mysql_get_ssl_cipher(connection->link) != NULL ||
               error_set(error, "database.mysql.tls.mode: MySQL at %s offers no TLS", config->host);
    if (!preferred || connection->code != CR_SSL_CONNECTION_ERROR || connection->gave_up)
        return false;
    mysql_close(connection->link);
    return sign_in_to_mysql(connection, false, error);
}

struct store_connection *mysql_driver_connect(struct app_store *base, const struct deadline *deadline,
                                              struct error *error) {
    struct mysql_store *store = mysql_store_of(base);
    const struct config_sql *config = store->config;
    struct mysql_connection *connection = alloc_zero(sizeof *connection);

    store_connection_init(&connection->base, base, deadline);
    connection->store = store;
    mysql_driver_use(connection);
    if (config->tls.mode != CONFIG_TLS_DISABLE && !check_mysql_tls_files(&config->tls, error)) {
        /* the error is set */
    } else if (!is_socket_path(config->host) && !resolve_in_time(config->host, deadline, error)) {
        error_prefix(error, "database.mysql.host %s", config->host);
    } else if (sign_in_with_configured_tls(connection, error)) {
        return &connection->base;
    }
    mysql_driver_disconnect(&connection->base);
    return NULL;
}

void mysql_driver_disconnect(struct store_connection *base) {
    static const struct deadline none = {.cancel_fd = -1};
    struct mysql_connection *connection = mysql_connection_of(base);

    store_begin(base, &none);
    mysql_driver_use(connection);
    if (connection->link != NULL)
        mysql_close(connection->link);
    /* Without a connection, closing a statement frees memory only. */
    for (unsigned i = 0; i < MYSQL_STATEMENT_COUNT; i++)
        if (connection->statements[i] != NULL)
            mysql_stmt_close(connection->statements[i]);
    mysql_driver_use(NULL);
    buffer_dispose(&connection->value);
    free(connection);
}
