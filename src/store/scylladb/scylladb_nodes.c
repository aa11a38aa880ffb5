#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/scylladb/scylladb_internal.h"

#define PORT 9042
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000
#define SHARE_LEAST_MS 500 /* of the deadline that one node gets when there are others */
#define LOOK_AROUND_MS 10000
#define CONNECT_TO_FIRST_MS 2000

/* --- the list; with the mutex held, or before there are threads --- */

static struct scylladb_node *find_node(struct scylladb_store *store, const char *host, uint16_t port) {
    for (unsigned i = 0; i < store->node_count; i++)
        if (strcmp(store->nodes[i].host, host) == 0 && store->nodes[i].port == port)
            return &store->nodes[i];
    return NULL;
}

/* NULL if the list is full. */
static struct scylladb_node *add_node(struct scylladb_store *store, const char *host, uint16_t port) {
    struct scylladb_node *node = find_node(store, host, port);

    if (node != NULL || store->node_count == SCYLLADB_NODES_MAX)
        return node;
    node = &store->nodes[store->node_count++];
    *node = (struct scylladb_node){.port = port};
    snprintf(node->host, sizeof node->host, "%s", host);
    return node;
}

/* "host", "host:port", "[v6]:port" or a bare v6 address. */
static bool add_configured(struct scylladb_store *store, const char *text, struct error *error) {
    const char *colon = strrchr(text, ':');
    size_t length = strlen(text);
    unsigned long port = PORT;
    char host[SCYLLADB_NAME_MAX], *end = NULL;
    struct scylladb_node *node;

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
    node = add_node(store, host, (uint16_t)port);
    if (node == NULL)
        return error_set(error, "database.scylladb.nodes: more than %u nodes", SCYLLADB_NODES_MAX);
    node->configured = true;
    return true;
}

bool scylladb_nodes_init(struct scylladb_store *store, struct error *error) {
    const struct config_list *nodes = &store->config->database.scylladb.nodes;

    for (size_t i = 0; i < nodes->count; i++)
        if (!add_configured(store, nodes->items[i], error))
            return false;
    return store->node_count > 0 || error_set(error, "database.scylladb.nodes is empty: it names the nodes to ask");
}

/* The next node that is not left out; when all are, the one whose time comes first. */
static struct scylladb_node choose_node(struct scylladb_store *store) {
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
    node = store->nodes[best];
    pthread_mutex_unlock(&store->mutex);
    return node;
}

static void note_node(struct scylladb_store *store, const struct scylladb_node *asked, bool answered) {
    struct scylladb_node *node;

    pthread_mutex_lock(&store->mutex);
    node = find_node(store, asked->host, asked->port);
    if (node != NULL) {
        node->backoff_ms = answered ? 0 : node->backoff_ms == 0 ? BACKOFF_FIRST_MS : node->backoff_ms * 2;
        if (node->backoff_ms > BACKOFF_LAST_MS)
            node->backoff_ms = BACKOFF_LAST_MS;
        node->left_out_until_ms = answered ? 0 : clock_monotonic_ms() + node->backoff_ms;
    }
    pthread_mutex_unlock(&store->mutex);
}

static unsigned count_nodes(struct scylladb_store *store) {
    unsigned count;

    pthread_mutex_lock(&store->mutex);
    count = store->node_count;
    pthread_mutex_unlock(&store->mutex);
    return count;
}

static struct deadline share_of(struct scylladb_store *store, const struct deadline *deadline) {
    struct deadline share = *deadline;
    uint32_t left_ms = deadline_remaining_ms(deadline), share_ms = left_ms / 3;

    if (count_nodes(store) < 2)
        return share;
    if (share_ms < SHARE_LEAST_MS)
        share_ms = SHARE_LEAST_MS;
    if (share_ms < left_ms)
        share.ends_ns = clock_monotonic_ns() + share_ms * UINT64_C(1000000);
    return share;
}

struct deadline scylladb_share_deadline(struct scylladb_connection *connection) {
    const struct deadline whole = connection->base.deadline;

    connection->base.deadline = share_of(connection->store, &whole);
    return whole;
}

/* --- what a node knows of the others --- */

static bool ask(struct scylladb_connection *connection, const char *statement, const struct slice *values,
                unsigned count, struct cql_rows *rows, struct error *error) {
    const struct cql_request request = {
        .statement = slice_of(statement), .values = values, .count = count, .consistency = CQL_ONE};

    return cql_run(connection->link, &request, &connection->base.deadline, rows, error);
}

static bool address_text(struct slice bytes, char text[INET6_ADDRSTRLEN]) {
    static const char any[16];

    if ((bytes.length != 4 && bytes.length != 16) || memcmp(bytes.data, any, bytes.length) == 0)
        return false;
    return inet_ntop(bytes.length == 4 ? AF_INET : AF_INET6, bytes.data, text, INET6_ADDRSTRLEN) != NULL;
}

/* The nodes of one data centre, as one of them knows them; itself is the first. */
struct view {
    char center[SCYLLADB_NAME_MAX];
    unsigned known; /* nodes, with and without an address that clients may use */
    unsigned count; /* of these, with one */
    char hosts[SCYLLADB_NODES_MAX][INET6_ADDRSTRLEN];
};

static void add_to_view(struct view *view, const struct slice *address, const struct slice *otherwise) {
    char text[INET6_ADDRSTRLEN];

    if (view->count < SCYLLADB_NODES_MAX && (address_text(*address, text) || address_text(*otherwise, text)))
        memcpy(view->hosts[view->count++], text, sizeof text);
}

static bool read_own(struct scylladb_connection *connection, struct view *view, struct cql_rows *rows,
                     struct error *error) {
    struct slice values[3];

    if (!ask(connection, "SELECT data_center, rpc_address, broadcast_address FROM system.local", NULL, 0, rows, error))
        return false;
    if (rows->row_count == 0 || rows->column_count != 3)
        return error_set(error, "the node does not know itself");
    for (unsigned v = 0; v < 3; v++)
        cql_next_value(rows, &values[v]);
    snprintf(view->center, sizeof view->center, "%.*s", SLICE_ARGS(values[0]));
    view->known = 1;
    add_to_view(view, &values[1], &values[2]);
    return true;
}

/* What has no data centre or address is not all there yet, or not any more. */
static bool read_peers(struct scylladb_connection *connection, struct view *view, struct cql_rows *rows,
                       struct error *error) {
    if (!ask(connection, "SELECT data_center, rpc_address, peer FROM system.peers", NULL, 0, rows, error))
        return false;
    for (uint32_t i = 0; i < rows->row_count && rows->column_count == 3; i++) {
        struct slice values[3];
        for (unsigned v = 0; v < 3; v++)
            cql_next_value(rows, &values[v]);
        if (!slice_equal(values[0], slice_of(view->center)) || values[1].length == 0)
            continue;
        view->known++;
        add_to_view(view, &values[1], &values[2]);
    }
    return true;
}

static bool is_in_view(const struct view *view, const char *host) {
    for (unsigned i = 0; i < view->count; i++)
        if (strcmp(view->hosts[i], host) == 0)
            return true;
    return false;
}

static bool has_left(const struct scylladb_node *node, const struct scylladb_node *asked, const struct view *view) {
    return !node->configured && strcmp(node->center, view->center) == 0 && !is_in_view(view, node->host) &&
           strcmp(node->host, asked->host) != 0;
}

static void note_member(struct scylladb_store *store, const char *host, uint16_t port, const char *center) {
    bool is_new = find_node(store, host, port) == NULL;
    struct scylladb_node *node = add_node(store, host, port);

    if (node == NULL)
        return;
    memcpy(node->center, center, sizeof node->center);
    if (is_new)
        log_info("app", "scylladb: node %s:%u of data centre %s is asked as well", host, port, center);
}

/* Takes in what a node knows of its data centre: new nodes, and those that have left it. */
static void merge_view(struct scylladb_store *store, const struct scylladb_node *asked, const struct view *view) {
    unsigned kept = 0;

    pthread_mutex_lock(&store->mutex);
    for (unsigned i = 0; i < store->node_count; i++) {
        const struct scylladb_node *node = &store->nodes[i];
        if (has_left(node, asked, view))
            log_info("app", "scylladb: node %s:%u has left data centre %s", node->host, node->port, view->center);
        else
            store->nodes[kept++] = *node;
    }
    store->node_count = kept;
    for (unsigned i = 0; i < view->count; i++)
        note_member(store, view->hosts[i], asked->port, view->center);
    pthread_mutex_unlock(&store->mutex);
}

/* Every server finds the same node, whichever of them it asks. */
static void choose_first(struct scylladb_connection *connection, const struct view *view) {
    const char *first = view->count > 0 ? view->hosts[0] : "";

    for (unsigned i = 1; i < view->count; i++)
        if (strcmp(view->hosts[i], first) < 0)
            first = view->hosts[i];
    snprintf(connection->first, sizeof connection->first, "%s",
             view->count > 0 && first != view->hosts[0] ? first : "");
}

static unsigned digits_of(struct slice text) {
    unsigned number = 0;

    for (size_t i = 0; i < text.length && text.data[i] >= '0' && text.data[i] <= '9' && number < 10000; i++)
        number = number * 10 + (unsigned)(text.data[i] - '0');
    return number;
}

/* The replicas that a keyspace has in this data centre: its strategy's options name it, or give one number for all. */
static unsigned replicas_of(struct slice options, const char *center) {
    struct cql_reader reader = {(const uint8_t *)options.data, (const uint8_t *)options.data + options.length, false};
    unsigned here = 0, everywhere = 0;

    for (uint32_t left = cql_read_int(&reader); left > 0 && !reader.failed; left--) {
        struct slice name, value;
        cql_read_bytes(&reader, &name);
        cql_read_bytes(&reader, &value);
        if (slice_equal(name, slice_of(center)))
            here = digits_of(value);
        else if (slice_equal(name, SLICE("replication_factor")))
            everywhere = digits_of(value);
    }
    return here > 0 ? here : everywhere;
}

/* As the keyspace that is there says, or as the one will that is made. */
static bool read_replicas(struct scylladb_connection *connection, const char *center, unsigned *replicas,
                          struct cql_rows *rows, struct error *error) {
    const struct slice keyspace = slice_of(connection->store->keyspace);
    struct slice options;

    if (!ask(connection, "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?", &keyspace, 1, rows,
             error))
        return false;
    *replicas = connection->store->config->database.scylladb.replication_factor;
    if (rows->row_count > 0 && cql_next_value(rows, &options))
        *replicas = replicas_of(options, center);
    return true;
}

/* For all connections; it is said when it has changed. */
static void choose_consistency(struct scylladb_store *store, unsigned replicas, unsigned known) {
    bool few = known < replicas / 2 + 1, changed = atomic_exchange(&store->few, few) != few;

    if (changed && few)
        log_warning(
            "app",
            "scylladb: keyspace %s wants %u replicas and %u node%s known: reading and writing at LOCAL_ONE, and "
            "creating apps without a lightweight transaction",
            store->keyspace, replicas, known, known == 1 ? " is" : "s are");
    else if (changed)
        log_info("app", "scylladb: %u nodes are known now: reading and writing at LOCAL_QUORUM", known);
}

bool scylladb_look_around(struct scylladb_connection *connection, struct error *error) {
    struct cql_rows *rows;
    struct view *view;
    unsigned replicas = 0;
    bool good;

    if (clock_monotonic_ms() < connection->look_around_ms) {
        connection->alone = atomic_load(&connection->store->few);
        return true;
    }
    rows = alloc(sizeof *rows);
    view = alloc_zero(sizeof *view);
    good = read_own(connection, view, rows, error) && read_peers(connection, view, rows, error) &&
           read_replicas(connection, view->center, &replicas, rows, error);
    if (good) {
        connection->look_around_ms = clock_monotonic_ms() + LOOK_AROUND_MS;
        choose_first(connection, view);
        merge_view(connection->store, &connection->node, view);
        choose_consistency(connection->store, replicas, view->known);
        connection->alone = atomic_load(&connection->store->few);
    }
    free(view);
    free(rows);
    return good;
}

/* --- connections --- */

static struct scylladb_connection *connect_to(struct scylladb_store *store, const struct scylladb_node *node,
                                              const struct deadline *deadline, struct error *error) {
    const struct cql_node_address address = {node->host, node->port};
    struct scylladb_connection *connection = alloc_zero(sizeof *connection);

    store_connection_init(&connection->base, &store->base, deadline);
    connection->store = store;
    connection->node = *node;
    connection->link =
        cql_connect(&address, store->config->database.scylladb.username, store->config->database.scylladb.password,
                    &store->config->database.scylladb.tls, deadline, error);
    if (connection->link != NULL && scylladb_look_around(connection, error))
        return connection;
    scylladb_close_connection(connection);
    error_prefix(error, "database.scylladb.nodes: %s:%u", node->host, node->port);
    return NULL;
}

struct scylladb_connection *scylladb_open_connection(struct scylladb_store *store, const struct deadline *deadline,
                                                     struct error *error) {
    unsigned tried = 0;

    do {
        struct scylladb_node node = choose_node(store);
        const struct deadline share = share_of(store, deadline);
        struct scylladb_connection *connection = connect_to(store, &node, &share, error);
        note_node(store, &node, connection != NULL);
        if (connection != NULL) {
            store_begin(&connection->base, deadline);
            return connection;
        }
    } while (++tried < count_nodes(store) && !deadline_passed(deadline));
    return NULL;
}

struct scylladb_connection *scylladb_connect_to_first(const struct scylladb_connection *connection) {
    const struct deadline *whole = &connection->base.deadline;
    const struct deadline soon = deadline_after(CONNECT_TO_FIRST_MS, whole->cancel_fd);
    struct scylladb_node node = connection->node;
    struct error error;
    struct scylladb_connection *first;

    memcpy(node.host, connection->first, sizeof node.host);
    first = connect_to(connection->store, &node, whole->ends_ns < soon.ends_ns ? whole : &soon, &error);
    if (first == NULL)
        log_debug("app", "scylladb: the schema is not changed through the first node: %s", error.text);
    else
        store_begin(&first->base, whole);
    return first;
}

void scylladb_close_connection(struct scylladb_connection *connection) {
    if (connection->link != NULL)
        cql_close(connection->link);
    free(connection);
}

/* --- requests --- */

bool scylladb_run(struct scylladb_connection *connection, struct cql_request *request, struct cql_rows *rows,
                  struct error *error) {
    request->consistency = connection->alone ? CQL_LOCAL_ONE : CQL_LOCAL_QUORUM;
    if (cql_run(connection->link, request, &connection->base.deadline, rows, error))
        return true;
    if (cql_failure(connection->link) == CQL_LOST &&
        !deadline_passed(&(struct deadline){UINT64_MAX, connection->base.deadline.cancel_fd}))
        note_node(connection->store, &connection->node, false);
    return error_prefix(error, "scylladb node %s:%u", connection->node.host, connection->node.port);
}

enum store_answer scylladb_failure(struct scylladb_connection *connection) {
    if (cql_failure(connection->link) == CQL_LOST)
        return STORE_UNAVAILABLE;
    switch (cql_failure_code(connection->link)) {
    case CQL_ERROR_INVALID:
        connection->looked = false;
        return STORE_REFUSED;
    case CQL_ERROR_UNAUTHORIZED:
        return STORE_REFUSED;
    default:
        return STORE_UNAVAILABLE;
    }
}
