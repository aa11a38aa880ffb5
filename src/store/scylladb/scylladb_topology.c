#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/scylladb/scylladb_internal.h"

#define REFRESH_NODES_MS 10000

static bool query_system_table(struct scylladb_connection *connection, const char *statement,
                               const struct slice *values, unsigned count, struct cql_rows *rows, struct error *error) {
    const struct cql_request request = {
        .statement = slice_of(statement), .values = values, .count = count, .consistency = CQL_ONE};

    return cql_run(connection->link, &request, &connection->base.deadline, rows, error);
}

/* False for no address, and for the address "any", which clients cannot use. */
static bool address_text(struct slice bytes, char text[INET6_ADDRSTRLEN]) {
    static const char any[16];

    if ((bytes.length != 4 && bytes.length != 16) || memcmp(bytes.data, any, bytes.length) == 0)
        return false;
    return inet_ntop(bytes.length == 4 ? AF_INET : AF_INET6, bytes.data, text, INET6_ADDRSTRLEN) != NULL;
}

/* The nodes of one data center as one of them knows them; that node is the first. */
struct topology {
    char data_center[SCYLLADB_NAME_MAX];
    unsigned known; /* nodes, with or without an address for clients */
    unsigned count; /* nodes with such an address */
    char hosts[SCYLLADB_NODES_MAX][INET6_ADDRSTRLEN];
};

static void add_host(struct topology *topology, const struct slice *address, const struct slice *otherwise) {
    char text[INET6_ADDRSTRLEN];

    if (topology->count < SCYLLADB_NODES_MAX && (address_text(*address, text) || address_text(*otherwise, text)))
        memcpy(topology->hosts[topology->count++], text, sizeof text);
}

static bool read_local_node(struct scylladb_connection *connection, struct topology *topology, struct cql_rows *rows,
                            struct error *error) {
    struct slice values[3];

    if (!query_system_table(connection, "SELECT data_center, rpc_address, broadcast_address FROM system.local", NULL, 0,
                            rows, error))
        return false;
    if (rows->row_count == 0 || rows->column_count != 3)
        return error_set(error, "system.local of the node has no row");
    for (unsigned v = 0; v < 3; v++)
        cql_next_value(rows, &values[v]);
    snprintf(topology->data_center, sizeof topology->data_center, "%.*s", SLICE_ARGS(values[0]));
    topology->known = 1;
    add_host(topology, &values[1], &values[2]);
    return true;
}

/* A node without a data center or address is joining or leaving. */
static bool read_peers(struct scylladb_connection *connection, struct topology *topology, struct cql_rows *rows,
                       struct error *error) {
    if (!query_system_table(connection, "SELECT data_center, rpc_address, peer FROM system.peers", NULL, 0, rows,
                            error))
        return false;
    for (uint32_t i = 0; i < rows->row_count && rows->column_count == 3; i++) {
        struct slice values[3];
        for (unsigned v = 0; v < 3; v++)
            cql_next_value(rows, &values[v]);
        if (!slice_equal(values[0], slice_of(topology->data_center)) || values[1].length == 0)
            continue;
        topology->known++;
        add_host(topology, &values[1], &values[2]);
    }
    return true;
}

static bool has_host(const struct topology *topology, const char *host) {
    for (unsigned i = 0; i < topology->count; i++)
        if (strcmp(topology->hosts[i], host) == 0)
            return true;
    return false;
}

static bool has_left_cluster(const struct scylladb_node *node, const struct scylladb_node *asked,
                             const struct topology *topology) {
    return !node->configured && strcmp(node->data_center, topology->data_center) == 0 &&
           !has_host(topology, node->host) && strcmp(node->host, asked->host) != 0;
}

static void note_topology_node(struct scylladb_store *store, const char *host, uint16_t port, const char *data_center) {
    bool is_new = scylladb_find_node(store, host, port) == NULL;
    struct scylladb_node *node = scylladb_add_node(store, host, port);

    if (node == NULL)
        return;
    memcpy(node->data_center, data_center, sizeof node->data_center);
    if (is_new)
        log_info("app", "scylladb: node %s:%u of data centre %s is used as well", host, port, data_center);
}

/* Adds the new nodes of the data center to the list, and removes those that have left it. */
static void merge_topology(struct scylladb_store *store, const struct scylladb_node *asked,
                           const struct topology *topology) {
    unsigned kept = 0;

    pthread_mutex_lock(&store->mutex);
    for (unsigned i = 0; i < store->node_count; i++) {
        const struct scylladb_node *node = &store->nodes[i];
        if (has_left_cluster(node, asked, topology))
            log_info("app", "scylladb: node %s:%u has left data centre %s", node->host, node->port,
                     topology->data_center);
        else
            store->nodes[kept++] = *node;
    }
    store->node_count = kept;
    for (unsigned i = 0; i < topology->count; i++)
        note_topology_node(store, topology->hosts[i], asked->port, topology->data_center);
    pthread_mutex_unlock(&store->mutex);
}

/* Chooses the node for changes of the schema: the same one, whichever node of the data center a server asks. */
static void choose_schema_node(struct scylladb_connection *connection, const struct topology *topology) {
    const char *chosen = topology->count > 0 ? topology->hosts[0] : "";

    for (unsigned i = 1; i < topology->count; i++)
        if (strcmp(topology->hosts[i], chosen) < 0)
            chosen = topology->hosts[i];
    snprintf(connection->schema_node, sizeof connection->schema_node, "%s",
             topology->count > 0 && chosen != topology->hosts[0] ? chosen : "");
}

/* The number of at most five digits at the beginning of a text. */
static unsigned leading_number(struct slice text) {
    unsigned number = 0;

    for (size_t i = 0; i < text.length && text.data[i] >= '0' && text.data[i] <= '9' && number < 10000; i++)
        number = number * 10 + (unsigned)(text.data[i] - '0');
    return number;
}

/* The number of replicas in this data center. The options of a keyspace's strategy name the data center, or have one
 * number for all. */
static unsigned replicas_from_options(struct slice options, const char *data_center) {
    struct cql_reader reader = {(const uint8_t *)options.data, (const uint8_t *)options.data + options.length, false};
    unsigned here = 0, everywhere = 0;

    for (uint32_t left = cql_read_int(&reader); left > 0 && !reader.failed; left--) {
        struct slice name, value;
        cql_read_bytes(&reader, &name);
        cql_read_bytes(&reader, &value);
        if (slice_equal(name, slice_of(data_center)))
            here = leading_number(value);
        else if (slice_equal(name, SLICE("replication_factor")))
            everywhere = leading_number(value);
    }
    return here > 0 ? here : everywhere;
}

/* Reads the number of replicas from the keyspace; the configured one if the keyspace has yet to be created. */
static bool read_replicas(struct scylladb_connection *connection, const char *data_center, unsigned *replicas,
                          struct cql_rows *rows, struct error *error) {
    const struct slice keyspace = slice_of(connection->store->keyspace);
    struct slice options;

    if (!query_system_table(connection, "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?",
                            &keyspace, 1, rows, error))
        return false;
    *replicas = connection->store->config->database.scylladb.replication_factor;
    if (rows->row_count > 0 && cql_next_value(rows, &options))
        *replicas = replicas_from_options(options, data_center);
    return true;
}

/* Chooses the consistency for all connections, and logs when it changes. */
static void choose_consistency(struct scylladb_store *store, unsigned replicas, unsigned known) {
    bool below_quorum = known < replicas / 2 + 1;
    bool changed = atomic_exchange(&store->below_quorum, below_quorum) != below_quorum;

    if (changed && below_quorum)
        log_warning(
            "app",
            "scylladb: keyspace %s needs %u replicas, and %u node%s known: reading and writing at LOCAL_ONE, and "
            "creating apps without a lightweight transaction",
            store->keyspace, replicas, known, known == 1 ? " is" : "s are");
    else if (changed)
        log_info("app", "scylladb: %u nodes are known now: reading and writing at LOCAL_QUORUM", known);
}

bool scylladb_refresh_nodes(struct scylladb_connection *connection, struct error *error) {
    struct cql_rows *rows;
    struct topology *topology;
    unsigned replicas = 0;
    bool good;

    if (clock_monotonic_ms() < connection->refresh_nodes_ms) {
        connection->no_quorum = atomic_load(&connection->store->below_quorum);
        return true;
    }
    rows = alloc(sizeof *rows);
    topology = alloc_zero(sizeof *topology);
    good = read_local_node(connection, topology, rows, error) && read_peers(connection, topology, rows, error) &&
           read_replicas(connection, topology->data_center, &replicas, rows, error);
    if (good) {
        connection->refresh_nodes_ms = clock_monotonic_ms() + REFRESH_NODES_MS;
        choose_schema_node(connection, topology);
        merge_topology(connection->store, &connection->node, topology);
        choose_consistency(connection->store, replicas, topology->known);
        connection->no_quorum = atomic_load(&connection->store->below_quorum);
    }
    free(topology);
    free(rows);
    return good;
}
