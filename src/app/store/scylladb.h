/*
 * What the files of the ScyllaDB and Cassandra driver share.
 *
 *   scylladb.c          finding and writing apps
 *   scylladb_nodes.c    which nodes there are, which answer, and which consistency they allow
 *   scylladb_migrate.c  keyspace, table, index and columns
 *   cql/                the protocol
 */
#pragma once

#include <pthread.h>

#include "app/app_store.h"
#include "app/store/cql/cql_connection.h"

#define SCYLLADB_NODES_MAX 64
#define SCYLLADB_NAME_MAX 256

struct scylladb_node {
    char host[SCYLLADB_NAME_MAX];
    uint16_t port;
    uint32_t backoff_ms; /* 0: it answered when it was last asked */
    uint64_t left_out_until_ms;
};

struct app_store {
    const struct config *config;
    const struct app_defaults *defaults;
    char keyspace[SCYLLADB_NAME_MAX], table[SCYLLADB_NAME_MAX]; /* in lower case, as unquoted names are read */

    pthread_mutex_t mutex; /* of what follows */
    struct scylladb_node nodes[SCYLLADB_NODES_MAX];
    unsigned node_count;
    unsigned next; /* where the next connection begins to look */
    bool warned_of_one;
};

struct store_connection {
    struct app_store *store;
    struct cql_connection *link;
    struct scylladb_node node;
    unsigned known_nodes;              /* of the cluster, from this node's view */
    bool alone;                        /* too few nodes for a quorum of the keyspace's replicas */
    uint16_t columns[APP_FIELD_COUNT]; /* each field's type + 1; 0: there is no column */
    bool looked, has_created_at, has_updated_at, has_index;
};

/* --- scylladb_nodes.c --- */

bool scylladb_nodes_init(struct app_store *store, struct error *error);
struct store_connection *scylladb_connect(struct app_store *store, const struct patience *patience,
                                          struct error *error);
void scylladb_disconnect(struct store_connection *connection);
/* Asks again how many replicas the keyspace wants, and whether there are nodes enough. */
bool scylladb_look_at_replicas(struct store_connection *connection, const struct patience *patience,
                               struct error *error);
/* Runs a request at the consistency that the cluster allows. One that is not answered leaves the node out for a while.
 */
bool scylladb_run(struct store_connection *connection, struct cql_request *request, const struct patience *patience,
                  struct cql_rows *rows, struct error *error);
enum store_answer scylladb_failure(const struct store_connection *connection);

/* --- scylladb_migrate.c --- */

enum store_answer scylladb_look(struct store_connection *connection, const struct patience *patience,
                                struct error *error);
enum store_answer scylladb_prepare(struct store_connection *connection, const struct patience *patience,
                                   struct error *error);
