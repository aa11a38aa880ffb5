#include <poll.h>
#include <string.h>

#include "store/postgres/postgres_internal.h"
#include "store/response_limit.h"

const char postgres_other_answer[] = "an answer to another statement";

struct error postgres_single_line(const char *text) {
    struct error line;
    size_t length = 0;

    for (; *text != '\0' && length + 1 < sizeof line.text; text++) {
        bool blank = *text == ' ' || *text == '\n' || *text == '\t';
        if (!blank || (length > 0 && line.text[length - 1] != ' '))
            line.text[length++] = blank ? ' ' : *text;
    }
    if (length > 0 && line.text[length - 1] == ' ')
        length--;
    line.text[length] = '\0';
    return line;
}

static bool flush_query(struct postgres_connection *connection, struct error *error) {
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

/* Waits for the next result; NULL: there is none any more. False with an error, or without one if the connection
 * failed. */
static bool await_result(struct postgres_connection *connection, uint64_t received, PGresult **result,
                         struct error *error) {
    PGconn *link = connection->link;

    while (PQisBusy(link)) {
        if (!deadline_wait_or_fail(&connection->base.deadline, PQsocket(link), POLLIN, error))
            return false;
        if (PQconsumeInput(link) == 0) /* may take in a whole row, of up to 1 GB */
            return false;
        if (!response_fits(PQsocket(link), received))
            return error_set(error, "%s", response_too_large);
    }
    *result = PQgetResult(link);
    return true;
}

static bool result_succeeded(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* Whether the server starts a COPY, for which the library would return the same result for ever. */
static bool is_copy_result(const PGresult *result) {
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH;
}

/* Sets the error and the SQLSTATE for a statement that failed. Clears `result` (may be NULL) and returns NULL. */
static PGresult *fail_query(struct postgres_connection *connection, PGresult *result, struct error *error) {
    const struct config_sql *config = connection->store->config;
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

    snprintf(connection->sqlstate, sizeof connection->sqlstate, "%s", state != NULL ? state : "");
    if (result != NULL || error->text[0] == '\0') {
        error_set(error, "PostgreSQL at %s:%u says: %s", config->host, config->port,
                  postgres_single_line(result != NULL ? PQresultErrorMessage(result) : PQerrorMessage(connection->link))
                      .text);
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
        return fail_query(connection, NULL, error);
    }
    /* Unnamed statements also work behind a pooler that assigns its connections for each transaction. */
    if (PQsendQueryParams(connection->link, sql, count, NULL, values, NULL, NULL, 0) == 0 ||
        !flush_query(connection, error))
        return fail_query(connection, NULL, error);
    do {
        if (!await_result(connection, received, &next, error)) {
            PQclear(result);
            return fail_query(connection, NULL, error);
        }
        if (next != NULL) {
            PQclear(result);
            result = next;
        }
        if (is_copy_result(result)) {
            PQclear(result);
            error_set(error, "%s", postgres_other_answer);
            return fail_query(connection, NULL, error);
        }
    } while (next != NULL);
    return result != NULL && result_succeeded(result) ? result : fail_query(connection, result, error);
}

enum store_answer postgres_failure(const struct postgres_connection *connection) {
    static const char *const unavailable[] = {"08", "57", "532", "533", "55P03", "40", "XX",
                                              /* The table has changed since this connection read its columns. */
                                              "42P01", "42703"}; /* prefixes */
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
