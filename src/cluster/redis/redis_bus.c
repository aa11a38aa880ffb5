#include "cluster/redis/redis_bus.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/crypto.h"
#include "base/list.h"
#include "cluster/redis/redis_attempts.h"
#include "cluster/redis/redis_finder.h"
#include "cluster/redis/redis_pipeline.h"
#include "cluster/redis/redis_sentinel.h"
#include "cluster/redis/redis_settings.h"
#include "cluster/redis/redis_shards.h"
#include "cluster/redis/redis_subscriber.h"

/* The time for the message that goes from one connection to the other. */
#define CHECK_MS 1000

#define PROBE_ARRIVES_MS 6000

/* The topology of a Redis Cluster is read so often. */
#define REFRESH_MS 60000

/* Redis closes a subscriber for which 32 MB wait, unless it is configured otherwise. */
#define MESSAGE_BYTES_MAX (16 * 1024 * 1024)

enum redis_bus_phase { BUS_IDLE, BUS_PAUSING, BUS_LOCATING, BUS_CONNECTING, BUS_CHECKING, BUS_UP, BUS_CLOSED };

/* One of the two connections: where to, and as whom. */
struct redis_end {
    struct config_redis_server server;
    struct redis_place place;
    struct redis_access access;
};

struct redis_bus {
    struct bus bus;
    struct loop *loop;
    SSL_CTX *tls;
    struct redis_end publishes, subscribes;
    struct redis_pipeline publisher;
    struct redis_subscriber subscriber;
    struct redis_sentinels *sentinels; /* NULL: without Sentinel the master is at the configured address */
    struct redis_finder *finder;       /* of a node of a Redis Cluster; NULL: it is none */

    enum redis_bus_phase phase;
    struct redis_attempts attempts;
    struct loop_timer timer; /* of the attempt, of the pause, of closing */

    struct buffer probe_subject;
    struct bus_bytes *probe_bytes;
    bool probe_in_force;
    bool probe_out; /* published, and not received */
    uint64_t probe_at_ms;
    struct redis_request role; /* of ROLE, or of CLUSTER NODES */
    bool asking_role;
    struct redis_request counted; /* the message whose receivers are counted */
    bool count_next, counting;
    size_t cut_off;            /* nodes in a row that did not reach most masters */
    struct loop_timer refresh; /* of the topology */

    void (*closed)(void *context);
    void *closed_context;
};

static struct redis_bus *redis_bus_of(const struct bus *bus) {
    return container_of(bus, struct redis_bus, bus);
}

/* --- down --- */

static void drop_redis_connections(struct redis_bus *bus) {
    redis_pipeline_close(&bus->publisher);
    redis_subscriber_close(&bus->subscriber);
    if (bus->sentinels != NULL)
        redis_sentinels_close(bus->sentinels);
    if (bus->finder != NULL)
        redis_finder_close(bus->finder);
    loop_timer_end(bus->loop, &bus->refresh);
    bus->probe_in_force = bus->probe_out = false;
    bus->subscriber.held = true;
}

static void finish_redis_close(struct redis_bus *bus) {
    drop_redis_connections(bus);
    bus->phase = BUS_CLOSED;
    if (bus->closed == NULL)
        return;
    loop_timer_set(bus->loop, &bus->timer, 0);
}

static void fail_redis_bus(struct redis_bus *bus, const char *why) {
    bool was_up = bus->phase == BUS_UP;
    struct error error;

    error_set(&error, "%s", why);
    if (bus->closed != NULL) {
        finish_redis_close(bus);
        return;
    }
    if (bus->finder != NULL)
        redis_finder_skip(bus->finder);
    drop_redis_connections(bus);
    bus->phase = BUS_PAUSING;
    loop_timer_set(bus->loop, &bus->timer, redis_attempts_fail(&bus->attempts, loop_now_ms(bus->loop), was_up));
    if (redis_attempts_tell_down(&bus->attempts))
        bus->bus.events.down(bus->bus.events.context, error.text);
}

/* --- up --- */

static void publish_redis_probe(struct redis_bus *bus) {
    redis_pipeline_publish(&bus->publisher, SLICE("PUBLISH"), buffer_slice(&bus->probe_subject), bus->probe_bytes);
    bus->probe_out = true;
    bus->probe_at_ms = loop_now_ms(bus->loop);
}

/* Another node is looked for, unless all have been tried. */
static bool is_worth_leaving(const struct redis_bus *bus) {
    return bus->phase == BUS_UP ? bus->cut_off == 0 : bus->cut_off <= redis_finder_place_count(bus->finder);
}

static void on_cluster_nodes(struct redis_request *request, const struct redis_value *value) {
    struct redis_bus *bus = container_of(request, struct redis_bus, role);

    bus->asking_role = false;
    if (value == NULL || bus->publisher.connection == NULL)
        return;
    if (redis_nodes_reach_most(value)) {
        bus->cut_off = 0;
    } else if (is_worth_leaving(bus)) {
        bus->cut_off++;
        redis_connection_fail(bus->publisher.connection, "it is cut off from most masters of the Redis Cluster");
        return;
    }
    if (bus->phase != BUS_CHECKING)
        return;
    publish_redis_probe(bus);
    redis_pipeline_flush(&bus->publisher);
}

static void ask_cluster_nodes(struct redis_bus *bus) {
    static const struct slice words[] = {SLICE_INIT("CLUSTER"), SLICE_INIT("NODES")};

    bus->asking_role = true;
    bus->role.answered = on_cluster_nodes;
    redis_pipeline_request(&bus->publisher, &bus->role, words, 2);
}

static void check_redis_bus(struct redis_bus *bus) {
    if (bus->closed != NULL || bus->phase != BUS_CONNECTING || !bus->probe_in_force ||
        !redis_pipeline_is_up(&bus->publisher))
        return;
    bus->phase = BUS_CHECKING;
    loop_timer_set(bus->loop, &bus->timer, CHECK_MS);
    if (bus->finder != NULL)
        ask_cluster_nodes(bus);
    else
        publish_redis_probe(bus);
    redis_pipeline_flush(&bus->publisher);
}

static void take_redis_probe(struct redis_bus *bus) {
    bus->probe_out = false;
    if (bus->phase != BUS_CHECKING || bus->closed != NULL)
        return;
    bus->phase = BUS_UP;
    redis_attempts_succeed(&bus->attempts, loop_now_ms(bus->loop));
    loop_timer_end(bus->loop, &bus->timer);
    if (bus->finder != NULL)
        loop_timer_set(bus->loop, &bus->refresh, REFRESH_MS);
    bus->subscriber.held = false;
    bus->bus.events.up(bus->bus.events.context);
}

static void on_redis_role(struct redis_request *request, const struct redis_value *value) {
    struct redis_bus *bus = container_of(request, struct redis_bus, role);
    struct error error;

    bus->asking_role = false;
    if (value != NULL && !redis_role_is_master(value, &error) && bus->publisher.connection != NULL)
        redis_connection_fail(bus->publisher.connection, "%s", error.text);
}

/* The message of the probe before was published 5 seconds ago. If it was longer, this thread was stopped itself, and
 * has perhaps not read it yet. */
static void on_publisher_probe(void *context) {
    static const struct slice role = SLICE_INIT("ROLE");
    struct redis_bus *bus = context;
    bool late = loop_now_ms(bus->loop) - bus->probe_at_ms > PROBE_ARRIVES_MS;

    if (bus->phase != BUS_UP)
        return;
    if (bus->probe_out && !late && bus->subscriber.connection != NULL) {
        redis_connection_fail(bus->subscriber.connection, "messages that are published do not arrive");
        return;
    }
    publish_redis_probe(bus);
    if (bus->asking_role)
        return;
    if (bus->finder != NULL) {
        ask_cluster_nodes(bus);
        return;
    }
    bus->asking_role = true;
    bus->role.answered = on_redis_role;
    redis_pipeline_request(&bus->publisher, &bus->role, &role, 1);
}

static void on_redis_end_up(void *context) {
    check_redis_bus(context);
}

static void on_redis_end_lost(void *context, const char *why) {
    fail_redis_bus(context, why);
}

static void on_redis_in_force(void *context, struct slice subject) {
    struct redis_bus *bus = context;

    if (!slice_equal(subject, buffer_slice(&bus->probe_subject))) {
        bus->bus.events.in_force(bus->bus.events.context, subject);
        return;
    }
    bus->probe_in_force = true;
    check_redis_bus(bus);
}

static void on_redis_message(void *context, struct bus_message *message) {
    struct redis_bus *bus = context;

    if (!slice_equal(message->subject, buffer_slice(&bus->probe_subject))) {
        bus->bus.events.message(bus->bus.events.context, message);
        return;
    }
    message->release(message);
    take_redis_probe(bus);
}

/* --- an attempt --- */

static void connect_redis_bus(struct redis_bus *bus) {
    /* The attempt's own timer speaks for what is not done in time. */
    uint64_t timeout_ms = redis_attempts_left_ms(&bus->attempts, loop_now_ms(bus->loop));

    bus->phase = BUS_CONNECTING;
    redis_subscriber_open(&bus->subscriber, &bus->subscribes.place, &bus->subscribes.access, timeout_ms);
    redis_pipeline_open(&bus->publisher, &bus->publishes.place, &bus->publishes.access, timeout_ms);
}

static void on_redis_master_found(void *context, const struct redis_place *master) {
    struct redis_bus *bus = context;

    if (bus->phase != BUS_LOCATING)
        return;
    bus->publishes.place = bus->subscribes.place = *master;
    connect_redis_bus(bus);
}

static void on_redis_master_failed(void *context, const char *why) {
    fail_redis_bus(context, why);
}

/* While the bus is up, the old topology is as good. */
static void on_cluster_not_found(void *context, const char *why) {
    struct redis_bus *bus = context;

    if (bus->phase == BUS_LOCATING)
        fail_redis_bus(bus, why);
}

static void on_cluster_refresh(struct loop_timer *timer) {
    struct redis_bus *bus = container_of(timer, struct redis_bus, refresh);

    redis_finder_ask(bus->finder, REDIS_ATTEMPT_MS);
    loop_timer_set(bus->loop, timer, REFRESH_MS);
}

static void on_redis_master_switched(void *context) {
    fail_redis_bus(context, "Sentinel has named another master of Redis");
}

static void begin_redis_attempt(struct redis_bus *bus) {
    uint64_t timeout_ms = redis_attempts_begin(&bus->attempts, loop_now_ms(bus->loop));

    /* The connections end earlier, and know more. */
    loop_timer_set(bus->loop, &bus->timer, timeout_ms + 50);
    if (bus->sentinels == NULL && bus->finder == NULL) {
        connect_redis_bus(bus);
        return;
    }
    bus->phase = BUS_LOCATING;
    if (bus->finder != NULL)
        redis_finder_ask(bus->finder, timeout_ms);
    else
        redis_sentinels_ask(bus->sentinels, timeout_ms);
}

static void give_up_redis_attempt(struct redis_bus *bus) {
    const struct redis_end *end = &bus->subscribes;
    struct error error;

    if (bus->phase == BUS_CHECKING)
        error_set(&error, "Redis at %s:%u (%s): a message that was published to %s:%u (%s) did not arrive here in time",
                  end->place.host, end->place.port, end->access.key, bus->publishes.place.host,
                  bus->publishes.place.port, bus->publishes.access.key);
    else
        error_set(&error, "Redis at %s:%u (%s): no answer in time", end->place.host, end->place.port, end->access.key);
    fail_redis_bus(bus, error.text);
}

static void on_redis_bus_timer(struct loop_timer *timer) {
    struct redis_bus *bus = container_of(timer, struct redis_bus, timer);

    if (bus->phase == BUS_CLOSED)
        bus->closed(bus->closed_context);
    else if (bus->closed != NULL)
        finish_redis_close(bus);
    else if (bus->phase == BUS_PAUSING)
        begin_redis_attempt(bus);
    else
        give_up_redis_attempt(bus);
}

/* --- the functions of a driver --- */

static void start_redis_bus(struct bus *given) {
    begin_redis_attempt(redis_bus_of(given));
}

/* A node of a Redis Cluster counts only those that use it, too. */
static void count_next_on_redis_bus(struct bus *given) {
    struct redis_bus *bus = redis_bus_of(given);

    bus->count_next = bus->finder == NULL && !bus->counting;
}

static void on_redis_counted(struct redis_request *request, const struct redis_value *value) {
    struct redis_bus *bus = container_of(request, struct redis_bus, counted);

    bus->counting = false;
    if (value == NULL)
        return;
    if (value->type == REDIS_INTEGER)
        bus->bus.events.counted(bus->bus.events.context, value->integer > 0 ? (uint64_t)value->integer : 0);
    else if (bus->publisher.connection != NULL)
        redis_connection_refused(bus->publisher.connection, "publish", value);
}

static void publish_counted(struct redis_bus *bus, struct slice subject, struct bus_bytes *bytes) {
    bus->count_next = false;
    bus->counting = true;
    bus->counted.answered = on_redis_counted;
    redis_pipeline_publish_request(&bus->publisher, &bus->counted, SLICE("PUBLISH"), subject, bytes);
}

static bool publish_on_redis_bus(struct bus *given, struct slice subject, struct bus_bytes *bytes) {
    struct redis_bus *bus = redis_bus_of(given);

    if (bus->phase != BUS_UP || bus->closed != NULL)
        return false;
    if (bus->count_next)
        publish_counted(bus, subject, bytes);
    else
        redis_pipeline_publish(&bus->publisher, SLICE("PUBLISH"), subject, bytes);
    return true;
}

static void flush_redis_bus(struct bus *given) {
    struct redis_bus *bus = redis_bus_of(given);

    bus->count_next = false; /* it was not published */
    redis_pipeline_flush(&bus->publisher);
    redis_subscriber_flush(&bus->subscriber);
}

static void subscribe_on_redis_bus(struct bus *given, struct slice subject) {
    redis_subscriber_add(&redis_bus_of(given)->subscriber, subject);
}

static void unsubscribe_on_redis_bus(struct bus *given, struct slice subject) {
    redis_subscriber_end(&redis_bus_of(given)->subscriber, subject);
}

static void tell_redis_bus_state(const struct bus *given, struct bus_state *state) {
    const struct redis_bus *bus = redis_bus_of(given);

    *state = (struct bus_state){.up = bus->phase == BUS_UP,
                                .waiting_bytes = redis_pipeline_waiting(&bus->publisher),
                                .max_message_bytes = MESSAGE_BYTES_MAX};
}

static void close_redis_bus(struct bus *given, uint64_t within_ms, void (*closed)(void *context), void *context) {
    struct redis_bus *bus = redis_bus_of(given);
    bool idle = bus->phase != BUS_UP || redis_pipeline_is_idle(&bus->publisher);

    bus->closed = closed;
    bus->closed_context = context;
    redis_pipeline_flush(&bus->publisher);
    loop_timer_set(bus->loop, &bus->timer, idle ? 0 : within_ms);
}

/* Redis has carried out all that was published. */
static void on_publisher_idle(void *context) {
    struct redis_bus *bus = context;

    if (bus->closed != NULL && bus->phase == BUS_UP)
        finish_redis_close(bus);
}

static void destroy_redis_bus(struct bus *given) {
    struct redis_bus *bus = redis_bus_of(given);

    drop_redis_connections(bus);
    loop_timer_end(bus->loop, &bus->timer);
    redis_sentinels_destroy(bus->sentinels);
    if (bus->finder != NULL)
        redis_finder_dispose(bus->finder);
    free(bus->finder);
    redis_subscriber_dispose(&bus->subscriber);
    config_redis_server_dispose(&bus->publishes.server);
    config_redis_server_dispose(&bus->subscribes.server);
    buffer_dispose(&bus->probe_subject);
    bus_bytes_unref(bus->probe_bytes);
    SSL_CTX_free(bus->tls);
    free(bus);
}

/* --- creating it --- */

/* Of a Redis Cluster, what the first node's setting says is for all. */
static void set_up_redis_end(struct redis_end *end, const struct config *config, enum config_redis_use use,
                             bool is_cluster, const char *label) {
    const char *key;

    if (is_cluster)
        config_redis_seed(config, 0, &end->server, &key);
    else
        key = config_redis_server(config, use, &end->server);
    redis_place_set(&end->place, slice_of(end->server.host), end->server.port);
    end->access = redis_settings_access(&end->server, key, label);
    end->access.db = end->server.db;
    end->access.master_only = !is_cluster;
}

/* Makes the context of TLS if a connection wants it. */
static bool set_up_redis_tls(struct redis_bus *bus, const struct config *config, bool sentinel, struct error *error) {
    if (!bus->publishes.server.tls && !bus->subscribes.server.tls && !(sentinel && config->database.redis.tls.enabled))
        return true;
    bus->tls = redis_settings_tls(config, error);
    bus->publishes.access.tls = bus->publishes.server.tls ? bus->tls : NULL;
    bus->subscribes.access.tls = bus->subscribes.server.tls ? bus->tls : NULL;
    return bus->tls != NULL;
}

static void set_up_redis_probe(struct redis_bus *bus, const char *prefix) {
    unsigned char random[16];

    random_bytes(random, sizeof random);
    buffer_appendf(&bus->probe_subject, "%scurlew1:probe:", prefix);
    for (size_t i = 0; i < sizeof random; i++)
        buffer_appendf(&bus->probe_subject, "%02x", random[i]);
    bus->probe_bytes = bus_bytes_create(0);
    redis_subscriber_add(&bus->subscriber, buffer_slice(&bus->probe_subject));
}

static struct redis_bus *make_redis_bus(struct loop *loop, const struct bus_events *events) {
    struct redis_bus *bus = alloc_zero(sizeof *bus);
    const struct redis_pipeline_events publisher_events = {.up = on_redis_end_up,
                                                           .lost = on_redis_end_lost,
                                                           .probe = on_publisher_probe,
                                                           .idle = on_publisher_idle,
                                                           .context = bus};
    const struct redis_subscriber_events subscriber_events = {.up = on_redis_end_up,
                                                              .lost = on_redis_end_lost,
                                                              .in_force = on_redis_in_force,
                                                              .message = on_redis_message,
                                                              .context = bus};

    bus->bus.events = *events;
    bus->loop = loop;
    bus->timer.fire = on_redis_bus_timer;
    bus->refresh.fire = on_cluster_refresh;
    redis_pipeline_init(&bus->publisher, loop, &publisher_events);
    redis_subscriber_init(&bus->subscriber, loop, REDIS_PLAIN, &subscriber_events);
    bus->subscriber.held = true;
    return bus;
}

static struct bus *create_redis_bus(struct loop *loop, const struct config *config, const struct bus_events *events,
                                    struct error *error) {
    struct redis_bus *bus = make_redis_bus(loop, events);
    const struct redis_sentinels_events sentinels_events = {on_redis_master_found, on_redis_master_failed,
                                                            on_redis_master_switched, bus};
    bool sentinel = config_redis_uses_sentinel(config, CONFIG_REDIS_PUBLISH);

    bus->bus.driver = &redis_bus_driver;
    set_up_redis_end(&bus->publishes, config, CONFIG_REDIS_PUBLISH, false, "curlew-publisher");
    set_up_redis_end(&bus->subscribes, config, CONFIG_REDIS_SUBSCRIBE, false, "curlew-subscriber");
    set_up_redis_probe(bus, config->adapter.redis.prefix);
    if (!set_up_redis_tls(bus, config, sentinel, error)) {
        destroy_redis_bus(&bus->bus);
        return NULL;
    }
    if (sentinel)
        bus->sentinels = redis_sentinels_create(loop, config, bus->tls, &sentinels_events);
    return &bus->bus;
}

/* Plain messages reach all nodes of a Redis Cluster, so one node of it is enough: another one only if that fails, since
 * messages that take different ways may overtake each other. */
static struct bus *create_redis_cluster_bus(struct loop *loop, const struct config *config,
                                            const struct bus_events *events, struct error *error) {
    struct redis_finder_events finder_events = {on_redis_master_found, on_cluster_not_found, NULL};
    struct redis_bus *bus;

    if (config->adapter.cluster.use_sharded_pubsub)
        return redis_shards_create(loop, config, events, error);
    bus = make_redis_bus(loop, events);
    finder_events.context = bus;

    bus->bus.driver = &redis_cluster_bus_driver;
    set_up_redis_end(&bus->publishes, config, CONFIG_REDIS_PUBLISH, true, "curlew-publisher");
    set_up_redis_end(&bus->subscribes, config, CONFIG_REDIS_SUBSCRIBE, true, "curlew-subscriber");
    set_up_redis_probe(bus, config->adapter.cluster.prefix);
    if (!set_up_redis_tls(bus, config, false, error)) {
        destroy_redis_bus(&bus->bus);
        return NULL;
    }
    bus->finder = alloc(sizeof *bus->finder);
    redis_finder_init(bus->finder, loop, config, &bus->publishes.access, &finder_events);
    return &bus->bus;
}

bool redis_bus_publishes_to(const struct bus *given, const struct config_redis_server *server, bool sentinel) {
    return given->driver == &redis_bus_driver && (redis_bus_of(given)->sentinels != NULL) == sentinel &&
           redis_settings_equal(&redis_bus_of(given)->publishes.server, server, sentinel);
}

struct redis_pipeline *redis_bus_publisher(struct bus *given) {
    struct redis_bus *bus = redis_bus_of(given);

    return bus->phase == BUS_UP ? &bus->publisher : NULL;
}

const struct bus_driver redis_bus_driver = {
    .name = "redis",
    .create = create_redis_bus,
    .start = start_redis_bus,
    .publish = publish_on_redis_bus,
    .count_next = count_next_on_redis_bus,
    .flush = flush_redis_bus,
    .subscribe = subscribe_on_redis_bus,
    .unsubscribe = unsubscribe_on_redis_bus,
    .state = tell_redis_bus_state,
    .close = close_redis_bus,
    .destroy = destroy_redis_bus,
};

const struct bus_driver redis_cluster_bus_driver = {
    .name = "redis-cluster",
    .create = create_redis_cluster_bus,
    .start = start_redis_bus,
    .publish = publish_on_redis_bus,
    .flush = flush_redis_bus,
    .subscribe = subscribe_on_redis_bus,
    .unsubscribe = unsubscribe_on_redis_bus,
    .state = tell_redis_bus_state,
    .close = close_redis_bus,
    .destroy = destroy_redis_bus,
};
