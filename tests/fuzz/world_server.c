#include "world_server.h"

#include <stdio.h>

#include "api/api.h"
#include "api/idempotency.h"
#include "base/budget.h"
#include "base/clock.h"
#include "base/log.h"
#include "session/session.h"
#include "world_nodes.h"

#define BEGIN_S UINT64_C(1000000)
#define WALL_S UINT64_C(1700000000)

static struct workers workers;
static struct config config;
static struct session_server sessions;
static struct api api;
static struct http_handler handler;
static uint64_t now_s = BEGIN_S;
static char no_prefix[1];

/* --- the parts, as src/server/server.c connects them --- */

static void accept_websocket(struct http_connection *connection, struct http_request *request, struct slice path,
                             void *context) {
    session_accept(context, connection, request, path);
}

static void apply_changes(struct worker *worker, void *context) {
    (void)context;
    sessions_apply_app_changes(&sessions, worker);
}

static const struct app_manager_hooks hooks = {
    .changed = apply_changes, .free_channels = channel_table_destroy, .channels_empty = channel_table_empty};

static json_t *app_record(unsigned index, const struct world_app *app) {
    char id[2] = {(char)('1' + index), '\0'}, key[5] = {'k', 'e', 'y', id[0], '\0'};
    json_t *webhooks = app->subscription_count ? json_pack("[{s:s, s:[s]}]", "url", "http://127.0.0.1/", "event_types",
                                                           "subscription_count")
                                               : json_array();

    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:i, s:o}", "id", id, "key", key, "secret", WORLD_SECRET, "enabled",
                     app->enabled, "enable_client_messages", app->client_events, "max_presence_members_per_channel",
                     (int)app->max_members, "webhooks", webhooks);
}

static void set_apps(const struct world_app apps[WORLD_APPS]) {
    json_decref(config.app_manager.array_apps);
    config.app_manager.array_apps = json_array();
    for (unsigned i = 0; i < WORLD_APPS; i++)
        if (apps[i].present)
            json_array_append_new(config.app_manager.array_apps, app_record(i, &apps[i]));
}

static void set_clock(void) {
    memory_clock_set(now_s * 1000000000, (WALL_S + now_s) * 1000000000);
}

static void build_api(void) {
    static const struct idempotency_limits limits = {
        .app_keys = 100, .app_bytes = 65536, .keys = 100, .bytes = 65536, .lifetime_ms = 60000};

    api = (struct api){
        .config = &config,
        .apps = sessions.apps,
        .channels = sessions.channels,
        .workers = &workers,
        .draining = &sessions.draining,
        .memory_full = &sessions.memory_full,
        .idempotency = idempotency_create(&limits),
        .unknown_apps = sessions.unknown_apps,
        .on_websocket = accept_websocket,
        .websocket_context = &sessions,
    };
    handler = api_main_handler(&api);
}

void world_start(void) {
    static const struct world_app full = {.present = true, .enabled = true, .client_events = true};
    const struct channel_hub_settings settings = {
        .cache_ttl_s = WORLD_CACHE_TTL_S,
        .group_max_messages = 4,
        .group_max_bytes = 4096,
        .filters = true,
        .show_tags = true,
        /* Few bytes and a short age: texts go all the time. */
        .deltas = {.interval = 3, .min_size = 1, .max_age_s = 20, .max_bytes = 4096},
        .terminate = session_terminate,
        .has_socket_id = session_has_socket_id};

    log_set_level(LOG_ERROR);
    set_clock();
    MUST(workers_create(&workers, WORLD_WORKERS, NULL));
    config.activity_timeout_s = 120;
    config.tag_filtering.enabled = true;
    config.path_prefix = no_prefix;
    config.http_api.request_limit_in_mb = 1;
    config.delta_compression.enabled = true;
    set_apps((const struct world_app[WORLD_APPS]){full, full});
    session_server_init(&sessions);
    sessions.config = &config;
    sessions.apps = app_manager_create(&config, &workers, &hooks, NULL);
    MUST(sessions.apps != NULL);
    sessions.channels = channel_hub_create(&workers, &settings);
    sessions.limits = (struct websocket_limits){
        .output = {.max_messages = WORLD_MAX_MESSAGES}, .max_message_bytes = 8000, .max_frame_bytes = 8000};
    build_api();
}

void world_reload(const struct world_app apps[WORLD_APPS]) {
    struct app_changes changes;

    set_apps(apps);
    MUST(app_manager_reload(sessions.apps, &config, &changes, NULL));
}

/* --- running --- */

struct worker *world_worker(unsigned index) {
    return workers.list[index];
}

struct memory_socket *world_connect(unsigned worker) {
    return loop_connect(workers.list[worker], &handler);
}

void world_begin(bool other_nodes) {
    world_nodes_begin(sessions.channels, &workers, other_nodes);
}

struct app_slot *world_slot(unsigned app) {
    struct app_lookup lookup = {0};
    char id = (char)('1' + app);

    return app_manager_find_by_id(sessions.apps, workers.list[0], (struct slice){&id, 1}, &lookup) == APP_FOUND
               ? lookup.slot
               : NULL;
}

static bool turn_of_worker(unsigned index) {
    struct worker *worker = workers.list[index];
    bool late = worker->now_ms != world_now_ms();

    worker->now_ms = world_now_ms();
    worker->now_ns = worker->now_ms * 1000000;
    if (loop_turn(worker))
        return true;
    if (late)
        worker_turn(worker); /* timers */
    return late;
}

bool world_turn(unsigned index) {
    bool ran = turn_of_worker(index);

    while (world_nodes_answer())
        turn_of_worker(index);
    return ran;
}

void world_tick(void) {
    now_s++;
    set_clock();
    channel_hub_expire(sessions.channels, world_now_ms());
    idempotency_expire(api.idempotency, world_now_ms());
}

uint64_t world_now_ms(void) {
    return now_s * 1000;
}

/* --- what is left --- */

static void count_channel(void *context, struct slice name, struct channel_type type, struct channel_counts counts) {
    (void)context;
    (void)name;
    (void)type;
    (void)counts;
    abort(); /* occupied, although all connections are closed */
}

static uint64_t count_of(struct app_slot *slot, size_t offset) {
    uint64_t sum = 0;

    for (unsigned i = 0; i < WORLD_WORKERS; i++) {
        const struct app_part *part = atomic_load(&slot->parts[i]);
        if (part != NULL)
            sum += counter_read((const struct counter *)((const char *)&part->counters + offset));
    }
    return sum;
}

static void check_slot(struct app_slot *slot, void *context) {
    void *channels = atomic_load(&slot->channels);

    (void)context;
    MUST(budget_app_held(slot->budget) == 0);
    MUST(slot_connections(slot) == 0);
    channel_each(slot, SLICE(""), count_channel, NULL);
    MUST(channels == NULL || channel_table_empty(channels));
    MUST(count_of(slot, offsetof(struct app_counters, connections)) ==
         count_of(slot, offsetof(struct app_counters, disconnections)));
    for (unsigned i = 0; i < CHANNEL_LABEL_COUNT; i++)
        MUST(count_of(slot, offsetof(struct app_counters, subscriptions) + i * sizeof(struct counter)) ==
             count_of(slot, offsetof(struct app_counters, unsubscriptions) + i * sizeof(struct counter)));
}

void world_check_empty(void) {
    budget_settle();
    for (unsigned i = 0; i < BUDGET_KIND_COUNT; i++) {
        if (budget_used(i) == 0)
            continue;
        fprintf(stderr, "WRONG: the account of memory still has %llu bytes of %s\n", (unsigned long long)budget_used(i),
                budget_kind_names[i]);
        abort();
    }
    for (unsigned i = 0; i < WORLD_WORKERS; i++) {
        const struct worker *worker = workers.list[i];
        MUST(worker->stream_count == 0 && !worker_has_work(worker));
        for (unsigned wait = 0; wait < HTTP_WAIT_COUNT; wait++)
            MUST(list_empty(&worker->waiting_http[wait]));
        MUST(counter_read(&worker->counters.accepted) == counter_read(&worker->counters.closed));
        MUST(list_empty(&sessions.parts[i]) && sessions.closing[i] == NULL);
    }
    app_manager_each_slot(sessions.apps, check_slot, NULL);
}
