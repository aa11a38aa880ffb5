/*
 * One connection to a node of a Cassandra or ScyllaDB cluster: signed in, one request at a time, each within its
 * deadline. cql_socket.c moves the bytes, cql_frame.c knows the frames.
 */
#pragma once

#include "store/scylladb/cql/cql_frame.h"
#include "store/scylladb/cql/cql_socket.h"

struct cql_connection;

/* Why a request failed. */
enum cql_failure {
    CQL_LOST,    /* the connection is of no further use */
    CQL_REFUSED, /* the node answered with an error, see cql_failure_code */
};

/* Connects and signs in with username and password, unless the username is NULL. NULL with an error. */
struct cql_connection *cql_connect(const struct cql_node_address *address, const char *username, const char *password,
                                   const struct config_tls *tls, const struct deadline *deadline, struct error *error);
/* True if the password went to another machine without TLS: the protocol knows no other form of it. */
bool cql_password_was_clear(const struct cql_connection *connection);
void cql_close(struct cql_connection *connection);

struct cql_request {
    struct slice statement;     /* with `?` for each value; each text is prepared once */
    const struct slice *values; /* in the form of the columns' types; NULL data: null */
    unsigned count;
    enum cql_consistency consistency;
    bool conditional;          /* a lightweight transaction, serial in this data center */
    uint32_t page_size;        /* 0: all rows */
    struct slice paging_state; /* empty: the first page */
};

/*
 * Runs a statement. False with an error; cql_failure then says of which kind. The rows point into the connection and
 * are valid until the next request.
 */
bool cql_run(struct cql_connection *connection, const struct cql_request *request, const struct deadline *deadline,
             struct cql_rows *rows, struct error *error);
enum cql_failure cql_failure(const struct cql_connection *connection);
/* The node's code (enum cql_error_code); 0: the last request brought no error. */
uint32_t cql_failure_code(const struct cql_connection *connection);

/* Reads the next value of the current row; call it column_count times for each row. False: null. */
bool cql_next_value(struct cql_rows *rows, struct slice *value);
