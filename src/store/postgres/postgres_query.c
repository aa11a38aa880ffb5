#include <openssl/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/resolve.h"
#include "store/postgres/postgres_internal.h"
#include "store/response_limit.h"

#define LIMIT_BEYOND_MS 1000 /* the server's limit: ours comes first */

/* --- connecting --- */

static const char *tls_mode(enum config_tls_mode mode) {
    static const char *const names[] = {"disable", "prefer", "require", "verify-full"};

    return names[mode];
}

/* What the server or the library said, on one line and without the line's end. */
static struct error on_one_line(const char *said) {
    struct error line;
    size_t length = 0;

    for (; *said != '\0' && length + 1 < sizeof line.text; said++) {
        bool blank = *said == ' ' || *said == '\n' || *said == '\t';
        if (!blank || (length > 0 && line.text[length - 1] != ' '))
            line.text[length++] = blank ? ' ' : *said;
    }
    if (length > 0 && line.text[length - 1] == ' ')
        length--;
    line.text[length] = '\0';
    return line;
}

/* The code of the first error that a server sent, in the words that PQERRORS_VERBOSE gives it: `SEVERITY:  CODE: text`.
 * NULL: no server said anything. */
static const char *find_sqlstate(const char *said) {
    for (const char *at = said; (at = strstr(at, ":  ")) != NULL; at++)
        if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':')
            return at + 3;
    return NULL;
}

/* Without a server's error the words are the library's own; those before "failed" name the host. */
static bool is_about_tls(const char *said) {
    const char *reason = strstr(said, " failed: ");

    said = reason != NULL ? reason : said;
    return strstr(said, "certificate") != NULL || strstr(said, "SSL") != NULL || strstr(said, "key file") != NULL;
}

static const char *setting_of(const PGconn *link) {
    static const struct {
        const char *sqlstate, *setting;
    } settings[] = {
        {"28P01", "database.postgres.username and .password"},
        /* No such role, or none that may come like this. */
        {"28000", "database.postgres.username, .database and .tls"},
        {"3D000", "database.postgres.database"},
        {"42501", "database.postgres.database"},
    };
    const char *said = PQerrorMessage(link), *state = find_sqlstate(said);

    if (PQconnectionNeedsPassword(link))
        return settings[0].setting;
    for (size_t i = 0; state != NULL && i < sizeof settings / sizeof settings[0]; i++)
        if (strncmp(state, settings[i].sqlstate, 5) == 0)
            return settings[i].setting;
    return state == NULL && is_about_tls(said) ? "database.postgres.tls" : "database.postgres.host and .port";
}

static void explain_connect(struct postgres_connection *connection, struct error *error) {
    const struct config_sql *config = connection->store->config;
    char *said = alloc_copy(PQerrorMessage(connection->link), strlen(PQerrorMessage(connection->link)));
    char *where = strstr(said, "\nLOCATION:"); /* in the server's source */

    if (where != NULL)
        *where = '\0';
    error_set(error, "%s: PostgreSQL at %s:%u says: %s", setting_of(connection->link), config->host, config->port,
              on_one_line(said).text);
    free(said);
}

/* The library has no authorities of its own to verify a server by: the system's count. */
static const char *authorities(const struct config_tls *tls) {
    const char *file = getenv(X509_get_default_cert_file_env());

    if (tls->ca_path != NULL || tls->mode != CONFIG_TLS_VERIFY)
        return tls->ca_path;
    return file != NULL ? file : X509_get_default_cert_file();
}

/* The library would wait for a resolver for as long as that likes: it is given the addresses, and the name as often,
 * which is what a certificate is for. It takes folders of sockets and several hosts apart itself. */
struct places {
    struct buffer hosts, addresses;
};

static bool find_places(struct places *places, const char *host, const struct deadline *deadline, struct error *error) {
    struct addrinfo *found = NULL;

    if (strpbrk(host, "/@,") == NULL) {
        found = resolve_addresses(host, 0, deadline, error);
        if (found == NULL)
            return error_prefix(error, "database.postgres.host %s", host);
    }
    buffer_appendf(&places->hosts, "%s", host);
    for (const struct addrinfo *one = found; one != NULL; one = one->ai_next) {
        char address[NI_MAXHOST];
        if (getnameinfo(one->ai_addr, one->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        if (places->addresses.length != 0)
            buffer_appendf(&places->hosts, ",%s", host);
        buffer_appendf(&places->addresses, "%s%s", places->addresses.length != 0 ? "," : "", address);
    }
    if (found != NULL)
        freeaddrinfo(found);
    buffer_append_byte(&places->hosts, '\0');
    buffer_append_byte(&places->addresses, '\0');
    return true;
}

static void places_dispose(struct places *places) {
    buffer_dispose(&places->hosts);
    buffer_dispose(&places->addresses);
}

static PGconn *begin_connect(const struct config_sql *config, const struct places *places) {
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
    const char *const values[] = {places->hosts.data,
                                  places->addresses.data,
                                  port,
                                  config->username,
                                  config->password,
                                  config->database,
                                  tls_mode(config->tls.mode),
                                  authorities(&config->tls),
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

static bool finish_connect(struct postgres_connection *connection, struct error *error) {
    PGconn *link = connection->link;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;

    if (link == NULL || PQstatus(link) == CONNECTION_BAD)
        return false;
    PQsetErrorVerbosity(link, PQERRORS_VERBOSE); /* the code of an error is not to be had in another way yet */
    while (state != PGRES_POLLING_OK) {
        if (state == PGRES_POLLING_FAILED)
            return false;
        if (!deadline_wait_or_fail(&connection->base.deadline, PQsocket(link),
                                   state == PGRES_POLLING_READING ? POLLIN : POLLOUT, error))
            return false;
        state = PQconnectPoll(link);
    }
    PQsetErrorVerbosity(link, PQERRORS_DEFAULT);
    return PQsetnonblocking(link, 1) == 0;
}

static void ignore_notice(void *context, const char *text) {
    (void)context;
    (void)text;
}

/*
 * A server does not notice that nobody waits for a statement any more, least of all while it waits for a lock itself:
 * with each that is given up one more process would be busy there. A limit that somebody else has set counts. Behind a
 * pooler the session may be another's a moment later, so it is left as it is: its processes are the pooler's.
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
    struct places places = {0};

    if (!find_places(&places, store->config->host, deadline, error))
        return NULL;
    connection = alloc_zero(sizeof *connection);
    store_connection_init(&connection->base, &store->base, deadline);
    connection->store = store;
    connection->link = begin_connect(store->config, &places);
    places_dispose(&places);
    error->text[0] = '\0';
    if (finish_connect(connection, error)) {
        PQsetNoticeProcessor(connection->link, ignore_notice, NULL);
        if (limit_statements(connection, error))
            return connection;
    } else if (error->text[0] == '\0') {
        explain_connect(connection, error);
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

/* --- statements --- */

const char postgres_other_answer[] = "an answer to something else than what was asked";

static bool flush(struct postgres_connection *connection, struct error *error) {
    PGconn *link = connection->link;
    int left;

    while ((left = PQflush(link)) > 0) {
        if (!deadline_wait_or_fail(&connection->base.deadline, PQsocket(link), POLLIN | POLLOUT, error))
            return false;
        if (PQconsumeInput(link) == 0)
            return false;
    }
    return left == 0;
}

/* The next result; false when it did not come. NULL: there is none any more. */
static bool next_result(struct postgres_connection *connection, uint64_t received, PGresult **result,
                        struct error *error) {
    PGconn *link = connection->link;

    while (PQisBusy(link)) {
        if (!deadline_wait_or_fail(&connection->base.deadline, PQsocket(link), POLLIN, error))
            return false;
        if (PQconsumeInput(link) == 0) /* a row, which is never more than a gigabyte, may come as a whole */
            return false;
        if (!response_fits(PQsocket(link), received))
            return error_set(error, "%s", response_too_large);
    }
    *result = PQgetResult(link);
    return true;
}

static bool succeeded(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* A server that says it copies is given the same answer by the library for ever. */
static bool is_copy(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

static PGresult *fail(struct postgres_connection *connection, PGresult *result, struct error *error) {
    const struct config_sql *config = connection->store->config;
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

    snprintf(connection->sqlstate, sizeof connection->sqlstate, "%s", state != NULL ? state : "");
    if (result != NULL || error->text[0] == '\0') {
        error_set(error, "PostgreSQL at %s:%u says: %s", config->host, config->port,
                  on_one_line(result != NULL ? PQresultErrorMessage(result) : PQerrorMessage(connection->link)).text);
    } else {
        error_prefix(error, "PostgreSQL at %s:%u", config->host, config->port);
    }
    PQclear(result);
    return NULL;
}

PGresult *postgres_run(struct postgres_connection *connection, const char *sql, int count, const char *const *values,
                       struct error *error) {
    PGresult *result = NULL, *next = NULL;
    uint64_t received = response_received(PQsocket(connection->link));

    error->text[0] = '\0';
    if (deadline_passed(&connection->base.deadline)) {
        error_set(error, "no answer in time");
        return fail(connection, NULL, error);
    }
    /* Statements without a name: they work behind a pooler that hands out its connections by transaction, too. */
    if (PQsendQueryParams(connection->link, sql, count, NULL, values, NULL, NULL, 0) == 0 || !flush(connection, error))
        return fail(connection, NULL, error);
    do {
        if (!next_result(connection, received, &next, error)) {
            PQclear(result);
            return fail(connection, NULL, error);
        }
        if (next != NULL) {
            PQclear(result);
            result = next;
        }
        if (is_copy(result)) {
            PQclear(result);
            error_set(error, "%s", postgres_other_answer);
            return fail(connection, NULL, error);
        }
    } while (next != NULL);
    return result != NULL && succeeded(result) ? result : fail(connection, result, error);
}

enum store_answer postgres_failure(const struct postgres_connection *connection) {
    static const char *const unavailable[] = {"08", "57", "532", "533", "55P03", "40", "XX",
                                              /* The table is another one than when this connection looked at it. */
                                              "42P01", "42703"}; /* beginnings */
    const char *state = connection->sqlstate;

    if (state[0] == '\0' || PQstatus(connection->link) == CONNECTION_BAD)
        return STORE_UNAVAILABLE;
    for (size_t i = 0; i < sizeof unavailable / sizeof unavailable[0]; i++)
        if (strncmp(state, unavailable[i], strlen(unavailable[i])) == 0)
            return STORE_UNAVAILABLE;
    return STORE_REFUSED;
}

struct slice postgres_value(const PGresult *result, int row, int column) {
    return (struct slice){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}
