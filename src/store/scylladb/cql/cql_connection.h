/*
 * One connection to a node of a Cassandra or ScyllaDB cluster: TCP or TLS, signed in, one request at a time, each
 * within its deadline.
 */
#pragma once

#include "base/deadline.h"
#include "config/config.h"
#include "store/scylladb/cql/cql_frame.h"

struct cql_connection;

struct cql_node_address {
    const char *host;
    uint16_t port;
};

/* Why a request failed. */
enum cql_failure {
    CQL_LOST,    /* the connection is of no use any more */
    CQL_REFUSED, /* the node answered with an error: `code` */
};

/* Connects and signs in with username and password, unless the username is NULL. NULL with an error. */
struct cql_connection *cql_connect(const struct cql_node_address *address, const char *username, const char *password,
                                   const struct config_tls *tls, const struct deadline *deadline, struct error *error);
void cql_close(struct cql_connection *connection);

struct cql_request {
    struct slice statement;     /* with `?` for each value; the same text is prepared once */
    const struct slice *values; /* as the columns' types have them; NULL data: null */
    unsigned count;
    enum cql_consistency consistency;
    bool conditional; /* a lightweight transaction, serial in this data centre */
    uint32_t page_size;
    struct slice paging_state; /* empty: the first page */
};

/*
 * Runs a statement. False with an error, and then cql_failure says of which kind. The rows, if there are any, point
 * into the connection and are good until the next request.
 */
bool cql_run(struct cql_connection *connection, const struct cql_request *request, const struct deadline *deadline,
             struct cql_rows *rows, struct error *error);
enum cql_failure cql_failure(const struct cql_connection *connection);
uint32_t cql_failure_code(const struct cql_connection *connection);

/* The next value of the row in hand; call it column_count times for each row. False: null. */
bool cql_next_value(struct cql_rows *rows, struct slice *value);
