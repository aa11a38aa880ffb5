/*
 * Declarations shared by the files of the ScyllaDB and Cassandra driver. It has its own client of the CQL protocol.
 *
 * Writes are lightweight transactions if the cluster has enough nodes for them, so that two servers never both create
 * an app. Ids are unique; keys are checked before the write.
 *
 *   scylladb.c           settings and the table of functions
 *   scylladb_read.c      finding and listing apps
 *   scylladb_write.c     creating, updating and removing apps
 *   scylladb_migrate.c   keyspace, table, index and columns
 *   scylladb_column.c    fields of an app as values of columns, whose types may be others than those that we create
 *   scylladb_connect.c   connections, and requests at the consistency that the cluster allows
 *   scylladb_topology.c  what a node knows of the others: new nodes, nodes that left, enough nodes for a quorum
 *   scylladb_nodes.c     the list of nodes, and which of them to skip for a while
 *   cql/                 the protocol
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
    bool configured;                     /* named by the configuration, so it is never removed */
    char data_center[SCYLLADB_NAME_MAX]; /* empty: not known yet */
    uint32_t backoff_ms;                 /* 0: it answered the last time */
    uint64_t skip_until_ms;
};

struct scylladb_store {
    struct app_store base;
    const struct config *config;
    const struct app_defaults *defaults;
    char keyspace[SCYLLADB_NAME_MAX], table[SCYLLADB_NAME_MAX]; /* in lower case, as unquoted names are read */

    /* Fewer nodes are known than a quorum of the keyspace's replicas. Set by the last read of system.peers. */
    atomic_bool below_quorum;
    atomic_bool warned_of_password; /* that it leaves in clear text */

    pthread_mutex_t mutex; /* of the members below */
    struct scylladb_node nodes[SCYLLADB_NODES_MAX];
    unsigned node_count;
    unsigned next; /* index of the node that the next connection tries first */
};

struct scylladb_column {
    bool exists;
    uint16_t type, element;
    char type_name[64]; /* for messages */
};

struct scylladb_connection {
    struct store_connection base;
    struct scylladb_store *store;
    struct cql_connection *link;
    struct scylladb_node node;
    /* The node of the data center through which all servers change the schema; empty: the one of this connection. */
    char schema_node[SCYLLADB_NAME_MAX];
    bool no_quorum;            /* `below_quorum` of the store when this operation began */
    uint64_t refresh_nodes_ms; /* when to read the nodes and the number of replicas again */
    struct scylladb_column columns[APP_FIELD_COUNT];
    uint64_t reread_table_ms; /* when to read the table again */
    bool table_known, has_created_at, has_updated_at, has_index;
};

static inline struct scylladb_store *scylladb_store_of(struct app_store *base) {
    return container_of(base, struct scylladb_store, base);
}

static inline struct scylladb_connection *scylladb_connection_of(struct store_connection *base) {
    return container_of(base, struct scylladb_connection, base);
}

/* --- scylladb_nodes.c --- */

bool scylladb_nodes_init(struct scylladb_store *store, struct error *error);

/* With the mutex held: the node with this address, or NULL. */
struct scylladb_node *scylladb_find_node(struct scylladb_store *store, const char *host, uint16_t port);
/* The same, added if it is new; NULL if the list is full. */
struct scylladb_node *scylladb_add_node(struct scylladb_store *store, const char *host, uint16_t port);

/* The next node that is not to be skipped; if all are, the one that was to be skipped for the shortest time. */
struct scylladb_node scylladb_choose_node(struct scylladb_store *store);
/* Notes whether a node answered. One that did not is skipped for a while, with back-off. */
void scylladb_note_node(struct scylladb_store *store, const struct scylladb_node *asked, bool answered);
unsigned scylladb_count_nodes(struct scylladb_store *store);

/* The part of a deadline that one node gets: all of it if there are no others. */
struct deadline scylladb_share_of(struct scylladb_store *store, const struct deadline *deadline);

/* --- scylladb_topology.c --- */

/* Reads, when it is time to, which nodes there are and how many replicas the keyspace wants. False with an error. */
bool scylladb_refresh_nodes(struct scylladb_connection *connection, struct error *error);

/* --- scylladb_connect.c --- */

/* A connection to one of the nodes; NULL with an error. */
struct scylladb_connection *scylladb_open_connection(struct scylladb_store *store, const struct deadline *deadline,
                                                     struct error *error);
/* A connection to the `schema_node`: two nodes that create the same table at the same time create two. NULL if it
 * cannot be had soon. */
struct scylladb_connection *scylladb_connect_to_schema_node(const struct scylladb_connection *connection);
void scylladb_close_connection(struct scylladb_connection *connection);

/* Limits the connection's deadline to the part that one node gets, so that a node that hangs leaves time for others.
 * Returns the whole deadline, to be put back with store_begin. */
struct deadline scylladb_share_deadline(struct scylladb_connection *connection);

/* Runs a request at the consistency that the cluster allows. A node that does not answer is skipped for a while. */
bool scylladb_run(struct scylladb_connection *connection, struct cql_request *request, struct cql_rows *rows,
                  struct error *error);

/* The answer for a request that failed. After an "invalid" one the table is read again, since it may have changed. */
enum store_answer scylladb_failure(struct scylladb_connection *connection);

/* --- scylladb_column.c --- */

/* Puts the value of a column into the record. A value that the field cannot be becomes row_unreadable. */
void scylladb_read_field(json_t *record, enum app_field field, const struct cql_column *column, struct slice value);

/* Whether the type of the column can hold any value of the field. */
bool scylladb_column_fits(enum app_field field, const struct scylladb_column *column);

/* Appends the field of an app as a value of its column, never NULL data; false with an error that names the column if
 * it cannot hold the value. */
bool scylladb_field_value(struct buffer *out, bool *is_null, const struct app *app, enum app_field field,
                          const struct scylladb_column *column, struct error *error);

/* --- scylladb_migrate.c --- */

/* Reads the nodes and the columns of the table when it is time to. STORE_UNAVAILABLE if the table cannot be used. */
enum store_answer scylladb_know_table(struct scylladb_connection *connection, struct error *error);
/* The fields that have a column: bits, 1 << field. */
uint32_t scylladb_columns(const struct scylladb_connection *connection);

/* Adds the column `policy` if the app needs it and it is missing. STORE_REFUSED if this user may not. */
enum store_answer scylladb_make_room(struct scylladb_connection *connection, const struct app *app,
                                     struct error *error);

/* Completes an error about a column that the app needs with the statement that adds all that it needs. */
void scylladb_advise_columns(const struct scylladb_connection *connection, const struct app *app, struct error *error);

enum store_answer scylladb_prepare(struct store_connection *base, struct error *error);
enum store_answer scylladb_inspect(struct store_connection *base, struct error *error);

/* --- scylladb_read.c --- */

/* Appends a name as a value of its column. False for one that no row has: empty, not UTF-8, or not of the column's
 * type. */
bool scylladb_bind_name(struct buffer *value, const struct scylladb_connection *connection, enum app_field field,
                        struct slice name);

/* Finds an app by its id or key within the connection's deadline. */
enum store_answer scylladb_find_app(struct scylladb_connection *connection, enum app_field field, struct slice name,
                                    struct app **app, struct error *error);

/* True if a request was refused because the table has changed: it may be made again. */
bool scylladb_table_changed(const struct scylladb_connection *connection, enum store_answer answer);

/* For struct conflict_lookups. */
enum store_answer scylladb_key_owner(struct store_connection *base, const struct app *app, struct buffer *owner,
                                     struct error *error);

/* For struct app_store_driver. */
enum store_answer scylladb_find_by_id(struct store_connection *base, struct slice id, struct app **app,
                                      struct error *error);
enum store_answer scylladb_find_by_key(struct store_connection *base, struct slice key, struct app **app,
                                       struct error *error);
enum store_answer scylladb_list(struct store_connection *base, struct slice after, size_t limit,
                                store_list_function *each, void *context, struct error *error);
enum store_answer scylladb_check_health(struct store_connection *base, struct error *error);

/* --- scylladb_write.c --- */

/* For struct app_store_driver. */
enum store_answer scylladb_create(struct store_connection *base, const struct app *app, struct error *error);
enum store_answer scylladb_update(struct store_connection *base, const struct app *app, struct error *error);
enum store_answer scylladb_remove(struct store_connection *base, struct slice id, struct error *error);
