#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/resolve.h"
#include "store/postgres/postgres_guard.h"
#include "store/postgres/postgres_internal.h"

#define LIMIT_BEYOND_MS 1000 /* the limit of the server is longer, so that ours comes first */

static const char *sslmode_name(enum config_tls_mode mode) {
    static const char *const modes[] = {"disable", "prefer", "require", "verify-full"};

    return modes[mode];
}

/* The code of the first error from a server, which PQERRORS_VERBOSE prints as `SEVERITY:  CODE: text`. NULL: no server
 * answered. */
static const char *find_sqlstate(const char *text) {
    for (const char *at = text; (at = strstr(at, ":  ")) != NULL; at++)
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':')
            return at + 3;
    return NULL;
}

/* Whether an error of the library itself is about TLS. The part before "failed" names the host. */
static bool is_tls_error(const char *text) {
    const char *reason = strstr(text, " failed: ");

    text = reason != NULL ? reason : text;
    return strstr(text, "certificate") != NULL || strstr(text, "SSL") != NULL || strstr(text, "key file") != NULL;
}

static const char *postgres_setting(const PGconn *link) {
    static const struct {
        const char *sqlstate, *setting;
    } settings[] = {
        {"28P01", "database.postgres.username and .password"},
        /* There is no such role, or it may not connect from here or without TLS. */
        {"28000", "database.postgres.username, .database and .tls"},
        {"3D000", "database.postgres.database"},
        {"42501", "database.postgres.database"},
    };
    const char *text = PQerrorMessage(link), *state = find_sqlstate(text);

    if (PQconnectionNeedsPassword(link))
        return settings[0].setting;
    for (size_t i = 0; state != NULL && i < sizeof settings / sizeof settings[0]; i++)
        if (strncmp(state, settings[i].sqlstate, 5) == 0)
            return settings[i].setting;
    return state == NULL && is_tls_error(text) ? "database.postgres.tls" : "database.postgres.host and .port";
}

static void explain_postgres_connect(struct postgres_connection *connection, struct error *error) {
    const struct config_sql *config = connection->store->config;
    char *text = alloc_copy(PQerrorMessage(connection->link), strlen(PQerrorMessage(connection->link)));
    char *where = strstr(text, "\nLOCATION:"); /* a line of the server's source code */

    if (where != NULL)
        *where = '\0';
    error_set(error, "%s: PostgreSQL at %s:%u says: %s", postgres_setting(connection->link), config->host, config->port,
              postgres_single_line(text).text);
    free(text);
}

/* The file of certificate authorities; the system's if none is configured, since the library has no default. */
static const char *authorities_file(const struct config_tls *tls) {
    const char *file = getenv(X509_get_default_cert_file_env());

    if (tls->ca_path != NULL || tls->mode != CONFIG_TLS_VERIFY)
        return tls->ca_path;
    return file != NULL ? file : X509_get_default_cert_file();
}

/* Where to connect to: the addresses, and the host name as often, which certificates are checked for. Names are
 * resolved here since the library would wait for a resolver beyond the deadline. Folders of Unix sockets and lists of
 * hosts are left to the library. */
struct postgres_hosts {
    struct buffer names, addresses;
};

static bool resolve_hosts(struct postgres_hosts *hosts, const char *host, const struct deadline *deadline,
                          struct error *error) {
    struct addrinfo *found = NULL;

    if (strpbrk(host, "/@,") == NULL) {
        found = resolve_addresses(host, 0, deadline, error);
        if (found == NULL)
            return error_prefix(error, "database.postgres.host %s", host);
    }
    buffer_appendf(&hosts->names, "%s", host);
    for (const struct addrinfo *one = found; one != NULL; one = one->ai_next) {
        char address[NI_MAXHOST];
        if (getnameinfo(one->ai_addr, one->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        if (hosts->addresses.length != 0)
            buffer_appendf(&hosts->names, ",%s", host);
        buffer_appendf(&hosts->addresses, "%s%s", hosts->addresses.length != 0 ? "," : "", address);
    }
    if (found != NULL)
        freeaddrinfo(found);
    buffer_string(&hosts->names);
    buffer_string(&hosts->addresses);
    return true;
}

static void postgres_hosts_dispose(struct postgres_hosts *hosts) {
    buffer_dispose(&hosts->names);
    buffer_dispose(&hosts->addresses);
}

static PGconn *begin_postgres_connect(const struct config_sql *config, const struct postgres_hosts *hosts) {
    char port[16];
    const char *const names[] = {"host",
                                 "hostaddr",
                                 "port",
                                 "user",
                                 "password",
                                 "dbname",
                                 "sslmode",
                                 "sslrootcert",
                                 "sslcert",
                                 "sslkey",
                                 "application_name",
                                 "client_encoding",
                                 "keepalives_idle",
                                 "keepalives_interval",
                                 "keepalives_count",
                                 "tcp_user_timeout",
                                 "passfile",
                                 NULL};
    const char *const values[] = {hosts->names.data,
                                  hosts->addresses.data,
                                  port,
                                  config->username,
                                  config->password,
                                  config->database,
                                  sslmode_name(config->tls.mode),
                                  authorities_file(&config->tls),
                                  config->tls.cert_path,
                                  config->tls.key_path,
                                  "curlew",
                                  "UTF8",
                                  "5",
                                  "2",
                                  "3",
                                  "15000",
                                  "",
                                  NULL};

    snprintf(port, sizeof port, "%u", config->port);
    return PQconnectStartParams(names, values, 0);
}

static bool sign_in_guarded(struct postgres_guard *guard, struct error *error) {
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;

    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED || !postgres_guard_wait(guard, state, error))
            return false;
        state = PQconnectPoll(guard->link);
    }
    return true;
}

static bool finish_postgres_connect(struct postgres_connection *connection, struct error *error) {
    PGconn *link = connection->link;
    struct postgres_guard guard;
    bool signed_in;

    if (link == NULL || PQstatus(link) == CONNECTION_BAD)
        return false;
    PQsetErrorVerbosity(link, PQERRORS_VERBOSE); /* the only way to get the code of an error here */
    postgres_guard_init(&guard, link, &connection->base.deadline);
    signed_in = sign_in_guarded(&guard, error);
    if (!postgres_guard_end(&guard, error) || !signed_in)
        return false;
    PQsetErrorVerbosity(link, PQERRORS_DEFAULT);
    return PQsetnonblocking(link, 1) == 0;
}

static void ignore_notice(void *context, const char *text) {
    (void)context;
    (void)text;
}

/*
 * Sets statement_timeout, since a server does not notice that a client has given up on a statement, least of all while
 * the statement waits for a lock: each would keep a process busy. A limit that an administrator set stays. A session
 * behind a pooler may serve another client a moment later, so it stays as it is.
 */
static bool limit_statements(struct postgres_connection *connection, struct error *error) {
    char limit_ms[16], pid[16];
    PGresult *result;

    snprintf(limit_ms, sizeof limit_ms, "%u", connection->store->timeout_ms + LIMIT_BEYOND_MS);
    snprintf(pid, sizeof pid, "%d", PQbackendPID(connection->link));
    result = postgres_run(connection,
                          "SELECT set_config('statement_timeout', $1, false) WHERE pg_backend_pid() = $2::integer "
                          "AND current_setting('statement_timeout') = '0'",
                          2, (const char *const[]){limit_ms, pid}, error);
    connection->limited = result != NULL && PQntuples(result) == 1;
    PQclear(result);
    return result != NULL;
}

struct postgres_connection *postgres_open_connection(struct postgres_store *store, const struct deadline *deadline,
                                                     struct error *error) {
    struct postgres_connection *connection;
    struct postgres_hosts hosts = {0};

    if (!resolve_hosts(&hosts, store->config->host, deadline, error))
        return NULL;
    connection = alloc_zero(sizeof *connection);
    store_connection_init(&connection->base, &store->base, deadline);
    connection->store = store;
    connection->link = begin_postgres_connect(store->config, &hosts);
    postgres_hosts_dispose(&hosts);
    error->text[0] = '\0';
    if (finish_postgres_connect(connection, error)) {
        PQsetNoticeProcessor(connection->link, ignore_notice, NULL);
        if (limit_statements(connection, error))
            return connection;
    } else if (error->text[0] == '\0') {
        explain_postgres_connect(connection, error);
    } else {
        error_prefix(error, "database.postgres.host %s:%u", store->config->host, store->config->port);
    }
    postgres_close_connection(connection);
    return NULL;
}

void postgres_close_connection(struct postgres_connection *connection) {
    PQfinish(connection->link);
    free(connection);
}
