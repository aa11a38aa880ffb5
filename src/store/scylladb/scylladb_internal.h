/*
 * What the files of the ScyllaDB and Cassandra driver share.
 *
 *   scylladb.c          finding and writing apps
 *   scylladb_column.c   fields of an app as values of columns
 *   scylladb_nodes.c    which nodes there are, which answer, and which consistency they allow
 *   scylladb_migrate.c  keyspace, table, index and columns
 *   cql/                the protocol
 */
#pragma once

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/list.h"
#include "store/scylladb/cql/cql_connection.h"
#include "store/scylladb/cql/cql_value.h"
#include "store/store.h"

#define SCYLLADB_NODES_MAX 64
#define SCYLLADB_NAME_MAX 256

struct scylladb_node {
    char host[SCYLLADB_NAME_MAX];
    uint16_t port;
    bool configured;                /* not found by itself: never forgotten */
    char center[SCYLLADB_NAME_MAX]; /* its data centre; empty: nobody asked it yet */
    uint32_t backoff_ms;            /* 0: it answered when it was last asked */
    uint64_t left_out_until_ms;
};

struct scylladb_store {
    struct app_store base;
    const struct config *config;
    const struct app_defaults *defaults;
    char keyspace[SCYLLADB_NAME_MAX], table[SCYLLADB_NAME_MAX]; /* in lower case, as unquoted names are read */

    atomic_bool few;       /* nodes, for a quorum of the keyspace's replicas, by whoever looked around last */
    pthread_mutex_t mutex; /* of what follows */
    struct scylladb_node nodes[SCYLLADB_NODES_MAX];
    unsigned node_count;
    unsigned next; /* where the next connection begins to look */
};

struct scylladb_column {
    bool there;
    uint16_t type, element;
    char type_name[64]; /* for people */
};

struct scylladb_connection {
    struct store_connection base;
    struct scylladb_store *store;
    struct cql_connection *link;
    struct scylladb_node node;
    char first[SCYLLADB_NAME_MAX]; /* of the data centre's nodes the one that all servers ask for changes of the schema;
                                      empty: this one */
    bool alone;                    /* the store's `few` when this operation began */
    uint64_t look_around_ms;       /* when to ask for the nodes and the replicas again */
    struct scylladb_column columns[APP_FIELD_COUNT];
    bool looked, has_created_at, has_updated_at, has_index;
};

static inline struct scylladb_store *scylladb_store_of(struct app_store *base) {
    return container_of(base, struct scylladb_store, base);
}

static inline struct scylladb_connection *scylladb_connection_of(struct store_connection *base) {
    return container_of(base, struct scylladb_connection, base);
}

/* --- scylladb_column.c --- */

/* Puts what a column holds into the record; what no field can be becomes a value that is refused by the field's name.
 */
void scylladb_read_field(json_t *record, enum app_field field, const struct cql_column *column, struct slice value);

/* Whether the column's type can hold any value of the field. */
bool scylladb_column_fits(enum app_field field, const struct scylladb_column *column);

/* Appends the field of an app as a value of its column, never NULL data; false with an error that names the column if
 * it cannot hold it. */
bool scylladb_field_value(struct buffer *out, bool *is_null, const struct app *app, enum app_field field,
                          const struct scylladb_column *column, struct error *error);

/* --- scylladb_nodes.c --- */

bool scylladb_nodes_init(struct scylladb_store *store, struct error *error);
/* A connection to one of the nodes; NULL with an error. */
struct scylladb_connection *scylladb_open_connection(struct scylladb_store *store, const struct deadline *deadline,
                                                     struct error *error);
/* A connection to the node `first`, for changes of the schema: two nodes that make the same table at once make two.
 * NULL if it cannot be had soon. */
struct scylladb_connection *scylladb_connect_to_first(const struct scylladb_connection *connection);
void scylladb_close_connection(struct scylladb_connection *connection);

/* Asks, when it is time to, which nodes there are and how many replicas the keyspace wants; false with an error. */
bool scylladb_look_around(struct scylladb_connection *connection, struct error *error);

/* Gives a question a part of the connection's deadline when there are other nodes, so that one that hangs leaves time
 * for them. Returns the whole deadline, to be put back with store_begin. */
struct deadline scylladb_share_deadline(struct scylladb_connection *connection);

/* Runs a request at the consistency that the cluster allows. One that is not answered leaves the node out for a while.
 */
bool scylladb_run(struct scylladb_connection *connection, struct cql_request *request, struct cql_rows *rows,
                  struct error *error);

/* What the failure of a request means. After "invalid" the table is looked at again: it may have changed. */
enum store_answer scylladb_failure(struct scylladb_connection *connection);

/* --- scylladb_migrate.c --- */

/* Sees to it that what the cluster and the table look like is known. */
enum store_answer scylladb_look(struct scylladb_connection *connection, struct error *error);
enum store_answer scylladb_prepare(struct store_connection *base, struct error *error);
enum store_answer scylladb_inspect(struct store_connection *base, struct error *error);
