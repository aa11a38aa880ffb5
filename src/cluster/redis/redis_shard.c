#include "cluster/redis/redis_shard.h"

#include <stdlib.h>

#include "base/alloc.h"

/* --- answers --- */

bool redis_shard_is_refusal(const struct redis_value *value) {
    static const char *const words[] = {"MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "READONLY", "MASTERDOWN", "LOADING"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (value->type == REDIS_ERROR && redis_value_begins_with(value, words[i]))
            return true;
    return false;
}

void redis_shard_fail(struct redis_shard *shard, const struct redis_value *value) {
    redis_connection_refused(shard->publisher.connection, "publish", value);
}

/* The slot of the subject may be another master's, which is as good an answer. */
static void on_shard_checked(struct redis_request *request, const struct redis_value *value) {
    struct redis_shard *shard = container_of(request, struct redis_shard, check);

    if (value == NULL)
        return;
    if (value->type == REDIS_INTEGER || redis_shard_is_refusal(value)) {
        shard->checked = true;
        shard->settings->events.up(shard->settings->events.context);
    } else if (redis_value_begins_with(value, "ERR unknown command")) {
        redis_connection_fail(shard->publisher.connection,
                              "it is older than Redis 7, which adapter.cluster.use_sharded_pubsub needs");
    } else {
        redis_shard_fail(shard, value);
    }
}

/* --- what the connections tell --- */

static void on_shard_publisher_up(void *context) {
    struct redis_shard *shard = context;

    shard->check.answered = on_shard_checked;
    redis_pipeline_publish_request(&shard->publisher, &shard->check, SLICE("SPUBLISH"), shard->settings->check_subject,
                                   shard->settings->check_bytes);
    redis_pipeline_flush(&shard->publisher);
}

static void on_shard_subscriber_up(void *context) {
    const struct redis_shard *shard = context;

    shard->settings->events.up(shard->settings->events.context);
}

static void on_shard_lost(void *context, const char *why) {
    const struct redis_shard *shard = context;

    shard->settings->events.lost(shard->settings->events.context, shard, why);
}

static void on_shard_idle(void *context) {
    const struct redis_shard *shard = context;

    shard->settings->events.idle(shard->settings->events.context);
}

static void on_shard_in_force(void *context, struct slice subject) {
    const struct redis_shard *shard = context;

    shard->settings->events.in_force(shard->settings->events.context, subject);
}

static void on_shard_message(void *context, struct bus_message *message) {
    const struct redis_shard *shard = context;

    shard->settings->events.message(shard->settings->events.context, message);
}

static void lose_shard_subject(struct redis_shard *shard, struct slice subject) {
    redis_subscriber_drop(&shard->subscriber, subject);
    shard->settings->events.left(shard->settings->events.context, shard, subject);
}

/* Beside what a master says when it loses a slot, these are answers to commands that met it: the subscriber has dropped
 * their subjects, or taken what the master said by itself for the answer. */
static bool on_shard_other(void *context, const struct redis_value *value) {
    struct slice name = redis_value_item_text(value, 0);

    if (!slice_equal(name, SLICE("sunsubscribe")))
        return slice_equal(name, SLICE("ssubscribe")) || redis_shard_is_refusal(value);
    lose_shard_subject(context, redis_value_item_text(value, 1));
    return true;
}

static bool on_shard_refused(void *context, struct slice subject, const struct redis_value *value) {
    if (!redis_shard_is_refusal(value))
        return false;
    lose_shard_subject(context, subject);
    return true;
}

/* --- the owner's functions --- */

struct redis_shard *redis_shard_create(const struct redis_shard_settings *settings, const struct redis_place *place,
                                       bool held) {
    struct redis_shard *shard = alloc_zero(sizeof *shard);
    const struct redis_pipeline_events publisher_events = {
        .up = on_shard_publisher_up, .lost = on_shard_lost, .idle = on_shard_idle, .context = shard};
    const struct redis_subscriber_events subscriber_events = {.up = on_shard_subscriber_up,
                                                              .lost = on_shard_lost,
                                                              .in_force = on_shard_in_force,
                                                              .message = on_shard_message,
                                                              .other = on_shard_other,
                                                              .refused = on_shard_refused,
                                                              .context = shard};

    shard->settings = settings;
    shard->place = *place;
    redis_pipeline_init(&shard->publisher, settings->loop, &publisher_events);
    redis_subscriber_init(&shard->subscriber, settings->loop, REDIS_SHARDED, &subscriber_events);
    shard->subscriber.held = held;
    return shard;
}

void redis_shard_destroy(struct redis_shard *shard) {
    redis_pipeline_close(&shard->publisher);
    redis_subscriber_dispose(&shard->subscriber);
    free(shard);
}

void redis_shard_open(struct redis_shard *shard, uint64_t timeout_ms) {
    if (shard->subscriber.connection == NULL)
        redis_subscriber_open(&shard->subscriber, &shard->place, shard->settings->access, timeout_ms);
    if (shard->publisher.connection == NULL)
        redis_pipeline_open(&shard->publisher, &shard->place, shard->settings->access, timeout_ms);
}

void redis_shard_close(struct redis_shard *shard) {
    redis_pipeline_close(&shard->publisher);
    redis_subscriber_close(&shard->subscriber);
    shard->subscriber.held = true;
    shard->checked = false;
}

bool redis_shard_is_ready(const struct redis_shard *shard) {
    return shard->checked && redis_pipeline_is_up(&shard->publisher) && redis_subscriber_is_up(&shard->subscriber);
}
