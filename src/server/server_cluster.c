#include <limits.h>
#include <unistd.h>

#include "server/server_internal.h"

/* The address by which people know this node; the host's name in place of an address of all interfaces. */
static struct slice node_address(const struct config *config, struct buffer *text) {
    const struct slice host = slice_of(config->host);
    char name[HOST_NAME_MAX + 1];

    if ((slice_equal(host, SLICE("0.0.0.0")) || slice_equal(host, SLICE("::"))) && gethostname(name, sizeof name) == 0)
        buffer_appendf(text, "%s:%u", name, config->port);
    else
        buffer_appendf(text, "%s:%u", config->host, config->port);
    return buffer_slice(text);
}

bool server_cluster_create(struct server *server, struct error *error) {
    struct buffer address = {0};
    const struct cluster_process process = {
        .config = &server->config,
        .workers = &server->workers,
        .apps = server->apps,
        .channels = server->sessions.channels,
        .reclaimer = &server->reclaimer,
        .webhooks = server->sessions.webhooks,
        .address = node_address(&server->config, &address),
    };
    bool created = cluster_create(&process, &server->cluster, error);

    server->api.cluster = server->sessions.cluster = server->cluster;
    buffer_dispose(&address);
    return created;
}

void server_cluster_app_written(struct slice id, struct slice old_key, struct slice new_key, bool meant,
                                void *context) {
    struct server *server = context;

    cluster_app_changed(server->cluster, id, old_key, new_key, meant);
}

bool server_cluster_join(struct server *server, struct error *error) {
    if (!cluster_start(server->cluster, error))
        return false;
    cluster_wait(server->cluster);
    return true;
}
