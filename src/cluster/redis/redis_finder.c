#include "cluster/redis/redis_finder.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/crypto.h"
#include "config/config_redis.h"

static void ask_redis_place(struct redis_finder *finder, const char *why);

size_t redis_finder_place_count(const struct redis_finder *finder) {
    return finder->topology.master_count + finder->seed_count;
}

void redis_finder_close(struct redis_finder *finder) {
    finder->left = 0;
    redis_pipeline_close(&finder->pipeline);
}

void redis_finder_skip(struct redis_finder *finder) {
    finder->next = (finder->next + 1) % redis_finder_place_count(finder);
}

static void try_next_redis_place(struct redis_finder *finder, const char *why) {
    if (finder->left == 0)
        return;
    redis_finder_skip(finder);
    finder->left--;
    ask_redis_place(finder, why);
}

/* --- the answer --- */

static void explain_topology(const struct redis_finder *finder, struct error *error) {
    if (strstr(error->text, "cluster support disabled") != NULL)
        error_set(error, "it is no Redis Cluster: set adapter.driver to redis");
    error_prefix(error, "Redis at %s:%u (%s)", finder->place.host, finder->place.port, finder->access->key);
}

static void on_redis_topology(struct redis_request *request, const struct redis_value *value) {
    struct redis_finder *finder = container_of(request, struct redis_finder, request);
    struct error error;

    if (value == NULL) /* `lost` tells why */
        return;
    if (redis_topology_read(&finder->topology, value, &finder->place, &error)) {
        redis_finder_close(finder);
        finder->next = 0;
        for (size_t i = 0; i < finder->topology.master_count; i++)
            if (redis_place_equal(&finder->topology.masters[i], &finder->place))
                finder->next = i;
        finder->events.found(finder->events.context, &finder->place);
        return;
    }
    explain_topology(finder, &error);
    redis_pipeline_close(&finder->pipeline);
    try_next_redis_place(finder, error.text);
}

static void on_finder_up(void *context) {
    static const struct slice words[] = {SLICE_INIT("CLUSTER"), SLICE_INIT("SLOTS")};
    struct redis_finder *finder = context;

    finder->request.answered = on_redis_topology;
    redis_pipeline_request(&finder->pipeline, &finder->request, words, 2);
    redis_pipeline_flush(&finder->pipeline);
}

static void on_finder_lost(void *context, const char *why) {
    try_next_redis_place(context, why);
}

/* --- asking --- */

/* Asks the next place; without one, or without time, the question has failed for the reason of the last. */
static void ask_redis_place(struct redis_finder *finder, const char *why) {
    uint64_t now_ms = loop_now_ms(finder->loop);

    if (finder->left == 0 || now_ms >= finder->ends_ms) {
        finder->left = 0;
        finder->events.failed(finder->events.context, why);
        return;
    }
    finder->place = finder->next < finder->topology.master_count
                        ? finder->topology.masters[finder->next]
                        : finder->seeds[finder->next - finder->topology.master_count];
    redis_pipeline_open(&finder->pipeline, &finder->place, finder->access,
                        (finder->ends_ms - now_ms + finder->left - 1) / finder->left);
}

void redis_finder_ask(struct redis_finder *finder, uint64_t timeout_ms) {
    redis_finder_close(finder);
    finder->left = redis_finder_place_count(finder);
    finder->ends_ms = loop_now_ms(finder->loop) + timeout_ms;
    ask_redis_place(finder, "no time is left");
}

void redis_finder_init(struct redis_finder *finder, struct loop *loop, const struct config *config,
                       const struct redis_access *access, const struct redis_finder_events *events) {
    const struct redis_pipeline_events pipeline_events = {
        .up = on_finder_up, .lost = on_finder_lost, .context = finder};
    struct config_redis_server server;
    const char *key;
    uint32_t random;

    *finder = (struct redis_finder){.loop = loop, .events = *events, .access = access};
    redis_pipeline_init(&finder->pipeline, loop, &pipeline_events);
    for (size_t i = 0; config_redis_seed(config, i, &server, &key); i++) {
        finder->seeds = alloc_array(finder->seeds, i + 1, sizeof *finder->seeds);
        redis_place_set(&finder->seeds[i], slice_of(server.host), server.port);
        finder->seed_count++;
        config_redis_server_dispose(&server);
    }
    /* Not all nodes of ours are to load the same one. */
    random_bytes(&random, sizeof random);
    finder->next = random % finder->seed_count;
}

void redis_finder_dispose(struct redis_finder *finder) {
    redis_finder_close(finder);
    redis_topology_dispose(&finder->topology);
    free(finder->seeds);
}
