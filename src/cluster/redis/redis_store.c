#include "cluster/redis/redis_store.h"
#include "cluster/redis/redis_attempts.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "cluster/redis/redis_bus.h"
#include "cluster/redis/redis_sentinel.h"
#include "cluster/redis/redis_settings.h"

struct redis_store {
    struct key_store store;
    struct loop *loop;
    struct bus *bus; /* over whose connection it works; NULL: it has its own, and what follows */
    struct config_redis_server server;
    struct redis_place place;
    struct redis_access access;
    SSL_CTX *tls;
    struct redis_sentinels *sentinels; /* NULL: the master is at the configured address */
    struct redis_pipeline pipeline;
    struct loop_timer timer; /* of the pause */
    struct redis_attempts attempts;
};

static struct redis_store *redis_store_of(struct key_store *store) {
    return container_of(store, struct redis_store, store);
}

/* --- a connection of its own --- */

static void fail_redis_store(struct redis_store *store, const char *why) {
    struct error error;

    error_set(&error, "%s", why);
    redis_pipeline_close(&store->pipeline);
    if (store->sentinels != NULL)
        redis_sentinels_close(store->sentinels);
    loop_timer_set(store->loop, &store->timer,
                   redis_attempts_fail(&store->attempts, loop_now_ms(store->loop), !store->attempts.told_down));
    if (redis_attempts_tell_down(&store->attempts))
        store->store.events.down(store->store.events.context, error.text);
}

static void on_redis_store_up(void *context) {
    struct redis_store *store = context;

    redis_attempts_succeed(&store->attempts, loop_now_ms(store->loop));
    store->store.events.up(store->store.events.context);
}

static void on_redis_store_lost(void *context, const char *why) {
    fail_redis_store(context, why);
}

static void open_redis_store(struct redis_store *store) {
    redis_pipeline_open(&store->pipeline, &store->place, &store->access, REDIS_ATTEMPT_MS);
}

static void on_store_master_found(void *context, const struct redis_place *master) {
    struct redis_store *store = context;

    store->place = *master;
    open_redis_store(store);
}

static void on_store_master_switched(void *context) {
    fail_redis_store(context, "Sentinel has named another master of Redis");
}

static void begin_redis_store(struct redis_store *store) {
    if (store->sentinels != NULL)
        redis_sentinels_ask(store->sentinels, REDIS_ATTEMPT_MS);
    else
        open_redis_store(store);
}

static void on_redis_store_timer(struct loop_timer *timer) {
    begin_redis_store(container_of(timer, struct redis_store, timer));
}

/* --- the functions of a driver --- */

static void start_redis_store(struct key_store *given) {
    struct redis_store *store = redis_store_of(given);

    if (store->bus == NULL)
        begin_redis_store(store);
}

static struct redis_pipeline *pipeline_of_store(struct redis_store *store) {
    return store->bus != NULL ? redis_bus_publisher(store->bus) : &store->pipeline;
}

static bool request_of_redis_store(struct key_store *given, struct slice key, struct redis_request *request,
                                   const struct slice *words, size_t count) {
    struct redis_pipeline *pipeline = pipeline_of_store(redis_store_of(given));

    (void)key;
    if (pipeline == NULL || !redis_pipeline_is_up(pipeline))
        return false;
    redis_pipeline_request(pipeline, request, words, count);
    return true;
}

static void flush_redis_store(struct key_store *given) {
    struct redis_store *store = redis_store_of(given);

    if (store->bus == NULL)
        redis_pipeline_flush(&store->pipeline);
}

static void destroy_redis_store(struct key_store *given) {
    struct redis_store *store = redis_store_of(given);

    redis_pipeline_close(&store->pipeline);
    loop_timer_end(store->loop, &store->timer);
    redis_sentinels_destroy(store->sentinels);
    config_redis_server_dispose(&store->server);
    SSL_CTX_free(store->tls);
    free(store);
}

static bool set_up_store_tls(struct redis_store *store, const struct config *config, struct error *error) {
    if (!store->server.tls && !config->database.redis.tls.enabled)
        return true;
    store->tls = redis_settings_tls(config, error);
    store->access.tls = store->server.tls ? store->tls : NULL;
    return store->tls != NULL;
}

static struct key_store *create_redis_store(struct loop *loop, const struct config *config, struct bus *bus,
                                            const struct key_store_events *events, struct error *error) {
    struct redis_store *store = alloc_zero(sizeof *store);
    const struct redis_pipeline_events pipeline_events = {
        .up = on_redis_store_up, .lost = on_redis_store_lost, .context = store};
    const struct redis_sentinels_events sentinels_events = {on_store_master_found, on_redis_store_lost,
                                                            on_store_master_switched, store};
    const char *key = config_redis_server(config, CONFIG_REDIS_CACHE, &store->server);
    bool sentinel = config_redis_uses_sentinel(config, CONFIG_REDIS_CACHE);

    store->store = (struct key_store){&redis_store_driver, *events};
    store->loop = loop;
    store->timer.fire = on_redis_store_timer;
    redis_pipeline_init(&store->pipeline, loop, &pipeline_events);
    if (bus != NULL && redis_bus_publishes_to(bus, &store->server, sentinel))
        store->bus = bus;
    if (!redis_place_set(&store->place, slice_of(store->server.host), store->server.port))
        store->place.port = 0;
    store->access = redis_settings_access(&store->server, key, "curlew-cache");
    store->access.db = store->server.db;
    store->access.master_only = true;
    if (store->bus == NULL && !set_up_store_tls(store, config, error)) {
        destroy_redis_store(&store->store);
        return NULL;
    }
    if (store->bus == NULL && sentinel)
        store->sentinels = redis_sentinels_create(loop, config, store->tls, &sentinels_events);
    return &store->store;
}

const struct key_store_driver redis_store_driver = {
    .create = create_redis_store,
    .start = start_redis_store,
    .request = request_of_redis_store,
    .flush = flush_redis_store,
    .destroy = destroy_redis_store,
};
