/*
 * Cost of connections: memory of idle ones, CPU of thousands that arrive at once, and publishing without any.
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
#define STORM_CONNECTIONS 10000
#define MANY_CHANNELS 100
#define IN_FLIGHT 256
#define SLICES 5
#define WARM_UP_NS 100000000u

/* Runs every path of the server once: memory allocated at first use must not count as memory of connections. */
static void warm_up(struct bench *bench) {
    struct load_clients clients;

    load_clients_init(&clients, &bench->target, &bench->poller, "bench-warm-up", MANY_CHANNELS, WARM_UP_CONNECTIONS);
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

    warm_up(bench);
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

static void storm_row(struct bench *bench, unsigned channels) {
    struct row row = row_init("storm", "connection");
    struct measure opening, closing;
    struct load_clients clients;

    load_clients_init(&clients, &bench->target, &bench->poller, "bench-storm", channels, STORM_CONNECTIONS);
    clients.latencies = alloc_zero(sizeof *clients.latencies);
    measure_begin(&opening, &bench->target);
    load_clients_open(&clients, IN_FLIGHT);
    measure_end(&opening, &bench->target);
    measure_begin(&closing, &bench->target);
    load_clients_close(&clients, IN_FLIGHT);
    measure_end(&closing, &bench->target);

    snprintf(row.load, sizeof row.load, "%d connections, %u channel%s", STORM_CONNECTIONS, channels,
             channels == 1 ? "" : "s");
    row.per_second = STORM_CONNECTIONS / ((double)opening.wall_ns / 1e9);
    row.generator_share = (double)opening.generator_cpu_ns / (double)opening.wall_ns;
    row.latencies = clients.latencies;
    if (bench->target.pid != 0) {
        row.cpu_us = (double)opening.server_cpu_ns / STORM_CONNECTIONS / 1e3;
        row.server_share = (double)opening.server_cpu_ns / (double)opening.wall_ns;
        snprintf(row.note, sizeof row.note, "and %.1f us to close it",
                 (double)closing.server_cpu_ns / STORM_CONNECTIONS / 1e3);
    }
    report_row(&row);
    free(clients.latencies);
    load_clients_dispose(&clients);
}

void scenario_storm(struct bench *bench) {
    warm_up(bench);
    storm_row(bench, MANY_CHANNELS);
    storm_row(bench, 1);
}

static void publish_for(struct bench *bench, struct publishing *publishing, struct publisher *publishers,
                        unsigned count, uint64_t duration_ns) {
    uint64_t end_ns = clock_monotonic_ns() + duration_ns;

    publishing->answered = 0;
    publishing->running = true;
    for (unsigned i = 0; i < count; i++)
        publisher_send(&publishers[i]);
    while (clock_monotonic_ns() < end_ns)
        poller_turn(&bench->poller);
    publishing->running = false;
    while (publishing->outstanding != 0)
        poller_turn(&bench->poller);
}

static void publish_row(struct bench *bench, unsigned connections) {
    struct row row = row_init("publish-only", "publish");
    struct publishing publishing = {
        .target = &bench->target, .poller = &bench->poller, .channel = "bench-publish-only"};
    struct publisher *publishers = alloc_zero(connections * sizeof publishers[0]);
    double per_second[SLICES], cpu_ns[SLICES];
    struct measure total = {0}, slice;

    for (unsigned i = 0; i < connections; i++)
        publisher_open(&publishers[i], &publishing, i);
    publish_for(bench, &publishing, publishers, connections, WARM_UP_NS);
    publishing.latencies = alloc_zero(sizeof *publishing.latencies);
    for (unsigned i = 0; i < SLICES; i++) {
        measure_begin(&slice, &bench->target);
        publish_for(bench, &publishing, publishers, connections, bench->duration_ns / SLICES);
        measure_end(&slice, &bench->target);
        per_second[i] = (double)publishing.answered / ((double)slice.wall_ns / 1e9);
        cpu_ns[i] = (double)slice.server_cpu_ns / (double)publishing.answered;
        total.wall_ns += slice.wall_ns;
        total.server_cpu_ns += slice.server_cpu_ns;
        total.generator_cpu_ns += slice.generator_cpu_ns;
    }
    snprintf(row.load, sizeof row.load, "no subscribers, %u connection%s", connections, connections == 1 ? "" : "s");
    row.per_second = measure_median(per_second, SLICES);
    row.generator_share = (double)total.generator_cpu_ns / (double)total.wall_ns;
    row.latencies = publishing.latencies;
    if (bench->target.pid != 0) {
        row.cpu_us = measure_median(cpu_ns, SLICES) / 1e3;
        row.server_share = (double)total.server_cpu_ns / (double)total.wall_ns;
    }
    report_row(&row);
    for (unsigned i = 0; i < connections; i++)
        publisher_close(&publishers[i]);
    free(publishers);
    free(publishing.latencies);
}

void scenario_publish_only(struct bench *bench) {
    enum poller_mode mode = bench->poller.mode;

    bench->poller.mode = POLLER_PROMPT_ONLY;
    publish_row(bench, 1);
    publish_row(bench, 32);
    bench->poller.mode = mode;
}
