#include "cluster/cluster.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "cluster/app_changes.h"
#include "cluster/cached_events.h"
#include "cluster/claims.h"
#include "cluster/cluster_core.h"
#include "cluster/incoming.h"
#include "cluster/key_store.h"
#include "cluster/publisher.h"
#include "cluster/quotas.h"
#include "cluster/requests.h"
#include "cluster/roster/roster_reports.h"
#include "cluster/state/state.h"

/* How long the start waits for the other nodes, and how often it looks for them. */
#define CLUSTER_START_MS 2000
#define CLUSTER_LOOK_MS 20
/* What the parts get to say what they still have to at the end, and the driver to write it. */
#define CLUSTER_LEAVE_MS 1000
#define CLUSTER_CLOSE_MS 1000

struct cluster {
    struct cluster_core core;
    struct node_messages *messages;
    struct requests *requests;
    struct publisher *publisher;
    struct incoming *incoming;
    struct claims *claims; /* NULL: keys of publishes are known to each node only */
    struct quotas *quotas;
    struct state *state;
    struct app_changes_part *app_changes;
    struct loop_message start_message, leave_message;
    struct loop_timer listen_timer, leave_timer;
    bool started, left; /* of the main thread */
    bool closing;
    sem_t may_listen, closed;
};

/* --- building --- */

static void close_cluster_bus(void *context);
static void on_cluster_down(void *context);

static void dispose_cluster(struct cluster *cluster) {
    struct cluster_core *core = &cluster->core;

    cluster_core_dispose_parts(core);
    if (core->bus != NULL)
        core->bus->driver->destroy(core->bus);
    loop_destroy(core->loop);
    subjects_dispose(&core->subjects);
    sem_destroy(&cluster->may_listen);
    sem_destroy(&cluster->closed);
    free(cluster);
}

static void on_cluster_turn_end(void *context) {
    struct cluster_core *core = context;

    cluster_core_tell_turn_end(core);
    core->bus->driver->flush(core->bus);
}

static void begin_subjects(struct cluster_core *core) {
    const struct config *config = core->config;
    const struct slice driver = slice_of(config->adapter.driver);

    if (slice_equal(driver, SLICE("nats")))
        subjects_init(&core->subjects, SUBJECT_NATS, slice_of(config->adapter.nats.prefix));
    else if (slice_equal(driver, SLICE("redis-cluster")))
        subjects_init(&core->subjects, SUBJECT_PLAIN, slice_of(config->adapter.cluster.prefix));
    else
        subjects_init(&core->subjects, SUBJECT_PLAIN, slice_of(config->adapter.redis.prefix));
}

/* One line for each part. */
static void create_parts(struct cluster *cluster, struct slice address, struct webhook_outlet *outlet) {
    const struct cluster_part own = {.down = on_cluster_down, .context = cluster};

    cluster->messages = node_messages_create(&cluster->core, address);
    cluster->publisher = publisher_create(&cluster->core);
    cluster->incoming = incoming_create(&cluster->core);
    cluster->quotas = quotas_create(&cluster->core);
    cluster->app_changes = app_changes_create(&cluster->core, cluster->publisher);
    cluster->state = state_create(&cluster->core, roster_reports_create(&cluster->core, outlet));
    cluster->requests = requests_create(&cluster->core, state_interests(cluster->state));
    cluster_core_add_part(&cluster->core, &own);
}

bool cluster_create(const struct cluster_process *process, struct cluster **created, struct error *error) {
    const struct slice name = slice_of(process->config->adapter.driver);
    const struct bus_driver *driver = bus_driver_find(name);
    struct bus_events events;
    struct cluster *cluster;

    *created = NULL;
    if (!config_has_adapter(process->config))
        return true;
    if (driver == NULL)
        return error_set(error, "adapter.driver: this build has no adapter \"%.*s\"", SLICE_ARGS(name));
    cluster = alloc_zero(sizeof *cluster);
    sem_init(&cluster->may_listen, 0, 0);
    sem_init(&cluster->closed, 0, 0);
    cluster->core.config = process->config;
    cluster->core.workers = process->workers;
    cluster->core.apps = process->apps;
    cluster->core.channels = process->channels;
    cluster->core.reclaimer = process->reclaimer;
    cluster->core.all_left = close_cluster_bus;
    cluster->core.all_left_context = cluster;
    atomic_init(&cluster->core.down_since_ms, clock_monotonic_ms());
    events = cluster_core_events(&cluster->core);
    cluster->core.loop = loop_create(error);
    if (cluster->core.loop != NULL)
        cluster->core.bus = driver->create(cluster->core.loop, process->config, &events, error);
    if (cluster->core.bus == NULL) {
        dispose_cluster(cluster);
        return false;
    }
    begin_subjects(&cluster->core);
    create_parts(cluster, process->address, process->webhooks);
    if (!cached_events_create(&cluster->core, error)) {
        dispose_cluster(cluster);
        return false;
    }
    cluster->claims = claims_create(&cluster->core);
    loop_set_end_of_turn(cluster->core.loop, on_cluster_turn_end, &cluster->core);
    *created = cluster;
    return true;
}

/* --- the start --- */

static void on_listen_timer(struct loop_timer *timer) {
    struct cluster *cluster = container_of(timer, struct cluster, listen_timer);

    if (node_messages_are_settled(cluster->messages))
        sem_post(&cluster->may_listen);
    else
        loop_timer_set(cluster->core.loop, timer, CLUSTER_LOOK_MS);
}

/* The bus cannot be reached: this node serves its clients alone. */
static void on_cluster_down(void *context) {
    struct cluster *cluster = context;

    if (!loop_timer_is_set(&cluster->listen_timer))
        return;
    loop_timer_end(cluster->core.loop, &cluster->listen_timer);
    sem_post(&cluster->may_listen);
}

static void start_cluster_bus(struct loop *loop, struct loop_message *message) {
    struct cluster *cluster = container_of(message, struct cluster, start_message);

    cluster->listen_timer.fire = on_listen_timer;
    loop_timer_set(loop, &cluster->listen_timer, CLUSTER_LOOK_MS);
    cluster->core.bus->driver->start(cluster->core.bus);
    if (cluster->core.store != NULL)
        cluster->core.store->driver->start(cluster->core.store);
}

bool cluster_start(struct cluster *cluster, struct error *error) {
    if (cluster == NULL)
        return true;
    cluster->start_message.handle = start_cluster_bus;
    loop_post(cluster->core.loop, &cluster->start_message);
    cluster->started = loop_start(cluster->core.loop, error);
    return cluster->started;
}

/* Waits until the cluster's thread posts, or the time is over. */
static void wait_for_post(sem_t *posted, uint64_t most_ms) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(most_ms / 1000);
    while (sem_clockwait(posted, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
        ;
}

void cluster_wait(struct cluster *cluster) {
    if (cluster != NULL)
        wait_for_post(&cluster->may_listen, CLUSTER_START_MS);
}

/* --- the end --- */

static void on_cluster_bus_closed(void *context) {
    struct cluster *cluster = context;

    sem_post(&cluster->closed);
}

static void close_cluster_bus(void *context) {
    struct cluster *cluster = context;

    if (cluster->closing)
        return;
    cluster->closing = true;
    loop_timer_end(cluster->core.loop, &cluster->listen_timer);
    loop_timer_end(cluster->core.loop, &cluster->leave_timer);
    node_messages_say_bye(cluster->messages);
    cluster->core.bus->driver->close(cluster->core.bus, CLUSTER_CLOSE_MS, on_cluster_bus_closed, cluster);
}

static void on_leave_timer(struct loop_timer *timer) {
    close_cluster_bus(container_of(timer, struct cluster, leave_timer));
}

static void leave_cluster(struct loop *loop, struct loop_message *message) {
    struct cluster *cluster = container_of(message, struct cluster, leave_message);

    cluster->leave_timer.fire = on_leave_timer;
    loop_timer_set(loop, &cluster->leave_timer, CLUSTER_LEAVE_MS);
    cluster_core_tell_leaving(&cluster->core);
}

void cluster_leave(struct cluster *cluster) {
    if (cluster == NULL || !cluster->started || cluster->left)
        return;
    cluster->left = true;
    cluster->leave_message.handle = leave_cluster;
    loop_post(cluster->core.loop, &cluster->leave_message);
    loop_wake(cluster->core.loop);
    wait_for_post(&cluster->closed, CLUSTER_LEAVE_MS + CLUSTER_CLOSE_MS);
}

void cluster_stop(struct cluster *cluster) {
    if (cluster != NULL)
        loop_stop(cluster->core.loop);
}

void cluster_destroy(struct cluster *cluster) {
    if (cluster == NULL)
        return;
    cluster_stop(cluster);
    cluster->core.ended = true;
    loop_settle(cluster->core.loop);
    dispose_cluster(cluster);
}

/* --- any thread --- */

bool cluster_ask(struct cluster *cluster, struct question *question) {
    return cluster != NULL && requests_ask(cluster->requests, question);
}

const char *cluster_fault(const struct cluster *cluster) {
    if (cluster == NULL)
        return NULL;
    if (atomic_load(&cluster->core.down_since_ms) != 0)
        return "bus";
    return node_messages_in_trouble(cluster->messages) ? "nodes" : NULL;
}

unsigned cluster_list(struct cluster *cluster, struct node_entry list[NODES_MAX]) {
    return node_messages_list(cluster->messages, list);
}

uint64_t cluster_app_connections(struct cluster *cluster, struct slice app) {
    return cluster != NULL ? quotas_of_others(cluster->quotas, app) : 0;
}

void cluster_app_changed(struct cluster *cluster, struct slice id, struct slice old_key, struct slice new_key,
                         bool meant) {
    if (cluster != NULL)
        app_changes_note(cluster->app_changes, id, old_key, new_key, meant);
}

struct claims *cluster_claims(const struct cluster *cluster) {
    return cluster != NULL ? cluster->claims : NULL;
}

static void add_up_questions(const struct cluster *cluster, struct cluster_metrics *metrics) {
    static const enum message_kind requests[] = {MESSAGE_STATE_REQUEST, MESSAGE_GAP_REQUEST, MESSAGE_API_REQUEST};
    static const enum message_kind responses[] = {MESSAGE_STATE_PART, MESSAGE_API_ANSWER};
    const struct state_counters *counters = state_counters_of(cluster->state);

    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        metrics->requests_sent += metrics->kinds[requests[i]].sent;
        metrics->requests_received += metrics->kinds[requests[i]].received;
    }
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++)
        metrics->responses_received += metrics->kinds[responses[i]].received;
    for (unsigned i = 0; i < STATE_ANSWER_BUCKETS; i++)
        metrics->answered[i] = counter_read(&counters->answered[i]);
    metrics->answered_ms = counter_read(&counters->answered_ms);
    metrics->unanswered = counter_read(&counters->unanswered);
    metrics->gaps = counter_read(&counters->gaps);
    metrics->state_bytes = counter_read(&counters->answer_bytes);
}

void cluster_read_metrics(const struct cluster *cluster, struct cluster_metrics *metrics) {
    const struct cluster_core *core = &cluster->core;
    uint64_t down_since_ms = atomic_load(&core->down_since_ms), now_ms = clock_monotonic_ms();

    *metrics = (struct cluster_metrics){
        .alive = (unsigned)__builtin_popcountll(atomic_load(&core->alive)) + 1,
        .bus_up = down_since_ms == 0,
        .outages = counter_read(&core->outages),
        .outage_ms = counter_read(&core->outage_ms) +
                     (down_since_ms != 0 && now_ms > down_since_ms ? now_ms - down_since_ms : 0),
        .longest_turn_us = loop_longest_turn_us(core->loop),
        .longest_turn_cpu_us = loop_longest_turn_cpu_us(core->loop),
        .malformed = counter_read(&core->malformed),
        .skipped = counter_read(&core->skipped),
        .dropped = counter_read(&core->dropped),
        .unsent = counter_read(&core->unsent),
    };
    for (unsigned kind = 0; kind < MESSAGE_KINDS; kind++)
        metrics->kinds[kind] = (struct cluster_kind_metrics){
            .received = counter_read(&core->kinds[kind].received),
            .received_bytes = counter_read(&core->kinds[kind].received_bytes),
            .sent = counter_read(&core->kinds[kind].sent),
            .sent_bytes = counter_read(&core->kinds[kind].sent_bytes),
        };
    publisher_read_stats(cluster->publisher, &metrics->publisher);
    incoming_read_stats(cluster->incoming, &metrics->incoming);
    cached_events_read_stats(core->cached_events, &metrics->cached_events);
    add_up_questions(cluster, metrics);
}
