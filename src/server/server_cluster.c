#include "server/server_internal.h"

bool server_cluster_create(struct server *server, struct error *error) {
    const struct cluster_process process = {
        .config = &server->config,
        .workers = &server->workers,
        .apps = server->apps,
        .channels = server->sessions.channels,
        .reclaimer = &server->reclaimer,
    };

    return cluster_create(&process, &server->cluster, error);
}

bool server_cluster_join(struct server *server, struct error *error) {
    if (!cluster_start(server->cluster, error))
        return false;
    cluster_wait(server->cluster);
    return true;
}
