#include "cluster/cluster.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "cluster/cluster_core.h"

/* How long the start waits for the other nodes, and the end for what is still to be said. */
#define CLUSTER_START_MS 2000
#define CLUSTER_LEAVE_MS 1000
/* What a driver gets to write what was queued, at the end. */
#define CLUSTER_CLOSE_MS 1000

struct cluster {
    struct cluster_core core;
    struct loop_message start_message, leave_message;
    struct loop_timer leave_timer;
    bool started, left; /* of the main thread */
    bool may_listen, closing;
    sem_t may_listen_posted, closed;
};

#define EACH_PART(cluster, part)                                                                                       \
    for (struct cluster_part *part = (cluster)->core.parts; part < (cluster)->core.parts + (cluster)->core.part_count; \
         part++)

/* --- what the bus tells --- */

static void allow_listening(struct cluster *cluster) {
    if (!cluster->may_listen)
        sem_post(&cluster->may_listen_posted);
    cluster->may_listen = true;
}

static void on_bus_up(void *context) {
    struct cluster *cluster = context;

    log_info("cluster", "the bus is up");
    cluster->core.up = true;
    atomic_store(&cluster->core.is_up, true);
    EACH_PART(cluster, part)
    if (part->up != NULL)
        part->up(part->context);
    allow_listening(cluster);
}

static void on_bus_down(void *context, const char *why) {
    struct cluster *cluster = context;

    log_warning("cluster", "the bus is down: %s", why);
    cluster->core.up = false;
    atomic_store(&cluster->core.is_up, false);
    EACH_PART(cluster, part)
    if (part->down != NULL)
        part->down(part->context);
    allow_listening(cluster);
}

static void on_bus_in_force(void *context, struct slice subject) {
    struct cluster *cluster = context;

    EACH_PART(cluster, part)
    if (part->in_force != NULL)
        part->in_force(part->context, subject);
}

static void on_bus_interrupted(void *context, struct slice subject) {
    struct cluster *cluster = context;

    EACH_PART(cluster, part)
    if (part->interrupted != NULL)
        part->interrupted(part->context, subject);
}

static void on_bus_message(void *context, struct bus_message *message) {
    struct cluster *cluster = context;

    counter_add(&cluster->core.malformed, 1);
    message->release(message);
}

static void on_cluster_turn_end(void *context) {
    struct cluster *cluster = context;

    EACH_PART(cluster, part)
    if (part->end_of_turn != NULL)
        part->end_of_turn(part->context);
    cluster->core.bus->driver->flush(cluster->core.bus);
}

/* --- building --- */

static void close_cluster_bus(void *context);

static void dispose_cluster(struct cluster *cluster) {
    struct cluster_core *core = &cluster->core;

    while (core->part_count > 0) {
        struct cluster_part *part = &core->parts[--core->part_count];
        if (part->dispose != NULL)
            part->dispose(part->context);
    }
    if (core->bus != NULL)
        core->bus->driver->destroy(core->bus);
    loop_destroy(core->loop);
    sem_destroy(&cluster->may_listen_posted);
    sem_destroy(&cluster->closed);
    free(cluster);
}

bool cluster_create(const struct cluster_process *process, struct cluster **created, struct error *error) {
    const struct slice name = slice_of(process->config->adapter.driver);
    const struct bus_driver *driver;
    struct cluster *cluster;
    struct bus_events events = {on_bus_up, on_bus_down, on_bus_in_force, on_bus_interrupted, on_bus_message, NULL};

    *created = NULL;
    if (slice_equal_ignoring_case(name, SLICE("local")))
        return true;
    driver = bus_driver_find(name);
    if (driver == NULL)
        return error_set(error, "adapter.driver: this build has no adapter \"%.*s\"; set it to \"local\" for one node",
                         SLICE_ARGS(name));
    cluster = events.context = alloc_zero(sizeof *cluster);
    sem_init(&cluster->may_listen_posted, 0, 0);
    sem_init(&cluster->closed, 0, 0);
    cluster->core.config = process->config;
    cluster->core.workers = process->workers;
    cluster->core.apps = process->apps;
    cluster->core.channels = process->channels;
    cluster->core.reclaimer = process->reclaimer;
    cluster->core.all_left = close_cluster_bus;
    cluster->core.all_left_context = cluster;
    cluster->core.loop = loop_create(error);
    if (cluster->core.loop != NULL)
        cluster->core.bus = driver->create(cluster->core.loop, process->config, &events, error);
    if (cluster->core.bus == NULL) {
        dispose_cluster(cluster);
        return false;
    }
    loop_set_end_of_turn(cluster->core.loop, on_cluster_turn_end, cluster);
    *created = cluster;
    return true;
}

static void start_cluster_bus(struct loop *loop, struct loop_message *message) {
    struct cluster *cluster = container_of(message, struct cluster, start_message);

    (void)loop;
    cluster->core.bus->driver->start(cluster->core.bus);
}

bool cluster_start(struct cluster *cluster, struct error *error) {
    if (cluster == NULL)
        return true;
    cluster->start_message.handle = start_cluster_bus;
    loop_post(cluster->core.loop, &cluster->start_message);
    cluster->started = loop_start(cluster->core.loop, error);
    return cluster->started;
}

/* Waits for the cluster's thread to post. */
static void wait_for_post(sem_t *posted, uint64_t most_ms) {
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(most_ms / 1000);
    while (sem_clockwait(posted, CLOCK_MONOTONIC, &until) != 0 && errno == EINTR)
        ;
}

void cluster_wait(struct cluster *cluster) {
    if (cluster != NULL)
        wait_for_post(&cluster->may_listen_posted, CLUSTER_START_MS);
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
    loop_timer_end(cluster->core.loop, &cluster->leave_timer);
    cluster->core.bus->driver->close(cluster->core.bus, CLUSTER_CLOSE_MS, on_cluster_bus_closed, cluster);
}

static void on_leave_timer(struct loop_timer *timer) {
    close_cluster_bus(container_of(timer, struct cluster, leave_timer));
}

static void leave_cluster(struct loop *loop, struct loop_message *message) {
    struct cluster *cluster = container_of(message, struct cluster, leave_message);

    cluster->leave_timer.fire = on_leave_timer;
    loop_timer_set(loop, &cluster->leave_timer, CLUSTER_LEAVE_MS);
    cluster->core.leaving = 1; /* of this function, so that it comes to the end once */
    EACH_PART(cluster, part)
    if (part->leaving != NULL)
        cluster->core.leaving++;
    EACH_PART(cluster, part)
    if (part->leaving != NULL)
        part->leaving(part->context);
    cluster_core_left(&cluster->core);
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
    loop_settle(cluster->core.loop);
    dispose_cluster(cluster);
}

/* --- any thread --- */

const char *cluster_fault(const struct cluster *cluster) {
    return cluster == NULL || atomic_load(&cluster->core.is_up) ? NULL : "bus";
}

unsigned cluster_list(struct cluster *cluster, struct cluster_node list[NODES_MAX]) {
    (void)cluster;
    (void)list;
    return 0;
}
