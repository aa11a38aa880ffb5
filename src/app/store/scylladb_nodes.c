#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "app/store/scylladb.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#define PORT 9042
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000
#define SHARE_LEAST_MS 500 /* of the patience that one node gets when there are others */

/* --- the list; with the mutex held, or before there are threads --- */

static void add_node(struct app_store *store, const char *host, uint16_t port) {
    struct scylladb_node *node = &store->nodes[store->node_count];

    for (unsigned i = 0; i < store->node_count; i++)
        if (strcmp(store->nodes[i].host, host) == 0 && store->nodes[i].port == port)
            return;
    if (store->node_count == SCYLLADB_NODES_MAX)
        return;
    *node = (struct scylladb_node){.port = port};
    snprintf(node->host, sizeof node->host, "%s", host);
    store->node_count++;
}

/* "host", "host:port", "[v6]:port" or a bare v6 address. */
static bool add_configured(struct app_store *store, const char *text, struct error *error) {
    const char *colon = strrchr(text, ':');
    size_t length = strlen(text);
    unsigned long port = PORT;
    char host[SCYLLADB_NAME_MAX], *end = NULL;

    if (colon != NULL && (strchr(text, ':') == colon || colon[-1] == ']')) {
        port = strtoul(colon + 1, &end, 10);
        if (end == colon + 1 || *end != '\0' || port == 0 || port > 65535)
            return error_set(error, "database.scylladb.nodes: %s is no HOST:PORT", text);
        length = (size_t)(colon - text);
    }
    if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof host)
        return error_set(error, "database.scylladb.nodes: a node without a name");
    snprintf(host, sizeof host, "%.*s", (int)length, text);
    add_node(store, host, (uint16_t)port);
    return true;
}

bool scylladb_nodes_init(struct app_store *store, struct error *error) {
    const struct config_list *nodes = &store->config->database.scylladb.nodes;

    for (size_t i = 0; i < nodes->count; i++)
        if (!add_configured(store, nodes->items[i], error))
            return false;
    return store->node_count > 0 || error_set(error, "database.scylladb.nodes is empty: it names the nodes to ask");
}

/* The next node that is not left out; when all are, the one whose time comes first. */
static struct scylladb_node choose_node(struct app_store *store, unsigned *index) {
    uint64_t now_ms = clock_monotonic_ms();
    struct scylladb_node node;
    unsigned best;

    pthread_mutex_lock(&store->mutex);
    best = store->next % store->node_count;
    for (unsigned i = 0; i < store->node_count; i++) {
        unsigned at = (store->next + i) % store->node_count;
        if (store->nodes[at].left_out_until_ms <= now_ms) {
            best = at;
            break;
        }
        if (store->nodes[at].left_out_until_ms < store->nodes[best].left_out_until_ms)
            best = at;
    }
    store->next = best + 1;
    *index = best;
    node = store->nodes[best];
    pthread_mutex_unlock(&store->mutex);
    return node;
}

static void note_node(struct app_store *store, const struct scylladb_node *asked, bool answered) {
    pthread_mutex_lock(&store->mutex);
    for (unsigned i = 0; i < store->node_count; i++) {
        struct scylladb_node *node = &store->nodes[i];
        if (strcmp(node->host, asked->host) != 0 || node->port != asked->port)
            continue;
        node->backoff_ms = answered ? 0 : node->backoff_ms == 0 ? BACKOFF_FIRST_MS : node->backoff_ms * 2;
        if (node->backoff_ms > BACKOFF_LAST_MS)
            node->backoff_ms = BACKOFF_LAST_MS;
        node->left_out_until_ms = answered ? 0 : clock_monotonic_ms() + node->backoff_ms;
    }
    pthread_mutex_unlock(&store->mutex);
}

/* What one node gets of the patience, so that one that hangs leaves time for another. */
static struct patience share_of(const struct app_store *store, const struct patience *patience) {
    struct patience share = *patience;
    uint32_t left_ms = patience_left_ms(patience), share_ms = left_ms / 3;

    if (store->node_count < 2)
        return share;
    if (share_ms < SHARE_LEAST_MS)
        share_ms = SHARE_LEAST_MS;
    if (share_ms < left_ms)
        share.deadline_ns = clock_monotonic_ns() + share_ms * UINT64_C(1000000);
    return share;
}

/* --- what a node knows of the others --- */

static bool ask(struct store_connection *connection, const char *statement, const struct slice *values, unsigned count,
                const struct patience *patience, struct cql_rows *rows, struct error *error) {
    const struct cql_request request = {
        .statement = slice_of(statement), .values = values, .count = count, .consistency = CQL_ONE};

    return cql_run(connection->link, &request, patience, rows, error);
}

static bool address_text(struct slice bytes, char text[INET6_ADDRSTRLEN]) {
    static const char any[16];

    if ((bytes.length != 4 && bytes.length != 16) || memcmp(bytes.data, any, bytes.length) == 0)
        return false;
    return inet_ntop(bytes.length == 4 ? AF_INET : AF_INET6, bytes.data, text, INET6_ADDRSTRLEN) != NULL;
}

/* Adds the cluster's other nodes, and counts those of the data centre of the one that is asked. */
static bool find_peers(struct store_connection *connection, const struct patience *patience, struct error *error) {
    struct app_store *store = connection->store;
    struct cql_rows *rows = alloc(sizeof *rows);
    struct slice values[3];
    char center[SCYLLADB_NAME_MAX] = "", text[INET6_ADDRSTRLEN];
    bool good = ask(connection, "SELECT data_center FROM system.local", NULL, 0, patience, rows, error);

    connection->known_nodes = 1;
    if (good && rows->row_count > 0 && cql_next_value(rows, &values[0]))
        snprintf(center, sizeof center, "%.*s", SLICE_ARGS(values[0]));
    good = good &&
           ask(connection, "SELECT rpc_address, peer, data_center FROM system.peers", NULL, 0, patience, rows, error);
    for (uint32_t i = 0; good && i < rows->row_count; i++) {
        bool there[3];
        for (unsigned v = 0; v < 3; v++)
            there[v] = cql_next_value(rows, &values[v]);
        connection->known_nodes += there[2] && slice_equal(values[2], slice_of(center));
        if ((there[0] && address_text(values[0], text)) || (there[1] && address_text(values[1], text))) {
            pthread_mutex_lock(&store->mutex);
            add_node(store, text, connection->node.port);
            pthread_mutex_unlock(&store->mutex);
        }
    }
    free(rows);
    return good;
}

/* The replicas that the keyspace wants in one data centre: a map of texts that holds the class and numbers. */
static unsigned replicas_of(struct slice map) {
    struct cql_reader reader = {(const uint8_t *)map.data, (const uint8_t *)map.data + map.length, false};
    unsigned most = 0;

    for (uint32_t left = cql_read_int(&reader); left > 0 && !reader.failed; left--) {
        struct slice name, value;
        unsigned number = 0;
        cql_read_bytes(&reader, &name);
        cql_read_bytes(&reader, &value);
        if (slice_equal(name, SLICE("class")))
            continue;
        for (size_t i = 0; i < value.length && value.data[i] >= '0' && value.data[i] <= '9'; i++)
            number = number * 10 + (unsigned)(value.data[i] - '0');
        most = number > most ? number : most;
    }
    return most;
}

bool scylladb_look_at_replicas(struct store_connection *connection, const struct patience *patience,
                               struct error *error) {
    struct app_store *store = connection->store;
    const struct slice keyspace = slice_of(store->keyspace);
    struct cql_rows *rows = alloc(sizeof *rows);
    struct slice map;
    unsigned replicas = store->config->database.scylladb.replication_factor;
    bool good = ask(connection, "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?", &keyspace, 1,
                    patience, rows, error);
    bool warn;

    if (good && rows->row_count > 0 && cql_next_value(rows, &map))
        replicas = replicas_of(map);
    free(rows);
    if (!good)
        return false;
    connection->alone = connection->known_nodes < replicas / 2 + 1;
    pthread_mutex_lock(&store->mutex);
    warn = connection->alone && !store->warned_of_one;
    store->warned_of_one = store->warned_of_one || warn;
    pthread_mutex_unlock(&store->mutex);
    if (warn)
        log_warning(
            "app",
            "scylladb: keyspace %s wants %u replicas and %u node%s known: reading and writing at LOCAL_ONE, and "
            "creating apps without a lightweight transaction",
            store->keyspace, replicas, connection->known_nodes, connection->known_nodes == 1 ? " is" : "s are");
    return true;
}

/* --- connections --- */

static struct store_connection *connect_to(struct app_store *store, const struct scylladb_node *node,
                                           const struct patience *patience, struct error *error) {
    const struct cql_node_address address = {node->host, node->port};
    struct store_connection *connection = alloc_zero(sizeof *connection);

    connection->store = store;
    connection->node = *node;
    connection->link =
        cql_connect(&address, store->config->database.scylladb.username, store->config->database.scylladb.password,
                    &store->config->database.scylladb.tls, patience, error);
    if (connection->link != NULL && find_peers(connection, patience, error) &&
        scylladb_look_at_replicas(connection, patience, error))
        return connection;
    scylladb_disconnect(connection);
    error_prefix(error, "database.scylladb.nodes: %s:%u", node->host, node->port);
    return NULL;
}

struct store_connection *scylladb_connect(struct app_store *store, const struct patience *patience,
                                          struct error *error) {
    unsigned tried = 0, index;

    do {
        struct scylladb_node node = choose_node(store, &index);
        const struct patience share = share_of(store, patience);
        struct store_connection *connection = connect_to(store, &node, &share, error);
        note_node(store, &node, connection != NULL);
        if (connection != NULL)
            return connection;
    } while (++tried < store->node_count && !patience_ended(patience));
    return NULL;
}

void scylladb_disconnect(struct store_connection *connection) {
    if (connection->link != NULL)
        cql_close(connection->link);
    free(connection);
}

/* --- requests --- */

bool scylladb_run(struct store_connection *connection, struct cql_request *request, const struct patience *patience,
                  struct cql_rows *rows, struct error *error) {
    const struct patience share = share_of(connection->store, patience);

    request->consistency = connection->alone ? CQL_LOCAL_ONE : CQL_LOCAL_QUORUM;
    if (cql_run(connection->link, request, &share, rows, error))
        return true;
    if (cql_failure(connection->link) == CQL_LOST && !patience_ended(&(struct patience){UINT64_MAX, patience->stop_fd}))
        note_node(connection->store, &connection->node, false);
    return error_prefix(error, "scylladb node %s:%u", connection->node.host, connection->node.port);
}

enum store_answer scylladb_failure(const struct store_connection *connection) {
    if (cql_failure(connection->link) == CQL_LOST)
        return STORE_UNAVAILABLE;
    switch (cql_failure_code(connection->link)) {
    case CQL_ERROR_UNAUTHORIZED:
    case CQL_ERROR_INVALID:
        return STORE_REFUSED;
    default:
        return STORE_UNAVAILABLE;
    }
}
