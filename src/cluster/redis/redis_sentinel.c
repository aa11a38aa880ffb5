#include "cluster/redis/redis_sentinel.h"
#include "cluster/redis/redis_settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/list.h"
#include "config/config_redis.h"

/* Sentinels whose connection was lost are asked again after this time. */
#define REOPEN_MS 5000

struct redis_sentinel {
    struct redis_sentinels *all;
    struct config_redis_server server;
    struct redis_place place;
    struct redis_access access;
    struct redis_connection *connection; /* NULL: closed */
    bool asked;                          /* its answer is awaited */
};

struct redis_sentinels {
    struct loop *loop;
    const char *name;          /* of the master */
    struct redis_place master; /* as it was found */
    struct loop_timer reopen;  /* for those whose connection was lost */
    struct redis_sentinels_events events;
    bool asking;        /* nobody has answered yet */
    unsigned silent;    /* asked, without an answer */
    struct error error; /* of the last one that failed */
    size_t count;
    struct redis_sentinel each[];
};

/* --- answers --- */

static void fail_sentinel_question(struct redis_sentinel *sentinel, const char *why) {
    struct redis_sentinels *all = sentinel->all;
    bool asked = sentinel->asked;

    redis_connection_destroy(sentinel->connection);
    sentinel->connection = NULL;
    sentinel->asked = false;
    if (!loop_timer_is_set(&all->reopen))
        loop_timer_set(all->loop, &all->reopen, REOPEN_MS);
    if (!asked || !all->asking)
        return;
    error_set(&all->error, "%s", why);
    if (--all->silent > 0)
        return;
    all->asking = false;
    all->events.failed(all->events.context, all->error.text);
}

/* Reads [address, port]. */
static bool read_sentinel_master(const struct redis_value *value, struct redis_place *place) {
    struct slice address = redis_value_item_text(value, 0);
    unsigned long long port;

    return address.length > 0 && slice_to_number(redis_value_item_text(value, 1), UINT16_MAX, &port) && port > 0 &&
           redis_place_set(place, address, (uint16_t)port);
}

static void subscribe_to_sentinel(struct redis_sentinel *sentinel) {
    struct redis_output *output = redis_connection_output(sentinel->connection);

    redis_output_command(output, 2);
    redis_output_word(output, SLICE("SUBSCRIBE"));
    redis_output_word(output, SLICE("+switch-master"));
    redis_connection_flush(sentinel->connection);
}

static void take_sentinel_answer(struct redis_sentinel *sentinel, const struct redis_value *value) {
    struct redis_sentinels *all = sentinel->all;
    struct redis_place master;
    struct error error;

    if (!read_sentinel_master(value, &master)) {
        error_set(&error,
                  "Sentinel at %s:%u (database.redis.sentinels): it does not know a master '%s': see "
                  "database.redis.name%s%.200s",
                  sentinel->place.host, sentinel->place.port, all->name, value->type == REDIS_ERROR ? "; " : "",
                  value->type == REDIS_ERROR ? value->text.data : "");
        fail_sentinel_question(sentinel, error.text);
        return;
    }
    sentinel->asked = false;
    if (all->asking)
        all->silent--;
    subscribe_to_sentinel(sentinel);
    if (all->asking) {
        all->asking = false;
        all->master = master;
        all->events.found(all->events.context, &master);
    } else if (master.port != all->master.port || strcmp(master.host, all->master.host) != 0) {
        all->events.switched(all->events.context); /* it knows of a change that was missed */
    }
}

/* The text of +switch-master: name, old address and port, new address and port. */
static bool is_switch_of(const struct redis_sentinels *all, const struct redis_value *value) {
    struct slice text = redis_value_item_text(value, 2), name = slice_of(all->name);

    return slice_equal(redis_value_item_text(value, 0), SLICE("message")) && slice_starts_with(text, name) &&
           text.length > name.length && text.data[name.length] == ' ';
}

static void on_sentinel_value(void *context, struct redis_value *value) {
    struct redis_sentinel *sentinel = context;

    if (sentinel->asked)
        take_sentinel_answer(sentinel, value);
    else if (slice_equal(redis_value_item_text(value, 0), SLICE("pong")))
        redis_connection_answered(sentinel->connection);
    else if (is_switch_of(sentinel->all, value))
        sentinel->all->events.switched(sentinel->all->events.context);
    redis_value_free(value);
}

/* --- connections --- */

static void on_sentinel_up(void *context) {
    struct redis_sentinel *sentinel = context;
    struct redis_output *output = redis_connection_output(sentinel->connection);

    redis_output_command(output, 3);
    redis_output_word(output, SLICE("SENTINEL"));
    redis_output_word(output, SLICE("get-master-addr-by-name"));
    redis_output_word(output, slice_of(sentinel->all->name));
    redis_connection_flush(sentinel->connection);
}

static void on_sentinel_lost(void *context, const char *why) {
    struct error error;

    error_set(&error, "%s", why);
    fail_sentinel_question(context, error.text);
}

static void on_sentinel_probe(void *context) {
    struct redis_sentinel *sentinel = context;
    struct redis_output *output = redis_connection_output(sentinel->connection);

    redis_output_command(output, 1);
    redis_output_word(output, SLICE("PING"));
}

static void open_sentinel(struct redis_sentinel *sentinel, uint64_t timeout_ms) {
    const struct redis_connection_events events = {.up = on_sentinel_up,
                                                   .lost = on_sentinel_lost,
                                                   .value = on_sentinel_value,
                                                   .probe = on_sentinel_probe,
                                                   .context = sentinel};

    sentinel->asked = true;
    sentinel->connection =
        redis_connection_open(sentinel->all->loop, &sentinel->place, &sentinel->access, timeout_ms, &events);
}

static void reopen_sentinels(struct loop_timer *timer) {
    struct redis_sentinels *all = container_of(timer, struct redis_sentinels, reopen);

    for (size_t i = 0; i < all->count; i++)
        if (all->each[i].connection == NULL)
            open_sentinel(&all->each[i], REOPEN_MS);
}

void redis_sentinels_ask(struct redis_sentinels *all, uint64_t timeout_ms) {
    redis_sentinels_close(all);
    all->asking = true;
    all->silent = (unsigned)all->count;
    for (size_t i = 0; i < all->count; i++)
        open_sentinel(&all->each[i], timeout_ms);
}

void redis_sentinels_close(struct redis_sentinels *all) {
    all->asking = false;
    loop_timer_end(all->loop, &all->reopen);
    for (size_t i = 0; i < all->count; i++) {
        redis_connection_destroy(all->each[i].connection);
        all->each[i].connection = NULL;
        all->each[i].asked = false;
    }
}

struct redis_sentinels *redis_sentinels_create(struct loop *loop, const struct config *config, SSL_CTX *tls,
                                               const struct redis_sentinels_events *events) {
    size_t count = config->database.redis.sentinels.count;
    struct redis_sentinels *all = alloc_zero(sizeof *all + count * sizeof all->each[0]);

    all->loop = loop;
    all->name = config->database.redis.name;
    all->events = *events;
    all->count = count;
    all->reopen.fire = reopen_sentinels;
    for (size_t i = 0; i < count; i++) {
        struct redis_sentinel *sentinel = &all->each[i];
        sentinel->all = all;
        config_redis_sentinel(config, i, &sentinel->server);
        redis_place_set(&sentinel->place, slice_of(sentinel->server.host), sentinel->server.port);
        sentinel->access = redis_settings_access(&sentinel->server, "database.redis.sentinels", "curlew-sentinel");
        sentinel->access.tls = sentinel->server.tls ? tls : NULL;
    }
    return all;
}

void redis_sentinels_destroy(struct redis_sentinels *all) {
    if (all == NULL)
        return;
    redis_sentinels_close(all);
    for (size_t i = 0; i < all->count; i++)
        config_redis_server_dispose(&all->each[i].server);
    free(all);
}
