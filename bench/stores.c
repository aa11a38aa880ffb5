/*
 * Connection latency with apps in a store. bench/stores.mjs starts the store, makes it slow or freezes it, and counts
 * its queries.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "connect_probe.h"
#include "load_clients.h"
#include "measure.h"
#include "report.h"
#include "scenario.h"

#define FIRST_CONNECTS 10000
#define UNKNOWN_KEYS 1000
#define UNKNOWN_ROUNDS 20
#define IN_FLIGHT 100
#define RATE_STEADY 500
#define RATE_OUTAGE 50
#define CLIENTS_OUTAGE 200
#define PLACES 1000 /* maximum number of probes in progress */
#define ANSWER_NS 30000000000u

static struct connect_probes probes_of(struct bench *bench, struct histogram *latencies) {
    return (struct connect_probes){.target = &bench->target, .poller = &bench->poller, .latencies = latencies};
}

/* Runs the poller until no probe is in `state`, for at most ANSWER_NS; a timeout fails the row later. */
static void run_while_any(struct connect_probes *probes, enum probe_state state) {
    uint64_t end_ns = clock_monotonic_ns() + ANSWER_NS;

    while (probes->in_state[state] != 0 && clock_monotonic_ns() < end_ns)
        poller_turn(probes->poller);
}

/* Fills in the result of `expected` probes; an unexpected or missing answer fails the row. */
static void judge(struct row *row, const struct connect_probes *probes, uint64_t answers, uint64_t expected) {
    row->failed = probes->wrong != 0 || answers != expected;
    if (probes->wrong != 0)
        snprintf(row->note, sizeof row->note, "%llu answers were not the expected, the first for %s",
                 (unsigned long long)probes->wrong, probes->first_wrong);
    else if (answers != expected)
        snprintf(row->note, sizeof row->note, "%llu of %llu got no answer", (unsigned long long)(expected - answers),
                 (unsigned long long)expected);
    row->latencies = probes->latencies;
}

void scenario_first_connects(struct bench *bench) {
    struct row row = row_init("first-connects", "connection");
    struct connect_probes probes = probes_of(bench, alloc_zero(sizeof(struct histogram)));
    struct connect_probe *all = alloc_zero(FIRST_CONNECTS * sizeof all[0]);

    bench->poller.mode = POLLER_CONNECT;
    for (unsigned i = 0; i < FIRST_CONNECTS; i++) {
        probe_connect(&all[i], &probes, 0);
        if (i % IN_FLIGHT == 0)
            run_while_any(&probes, PROBE_CONNECTING);
    }
    run_while_any(&probes, PROBE_CONNECTING);
    for (unsigned i = 0; i < FIRST_CONNECTS; i++)
        if (all[i].state == PROBE_READY)
            probe_ask(&all[i]);
    run_while_any(&probes, PROBE_ASKING);
    judge(&row, &probes, probes.latencies->count, FIRST_CONNECTS);
    snprintf(row.load, sizeof row.load, "%d connections for one app", FIRST_CONNECTS);
    report_row(&row);
    for (unsigned i = 0; i < FIRST_CONNECTS; i++)
        probe_end(&all[i]);
    free(all);
    free(probes.latencies);
    bench->poller.mode = POLLER_GATHER;
}

/*
 * Runs `count` probes over the app keys 1 to `keys` in turn (0: the target's own key), at a rate of `per_second` (0:
 * IN_FLIGHT at a time). Returns the number of started probes.
 */
static uint64_t probe_all(struct connect_probes *probes, unsigned keys, uint64_t count, unsigned per_second) {
    struct connect_probe *places = alloc_zero(PLACES * sizeof places[0]);
    unsigned limit = per_second != 0 ? PLACES : IN_FLIGHT;
    uint64_t started = 0, start_ns = clock_monotonic_ns(), moved_ns = start_ns;
    bool any = true;

    probes->poller->mode = POLLER_CONNECT;
    while (any && clock_monotonic_ns() - moved_ns < ANSWER_NS) {
        uint64_t now_ns = clock_monotonic_ns();
        any = started < count;
        for (unsigned i = 0; i < limit; i++) {
            struct connect_probe *probe = &places[i];
            if (probe->state == PROBE_READY)
                probe_ask(probe);
            if (probe_under_way(probe)) {
                any = true;
                continue;
            }
            probe_end(probe);
            if (started < count && (per_second == 0 || now_ns - start_ns >= started * 1000000000u / per_second)) {
                probe_connect(probe, probes, keys != 0 ? (unsigned)(started % keys) + 1 : 0);
                started++;
                moved_ns = now_ns;
            }
        }
        poller_turn(probes->poller);
    }
    for (unsigned i = 0; i < PLACES; i++)
        probe_end(&places[i]);
    free(places);
    probes->poller->mode = POLLER_GATHER;
    return started;
}

void scenario_unknown_keys(struct bench *bench) {
    struct row row = row_init("unknown-keys", "connection");
    struct connect_probes probes = probes_of(bench, alloc_zero(sizeof(struct histogram)));
    uint64_t start_ns = clock_monotonic_ns();

    probes.expected_code = 4001;
    probe_all(&probes, UNKNOWN_KEYS, UNKNOWN_KEYS * UNKNOWN_ROUNDS, 0);
    judge(&row, &probes, probes.latencies->count, UNKNOWN_KEYS * UNKNOWN_ROUNDS);
    snprintf(row.load, sizeof row.load, "%d keys, %d times each", UNKNOWN_KEYS, UNKNOWN_ROUNDS);
    row.per_second = (double)probes.latencies->count / ((double)(clock_monotonic_ns() - start_ns) / 1e9);
    report_row(&row);
    free(probes.latencies);
}

/* Connects once to every app, then at a steady rate, and reports the row of the latter. */
static void steady_row(struct bench *bench, struct row *row, unsigned per_second) {
    struct connect_probes first = probes_of(bench, NULL), probes;
    uint64_t count = bench->duration_ns / 1000000000u * per_second;
    struct measure measure;

    probe_all(&first, bench->keys, bench->keys != 0 ? bench->keys : 1, 0);
    probes = probes_of(bench, alloc_zero(sizeof(struct histogram)));
    measure_begin(&measure, &bench->target);
    count = probe_all(&probes, bench->keys, count, per_second);
    measure_end(&measure, &bench->target);
    probes.wrong += first.wrong;
    judge(row, &probes, probes.latencies->count, count);
    row->per_second = (double)count / ((double)measure.wall_ns / 1e9);
    row->generator_share = (double)measure.generator_cpu_ns / (double)measure.wall_ns;
    report_row(row);
    free(probes.latencies);
}

void scenario_steady(struct bench *bench) {
    struct row row = row_init("steady", "connection");

    snprintf(row.load, sizeof row.load, "%u apps", bench->keys != 0 ? bench->keys : 1);
    steady_row(bench, &row, RATE_STEADY);
}

void scenario_outage(struct bench *bench) {
    struct row row = row_init("outage", "connection");
    struct load_clients clients;

    snprintf(row.load, sizeof row.load, "%d clients", CLIENTS_OUTAGE);
    load_clients_init(&clients, &bench->target, &bench->poller, "bench-outage", 1, CLIENTS_OUTAGE);
    load_clients_open(&clients, IN_FLIGHT);
    steady_row(bench, &row, RATE_OUTAGE);
    load_clients_close(&clients, IN_FLIGHT);
    load_clients_dispose(&clients);
}
