/*
 * GET /admin/nodes: the nodes that this one knows, itself first.
 */
#include "api/api_call.h"
#include "base/clock.h"
#include "base/json.h"
#include "cluster/cluster.h"

static void append_node(struct buffer *text, const struct node_entry *node, uint64_t now_ms) {
    char id[NODE_ID_HEX + 1];

    node_id_format(node->id, id);
    buffer_appendf(text, "{\"id\":\"%s\",\"self\":%s,\"name\":", id, node->self ? "true" : "false");
    json_append_string(text, slice_of(node->name));
    buffer_append(text, SLICE(",\"address\":"));
    json_append_string(text, slice_of(node->address));
    buffer_appendf(text,
                   ",\"version\":%u,\"since\":%llu,\"connections\":%llu,\"channels\":%llu,\"load\":%u.%03u,"
                   "\"silent_ms\":%llu}",
                   node->version, (unsigned long long)(node->started_ms / 1000),
                   (unsigned long long)node->load.connections, (unsigned long long)node->load.channels,
                   node->load.permille / 1000, node->load.permille % 1000,
                   (unsigned long long)(now_ms > node->heard_ms && !node->self ? now_ms - node->heard_ms : 0));
}

void api_admin_nodes(struct api_call *call) {
    struct cluster *cluster = call->api->cluster;
    struct node_entry nodes[NODES_MAX];
    unsigned count = cluster != NULL ? cluster_list(cluster, nodes) : 0;
    const char *fault = cluster_fault(cluster);
    struct buffer text = {0};

    buffer_append(&text, SLICE("{\"adapter\":"));
    json_append_string(&text, slice_of(call->api->config->adapter.driver));
    buffer_append(&text, SLICE(",\"fault\":"));
    if (fault != NULL)
        json_append_string(&text, slice_of(fault));
    else
        buffer_append(&text, SLICE("null"));
    buffer_append(&text, SLICE(",\"nodes\":["));
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            buffer_append_byte(&text, ',');
        append_node(&text, &nodes[i], clock_wall_ms());
    }
    buffer_append(&text, SLICE("]}"));
    api_answer(call, buffer_slice(&text));
    buffer_dispose(&text);
}
