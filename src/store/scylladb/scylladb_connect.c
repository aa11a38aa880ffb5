#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "store/scylladb/scylladb_internal.h"

#define CONNECT_TO_SCHEMA_NODE_MS 2000

static void warn_of_clear_password(struct scylladb_store *store, const struct scylladb_node *node) {
    if (!atomic_exchange(&store->warned_of_password, true))
        log_warning(
            "app",
            "app_manager.scylladb.password went to %s:%u without encryption, and CQL has no other way: whoever "
            "listens on the network can read it, and the secrets of all apps. Set app_manager.scylladb.tls.mode "
            "to `verify`",
            node->host, node->port);
}

static struct scylladb_connection *connect_to_node(struct scylladb_store *store, const struct scylladb_node *node,
                                                   const struct deadline *deadline, struct error *error) {
    const struct cql_node_address address = {node->host, node->port};
    struct scylladb_connection *connection = alloc_zero(sizeof *connection);

    store_connection_init(&connection->base, &store->base, deadline);
    connection->store = store;
    connection->node = *node;
    connection->link =
        cql_connect(&address, store->config->database.scylladb.username, store->config->database.scylladb.password,
                    &store->config->database.scylladb.tls, deadline, error);
    if (connection->link != NULL && cql_password_was_clear(connection->link))
        warn_of_clear_password(store, node);
    if (connection->link != NULL && scylladb_refresh_nodes(connection, error))
        return connection;
    scylladb_close_connection(connection);
    error_prefix(error, "app_manager.scylladb.nodes: %s:%u", node->host, node->port);
    return NULL;
}

struct scylladb_connection *scylladb_open_connection(struct scylladb_store *store, const struct deadline *deadline,
                                                     struct error *error) {
    unsigned tried = 0;

    do {
        struct scylladb_node node = scylladb_choose_node(store);
        const struct deadline share = scylladb_share_of(store, deadline);
        struct scylladb_connection *connection = connect_to_node(store, &node, &share, error);
        scylladb_note_node(store, &node, connection != NULL);
        if (connection != NULL) {
            store_begin(&connection->base, deadline);
            return connection;
        }
    } while (++tried < scylladb_count_nodes(store) && !deadline_passed(deadline));
    return NULL;
}

struct scylladb_connection *scylladb_connect_to_schema_node(const struct scylladb_connection *connection) {
    const struct deadline *whole = &connection->base.deadline;
    const struct deadline soon = deadline_after(CONNECT_TO_SCHEMA_NODE_MS, whole->cancel_fd);
    struct scylladb_node node = connection->node;
    struct error error;
    struct scylladb_connection *other;

    memcpy(node.host, connection->schema_node, sizeof node.host);
    other = connect_to_node(connection->store, &node, whole->ends_ns < soon.ends_ns ? whole : &soon, &error);
    if (other == NULL)
        log_debug("app", "scylladb: the schema is not changed through the node that all servers use for it: %s",
                  error.text);
    else
        store_begin(&other->base, whole);
    return other;
}

void scylladb_close_connection(struct scylladb_connection *connection) {
    if (connection->link != NULL)
        cql_close(connection->link);
    free(connection);
}

/* --- requests --- */

struct deadline scylladb_share_deadline(struct scylladb_connection *connection) {
    const struct deadline whole = connection->base.deadline;

    connection->base.deadline = scylladb_share_of(connection->store, &whole);
    return whole;
}

bool scylladb_run(struct scylladb_connection *connection, struct cql_request *request, struct cql_rows *rows,
                  struct error *error) {
    request->consistency = connection->no_quorum ? CQL_LOCAL_ONE : CQL_LOCAL_QUORUM;
    if (cql_run(connection->link, request, &connection->base.deadline, rows, error))
        return true;
    if (cql_failure(connection->link) == CQL_LOST &&
        !deadline_passed(&(struct deadline){UINT64_MAX, connection->base.deadline.cancel_fd}))
        scylladb_note_node(connection->store, &connection->node, false);
    return error_prefix(error, "scylladb node %s:%u", connection->node.host, connection->node.port);
}

enum store_answer scylladb_failure(struct scylladb_connection *connection) {
    if (cql_failure(connection->link) == CQL_LOST)
        return STORE_UNAVAILABLE;
    switch (cql_failure_code(connection->link)) {
    case CQL_ERROR_INVALID:
        connection->table_known = false;
        return STORE_REFUSED;
    case CQL_ERROR_UNAUTHORIZED:
        return STORE_REFUSED;
    default:
        return STORE_UNAVAILABLE;
    }
}
