#include <stdlib.h>
#include <string.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "store/scylladb/scylladb_internal.h"

#define DEFAULT_PORT 9042
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 10000
#define SHARE_MIN_MS 500 /* the smallest share of a deadline for one node of several */

/* --- the list; with the mutex held, or before there are threads --- */

struct scylladb_node *scylladb_find_node(struct scylladb_store *store, const char *host, uint16_t port) {
    for (unsigned i = 0; i < store->node_count; i++)
        if (strcmp(store->nodes[i].host, host) == 0 && store->nodes[i].port == port)
            return &store->nodes[i];
    return NULL;
}

struct scylladb_node *scylladb_add_node(struct scylladb_store *store, const char *host, uint16_t port) {
    struct scylladb_node *node = scylladb_find_node(store, host, port);

    if (node != NULL || store->node_count == SCYLLADB_NODES_MAX)
        return node;
    node = &store->nodes[store->node_count++];
    *node = (struct scylladb_node){.port = port};
    snprintf(node->host, sizeof node->host, "%s", host);
    return node;
}

/* Adds a node of the configuration: "host", "host:port", "[IPv6]:port" or an IPv6 address alone. */
static bool add_configured_node(struct scylladb_store *store, const char *text, struct error *error) {
    const char *colon = strrchr(text, ':');
    size_t length = strlen(text);
    unsigned long port = DEFAULT_PORT;
    char host[SCYLLADB_NAME_MAX], *end = NULL;
    struct scylladb_node *node;

    if (colon != NULL && (strchr(text, ':') == colon || colon[-1] == ']')) {
        port = strtoul(colon + 1, &end, 10);
        if (end == colon + 1 || *end != '\0' || port == 0 || port > 65535)
            return error_set(error, "app_manager.scylladb.nodes: %s is not HOST:PORT", text);
        length = (size_t)(colon - text);
    }
    if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof host)
        return error_set(error, "app_manager.scylladb.nodes: a node without a name");
    snprintf(host, sizeof host, "%.*s", (int)length, text);
    node = scylladb_add_node(store, host, (uint16_t)port);
    if (node == NULL)
        return error_set(error, "app_manager.scylladb.nodes: more than %u nodes", SCYLLADB_NODES_MAX);
    node->configured = true;
    return true;
}

bool scylladb_nodes_init(struct scylladb_store *store, struct error *error) {
    const struct config_list *nodes = &store->config->database.scylladb.nodes;

    for (size_t i = 0; i < nodes->count; i++)
        if (!add_configured_node(store, nodes->items[i], error))
            return false;
    return store->node_count > 0 || error_set(error, "app_manager.scylladb.nodes is empty: it names the nodes to ask");
}

/* --- choosing a node --- */

struct scylladb_node scylladb_choose_node(struct scylladb_store *store) {
    uint64_t now_ms = clock_monotonic_ms();
    struct scylladb_node node;
    unsigned best;

    pthread_mutex_lock(&store->mutex);
    best = store->next % store->node_count;
    for (unsigned i = 0; i < store->node_count; i++) {
        unsigned at = (store->next + i) % store->node_count;
        if (store->nodes[at].skip_until_ms <= now_ms) {
            best = at;
            break;
        }
        if (store->nodes[at].skip_until_ms < store->nodes[best].skip_until_ms)
            best = at;
    }
    store->next = best + 1;
    node = store->nodes[best];
    pthread_mutex_unlock(&store->mutex);
    return node;
}

void scylladb_note_node(struct scylladb_store *store, const struct scylladb_node *asked, bool answered) {
    struct scylladb_node *node;

    pthread_mutex_lock(&store->mutex);
    node = scylladb_find_node(store, asked->host, asked->port);
    if (node != NULL) {
        node->backoff_ms = answered ? 0 : backoff_next_ms(node->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_LAST_MS);
        node->skip_until_ms = answered ? 0 : clock_monotonic_ms() + node->backoff_ms;
    }
    pthread_mutex_unlock(&store->mutex);
}

unsigned scylladb_count_nodes(struct scylladb_store *store) {
    unsigned count;

    pthread_mutex_lock(&store->mutex);
    count = store->node_count;
    pthread_mutex_unlock(&store->mutex);
    return count;
}

struct deadline scylladb_share_of(struct scylladb_store *store, const struct deadline *deadline) {
    struct deadline share = *deadline;
    uint32_t left_ms = deadline_remaining_ms(deadline), share_ms = left_ms / 3;

    if (scylladb_count_nodes(store) < 2)
        return share;
    if (share_ms < SHARE_MIN_MS)
        share_ms = SHARE_MIN_MS;
    if (share_ms < left_ms)
        share.ends_ns = clock_monotonic_ns() + share_ms * UINT64_C(1000000);
    return share;
}
