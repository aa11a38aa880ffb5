#include "cluster/redis/redis_shards.h"

#include <openssl/ssl.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "cluster/redis/redis_attempts.h"
#include "cluster/redis/redis_finder.h"
#include "cluster/redis/redis_masters.h"
#include "cluster/redis/redis_settings.h"

#define MESSAGE_BYTES_MAX (16 * 1024 * 1024)

enum shards_phase { SHARDS_IDLE, SHARDS_PAUSING, SHARDS_LOCATING, SHARDS_CONNECTING, SHARDS_UP, SHARDS_CLOSED };

struct redis_shards {
    struct bus bus;
    struct loop *loop;
    SSL_CTX *tls;
    struct config_redis_server server; /* name, password and TLS of all nodes */
    struct redis_access access;
    struct redis_finder finder;
    struct redis_slots slots;
    struct redis_masters masters;
    enum shards_phase phase;
    struct redis_attempts attempts;
    struct loop_timer timer; /* of the attempt, of the pause, of closing */
    struct buffer check_subject;
    struct bus_bytes *check_bytes;

    void (*closed)(void *context);
    void *closed_context;
};

static struct redis_shards *shards_of(const struct bus *bus) {
    return container_of(bus, struct redis_shards, bus);
}

/* --- down --- */

static void drop_shard_connections(struct redis_shards *bus) {
    bus->slots.up = false;
    redis_finder_close(&bus->finder);
    redis_masters_close(&bus->masters);
    redis_slots_clear(&bus->slots);
}

static void finish_shards_close(struct redis_shards *bus) {
    drop_shard_connections(bus);
    bus->phase = SHARDS_CLOSED;
    loop_timer_set(bus->loop, &bus->timer, 0);
}

static void fail_shards(struct redis_shards *bus, const char *why) {
    bool was_up = bus->phase == SHARDS_UP;
    struct error error;

    error_set(&error, "%s", why);
    if (bus->closed != NULL) {
        finish_shards_close(bus);
        return;
    }
    drop_shard_connections(bus);
    redis_finder_skip(&bus->finder);
    bus->phase = SHARDS_PAUSING;
    loop_timer_set(bus->loop, &bus->timer, redis_attempts_fail(&bus->attempts, loop_now_ms(bus->loop), was_up));
    if (redis_attempts_tell_down(&bus->attempts))
        bus->bus.events.down(bus->bus.events.context, error.text);
}

/* --- up --- */

static void check_shards(struct redis_shards *bus) {
    if (!redis_masters_are_ready(&bus->masters))
        return;
    if (bus->phase == SHARDS_UP) {
        redis_slots_walk(&bus->slots);
        return;
    }
    if (bus->phase != SHARDS_CONNECTING || !redis_slots_are_walked(&bus->slots))
        return;
    bus->phase = SHARDS_UP;
    bus->slots.up = true;
    redis_attempts_succeed(&bus->attempts, loop_now_ms(bus->loop));
    loop_timer_end(bus->loop, &bus->timer);
    redis_masters_begin(&bus->masters);
    bus->bus.events.up(bus->bus.events.context);
    redis_slots_walk(&bus->slots);
    redis_masters_flush(&bus->masters);
}

static void on_shards_walked(void *context) {
    struct redis_shards *bus = context;

    if (bus->phase == SHARDS_CONNECTING)
        check_shards(bus);
}

static void on_shards_ready(void *context) {
    check_shards(context);
}

/* --- what masters and slots tell --- */

static void on_shards_lost(void *context, const struct redis_shard *shard, const char *why) {
    if (shard->current) /* else it is about to be freed */
        fail_shards(context, why);
}

static void on_shards_in_force(void *context, struct slice subject) {
    struct redis_shards *bus = context;

    if (redis_slots_in_force(&bus->slots, subject))
        bus->bus.events.in_force(bus->bus.events.context, subject);
}

static void on_shards_message(void *context, struct bus_message *message) {
    const struct redis_shards *bus = context;

    bus->bus.events.message(bus->bus.events.context, message);
}

static void on_shards_left(void *context, struct redis_shard *shard, struct slice subject) {
    struct redis_shards *bus = context;

    redis_slots_leave(&bus->slots, shard, subject);
}

static void on_shards_interrupted(void *context, struct slice subject) {
    const struct redis_shards *bus = context;

    bus->bus.events.interrupted(bus->bus.events.context, subject);
}

static void on_shards_moved(void *context, struct redis_shard *former) {
    struct redis_shards *bus = context;

    redis_masters_ask(&bus->masters, former);
}

/* --- an attempt --- */

static void on_shards_found(void *context, const struct redis_place *asked) {
    struct redis_shards *bus = context;

    (void)asked;
    bus->phase = SHARDS_CONNECTING;
    redis_masters_apply(&bus->masters, redis_attempts_left_ms(&bus->attempts, loop_now_ms(bus->loop)));
}

static void on_shards_not_found(void *context, const char *why) {
    fail_shards(context, why);
}

static void begin_shards_attempt(struct redis_shards *bus) {
    uint64_t timeout_ms = redis_attempts_begin(&bus->attempts, loop_now_ms(bus->loop));

    bus->phase = SHARDS_LOCATING;
    /* The connections end earlier, and know more. */
    loop_timer_set(bus->loop, &bus->timer, timeout_ms + 50);
    redis_finder_ask(&bus->finder, timeout_ms);
}

static void on_shards_timer(struct loop_timer *timer) {
    struct redis_shards *bus = container_of(timer, struct redis_shards, timer);

    if (bus->phase == SHARDS_CLOSED)
        bus->closed(bus->closed_context);
    else if (bus->closed != NULL)
        finish_shards_close(bus);
    else if (bus->phase == SHARDS_PAUSING)
        begin_shards_attempt(bus);
    else
        fail_shards(bus, "the masters of the Redis Cluster (adapter.cluster.nodes) did not answer in time");
}

/* --- the functions of a driver --- */

static void start_shards(struct bus *given) {
    begin_shards_attempt(shards_of(given));
}

static bool publish_on_shards(struct bus *given, struct slice subject, struct bus_bytes *bytes) {
    struct redis_shards *bus = shards_of(given);

    if (bus->phase != SHARDS_UP || bus->closed != NULL)
        return false;
    redis_slots_publish(&bus->slots, subject, bytes);
    return true;
}

static void flush_shards(struct bus *given) {
    redis_masters_flush(&shards_of(given)->masters);
}

static void subscribe_on_shards(struct bus *given, struct slice subject) {
    redis_slots_subscribe(&shards_of(given)->slots, subject);
}

static void unsubscribe_on_shards(struct bus *given, struct slice subject) {
    redis_slots_unsubscribe(&shards_of(given)->slots, subject);
}

static void tell_shards_state(const struct bus *given, struct bus_state *state) {
    const struct redis_shards *bus = shards_of(given);

    *state = (struct bus_state){.up = bus->phase == SHARDS_UP,
                                .waiting_bytes = bus->slots.held_bytes + redis_masters_waiting(&bus->masters),
                                .max_message_bytes = MESSAGE_BYTES_MAX};
}

/* True if all that was published is answered. */
static bool shards_are_idle(const struct redis_shards *bus) {
    return redis_masters_are_idle(&bus->masters) && redis_slots_are_settled(&bus->slots);
}

static void close_shards(struct bus *given, uint64_t within_ms, void (*closed)(void *context), void *context) {
    struct redis_shards *bus = shards_of(given);

    bus->closed = closed;
    bus->closed_context = context;
    flush_shards(given);
    loop_timer_set(bus->loop, &bus->timer, bus->phase != SHARDS_UP || shards_are_idle(bus) ? 0 : within_ms);
}

static void on_shards_idle(void *context) {
    struct redis_shards *bus = context;

    if (bus->closed != NULL && bus->phase == SHARDS_UP && shards_are_idle(bus))
        loop_timer_set(bus->loop, &bus->timer, 0);
}

static void destroy_shards(struct bus *given) {
    struct redis_shards *bus = shards_of(given);

    drop_shard_connections(bus);
    loop_timer_end(bus->loop, &bus->timer);
    redis_masters_dispose(&bus->masters);
    redis_slots_dispose(&bus->slots);
    redis_finder_dispose(&bus->finder);
    config_redis_server_dispose(&bus->server);
    buffer_dispose(&bus->check_subject);
    bus_bytes_unref(bus->check_bytes);
    SSL_CTX_free(bus->tls);
    free(bus);
}

/* --- creating it --- */

static const struct bus_driver redis_shards_driver = {
    .name = "redis-cluster",
    .create = redis_shards_create,
    .start = start_shards,
    .publish = publish_on_shards,
    .flush = flush_shards,
    .subscribe = subscribe_on_shards,
    .unsubscribe = unsubscribe_on_shards,
    .state = tell_shards_state,
    .close = close_shards,
    .destroy = destroy_shards,
};

static void set_up_shard_masters(struct redis_shards *bus) {
    const struct redis_slots_events slots_events = {on_shards_interrupted, on_shards_moved, on_shards_walked, bus};
    const struct redis_shard_settings settings = {
        .loop = bus->loop,
        .access = &bus->access,
        .check_subject = buffer_slice(&bus->check_subject),
        .check_bytes = bus->check_bytes,
        .events = {.up = on_shards_ready,
                   .lost = on_shards_lost,
                   .in_force = on_shards_in_force,
                   .message = on_shards_message,
                   .left = on_shards_left,
                   .idle = on_shards_idle,
                   .context = bus},
    };

    redis_slots_init(&bus->slots, bus->loop, &slots_events);
    redis_masters_init(&bus->masters, &settings, &bus->slots, &bus->finder.topology);
}

static void set_up_shards(struct redis_shards *bus, const struct config *config) {
    const struct redis_finder_events events = {on_shards_found, on_shards_not_found, bus};
    const char *key;

    config_redis_seed(config, 0, &bus->server, &key);
    bus->access = redis_settings_access(&bus->server, key, "curlew");
    redis_finder_init(&bus->finder, bus->loop, config, &bus->access, &events);
    buffer_appendf(&bus->check_subject, "%scurlew1:check", config->adapter.cluster.prefix);
    bus->check_bytes = bus_bytes_create(0);
    bus->timer.fire = on_shards_timer;
    set_up_shard_masters(bus);
}

struct bus *redis_shards_create(struct loop *loop, const struct config *config, const struct bus_events *events,
                                struct error *error) {
    struct redis_shards *bus = alloc_zero(sizeof *bus);

    bus->bus = (struct bus){&redis_shards_driver, *events};
    bus->loop = loop;
    set_up_shards(bus, config);
    if (!bus->server.tls)
        return &bus->bus;
    bus->tls = bus->access.tls = redis_settings_tls(config, error);
    if (bus->tls != NULL)
        return &bus->bus;
    destroy_shards(&bus->bus);
    return NULL;
}
