/*
 * Cost of connections: memory of idle ones, CPU of thousands that arrive at once, and publishing without any.
 *
 * Arriving and publishing are measured in slices, in turns with the reference (reference.h). The ratio of a row is the
 * median of the ratios of neighbouring slices, since the speed of a shared machine changes from second to second.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "load_clients.h"
#include "measure.h"
#include "process.h"
#include "publisher.h"
#include "report.h"
#include "scenario.h"

#define IDLE_CONNECTIONS 15000
#define IDLE_SETTLE_NS 1000000000u
#define WARM_UP_CONNECTIONS 500
#define SLICES 10
#define STORM_SLICES 8
#define STORM_CONNECTIONS 1000 /* in a slice; those of earlier slices stay open */
#define MANY_CHANNELS 100
#define IN_FLIGHT 256
#define WARM_UP_NS 100000000u

/* Runs every path of the server once: memory allocated at first use must not count as memory of connections. */
static void warm_up(struct bench *bench, const struct target *target) {
    struct load_clients clients;

    load_clients_init(&clients, target, &bench->poller, "bench-warm-up", MANY_CHANNELS, WARM_UP_CONNECTIONS);
    load_clients_open(&clients, IN_FLIGHT);
    load_clients_close(&clients, IN_FLIGHT);
    load_clients_dispose(&clients);
}

static uint64_t memory_of(const struct target *target) {
    measure_pause(IDLE_SETTLE_NS);
    return target->pid != 0 ? process_memory_bytes(target->pid) : 0;
}

void scenario_idle(struct bench *bench) {
    struct row row = row_init("idle", "connection");
    uint64_t before, after;
    struct load_clients clients;

    warm_up(bench, &bench->target);
    load_clients_init(&clients, &bench->target, &bench->poller, "bench-idle", MANY_CHANNELS, IDLE_CONNECTIONS);
    before = memory_of(&bench->target);
    load_clients_open(&clients, IN_FLIGHT);
    after = memory_of(&bench->target);
    load_clients_close(&clients, IN_FLIGHT);
    load_clients_dispose(&clients);
    snprintf(row.load, sizeof row.load, "%d connections, %d channels", IDLE_CONNECTIONS, MANY_CHANNELS);
    if (bench->target.pid != 0) {
        row.bytes = ((double)after - (double)before) / IDLE_CONNECTIONS;
        snprintf(row.note, sizeof row.note, "a connection; %.1f MB before, %.1f MB with them", (double)before / 1048576,
                 (double)after / 1048576);
    }
    report_row(&row);
}

/* Figures of one server, slice by slice. */
struct figures {
    double per_second[SLICES], cpu_ns[SLICES];
    unsigned slices;
    struct measure total;
};

/* Adds a slice in which the server handled `units`. */
static void figures_add(struct figures *figures, const struct measure *slice, double units) {
    figures->per_second[figures->slices] = units / ((double)slice->wall_ns / 1e9);
    figures->cpu_ns[figures->slices++] = (double)slice->server_cpu_ns / units;
    figures->total.wall_ns += slice->wall_ns;
    figures->total.server_cpu_ns += slice->server_cpu_ns;
    figures->total.generator_cpu_ns += slice->generator_cpu_ns;
}

/* Returns the median of the ratios of CPU time of neighbouring slices. */
static double ratio_of(const struct figures *server, const struct figures *reference) {
    double ratios[SLICES];

    for (unsigned i = 0; i < server->slices; i++)
        ratios[i] = server->cpu_ns[i] / reference->cpu_ns[i];
    return measure_median(ratios, server->slices);
}

/* Fills in the figures of the row; sorts those of both servers. */
static void fill_row(struct row *row, const struct bench *bench, struct figures *server, struct figures *reference) {
    row->generator_share = (double)server->total.generator_cpu_ns / (double)server->total.wall_ns;
    if (bench->target.pid != 0) {
        row->floor_ratio = ratio_of(server, reference);
        row->cpu_us = measure_median(server->cpu_ns, server->slices) / 1e3;
        row->server_share = (double)server->total.server_cpu_ns / (double)server->total.wall_ns;
    }
    row->per_second = measure_median(server->per_second, server->slices);
    row->floor_us = measure_median(reference->cpu_ns, reference->slices) / 1e3;
}

/* --- connections that arrive at once --- */

/* The connections of one server. */
struct storm {
    const struct target *target;
    struct load_clients clients[STORM_SLICES];
    struct figures opening, closing;
};

static void storm_open_slice(struct storm *storm, struct poller *poller, unsigned channels,
                             struct histogram *latencies) {
    struct load_clients *clients = &storm->clients[storm->opening.slices];
    struct measure slice;

    load_clients_init(clients, storm->target, poller, "bench-storm", channels, STORM_CONNECTIONS);
    clients->latencies = latencies;
    measure_begin(&slice, storm->target);
    load_clients_open(clients, IN_FLIGHT);
    measure_end(&slice, storm->target);
    figures_add(&storm->opening, &slice, STORM_CONNECTIONS);
}

static void storm_close_slice(struct storm *storm) {
    struct load_clients *clients = &storm->clients[storm->closing.slices];
    struct measure slice;

    measure_begin(&slice, storm->target);
    load_clients_close(clients, IN_FLIGHT);
    measure_end(&slice, storm->target);
    figures_add(&storm->closing, &slice, STORM_CONNECTIONS);
    load_clients_dispose(clients);
}

static void storm_row(struct bench *bench, unsigned channels) {
    struct row row = row_init("storm", "connection");
    struct storm server = {.target = &bench->target}, reference = {.target = bench_reference(bench)};
    struct histogram *latencies = alloc_zero(sizeof *latencies);

    for (unsigned i = 0; i < STORM_SLICES; i++) {
        storm_open_slice(&reference, &bench->poller, channels, NULL);
        storm_open_slice(&server, &bench->poller, channels, latencies);
    }
    for (unsigned i = 0; i < STORM_SLICES; i++) {
        storm_close_slice(&reference);
        storm_close_slice(&server);
    }
    snprintf(row.load, sizeof row.load, "%d connections, %u channel%s", STORM_SLICES * STORM_CONNECTIONS, channels,
             channels == 1 ? "" : "s");
    row.latencies = latencies;
    fill_row(&row, bench, &server.opening, &reference.opening);
    if (bench->target.pid != 0) {
        double ratio = ratio_of(&server.closing, &reference.closing);
        snprintf(row.note, sizeof row.note, "and %.1f us to close it, %.2f x the reference",
                 measure_median(server.closing.cpu_ns, STORM_SLICES) / 1e3, ratio);
    }
    report_row(&row);
    free(latencies);
}

void scenario_storm(struct bench *bench) {
    warm_up(bench, &bench->target);
    warm_up(bench, bench_reference(bench));
    storm_row(bench, MANY_CHANNELS);
    storm_row(bench, 1);
}

/* --- publishes that nobody receives --- */

/* The publishers of one server. */
struct publish_side {
    struct publishing publishing;
    struct publisher *publishers;
    unsigned count;
    struct figures figures;
};

static void publish_for(struct publish_side *side, uint64_t duration_ns) {
    struct publishing *publishing = &side->publishing;
    uint64_t end_ns = clock_monotonic_ns() + duration_ns;

    publishing->answered = 0;
    publishing->running = true;
    for (unsigned i = 0; i < side->count; i++)
        publisher_send(&side->publishers[i]);
    while (clock_monotonic_ns() < end_ns)
        poller_turn(publishing->poller);
    publishing->running = false;
    while (publishing->outstanding != 0)
        poller_turn(publishing->poller);
}

static void publish_slice(struct publish_side *side, uint64_t duration_ns) {
    struct measure slice;

    measure_begin(&slice, side->publishing.target);
    publish_for(side, duration_ns);
    measure_end(&slice, side->publishing.target);
    figures_add(&side->figures, &slice, (double)side->publishing.answered);
}

static void publish_side_open(struct publish_side *side, struct bench *bench, const struct target *target,
                              unsigned connections) {
    *side = (struct publish_side){
        .publishing = {.target = target, .poller = &bench->poller, .channel = "bench-publish-only"},
        .count = connections};
    side->publishers = alloc_zero(connections * sizeof side->publishers[0]);
    for (unsigned i = 0; i < connections; i++)
        publisher_open(&side->publishers[i], &side->publishing, i);
    publish_for(side, WARM_UP_NS);
}

static void publish_side_close(struct publish_side *side) {
    for (unsigned i = 0; i < side->count; i++)
        publisher_close(&side->publishers[i]);
    free(side->publishers);
}

static void publish_row(struct bench *bench, unsigned connections) {
    struct row row = row_init("publish-only", "publish");
    struct histogram *latencies = alloc_zero(sizeof *latencies);
    struct publish_side server, reference;

    publish_side_open(&server, bench, &bench->target, connections);
    publish_side_open(&reference, bench, bench_reference(bench), connections);
    server.publishing.latencies = latencies;
    for (unsigned i = 0; i < SLICES; i++) {
        publish_slice(&reference, bench->duration_ns / SLICES);
        publish_slice(&server, bench->duration_ns / SLICES);
    }
    snprintf(row.load, sizeof row.load, "no subscribers, %u connection%s", connections, connections == 1 ? "" : "s");
    row.latencies = latencies;
    fill_row(&row, bench, &server.figures, &reference.figures);
    report_row(&row);
    publish_side_close(&server);
    publish_side_close(&reference);
    free(latencies);
}

void scenario_publish_only(struct bench *bench) {
    enum poller_mode mode = bench->poller.mode;

    bench->poller.mode = POLLER_PROMPT_ONLY;
    publish_row(bench, 1);
    publish_row(bench, 32);
    bench->poller.mode = mode;
}
