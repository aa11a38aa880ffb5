#include "base/clock.h"
#include "server/server_internal.h"

/* What is pending at the shutdown has at least this long, however short the shutdown grace period is. */
#define LEAST_DELIVERY_MS 3000

bool server_webhooks_create(struct server *server, struct error *error) {
    struct delivery *delivery;

    if (!config_webhooks_enabled(&server->config))
        return true;
    delivery = delivery_create(&server->config, takeover_is_under_way(server), error);
    if (delivery == NULL)
        return false;
    server->webhooks = webhook_thread_create(delivery, error);
    if (server->webhooks == NULL)
        delivery_destroy(delivery);
    else
        server->webhook_events = webhook_events_create(server->webhooks);
    if (server->webhook_events != NULL && takeover_is_under_way(server) && !config_has_adapter(&server->config))
        webhook_events_begin_overlap(server->webhook_events);
    return server->webhooks != NULL;
}

struct webhook_outlet *server_webhooks_outlet(struct server *server) {
    return server->webhook_events != NULL ? webhook_events_outlet(server->webhook_events) : NULL;
}

void server_webhooks_app_replaced(struct app *before, struct app *after, void *context) {
    struct server *server = context;

    if (server->webhook_events != NULL)
        webhook_events_app_replaced(server->webhook_events, before, after);
}

bool server_webhooks_start(struct server *server, struct error *error) {
    if (server->webhooks == NULL)
        return true;
    webhook_finder_init(&server->webhook_finder, server->webhooks, server->apps, server->workers.list[0]);
    return webhook_thread_start(server->webhooks, error);
}

void server_webhooks_stop(struct server *server, uint64_t shutdown_ms) {
    uint64_t least_ms = clock_monotonic_ms() + LEAST_DELIVERY_MS;
    uint64_t until_ms = shutdown_ms + server->config.shutdown_grace_period_s * UINT64_C(1000);

    webhook_thread_stop(server->webhooks, until_ms > least_ms ? until_ms : least_ms);
}
