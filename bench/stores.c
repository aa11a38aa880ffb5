/*
 * How long clients wait for apps that are in a store. The store, its slowness and its faults are somebody else's
 * (bench/stores.mjs), who also counts what it was asked.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "crowd.h"
#include "measure.h"
#include "report.h"
#include "scenario.h"
#include "visit.h"

#define FIRST_CONNECTS 10000
#define UNKNOWN_KEYS 1000
#define UNKNOWN_ROUNDS 20
#define IN_FLIGHT 100
#define RATE_STEADY 500
#define RATE_OUTAGE 50
#define CLIENTS_OUTAGE 200
#define PLACES 1000 /* of visits that are under way at one time */
#define ANSWER_NS 30000000000u

static struct visits visits_of(struct bench *bench, struct histogram *latencies) {
    return (struct visits){.target = &bench->target, .poller = &bench->poller, .latencies = latencies};
}

/* Lets the poller run until no visit is in the state; ends when that takes too long, which the rows then say. */
static void run_while_any(struct visits *visits, enum visit_state state) {
    uint64_t end_ns = clock_monotonic_ns() + ANSWER_NS;

    while (visits->in_state[state] != 0 && clock_monotonic_ns() < end_ns)
        poller_turn(visits->poller);
}

/* Fills in the row what came of `expected` visits. */
static void judge(struct row *row, const struct visits *visits, uint64_t answers, uint64_t expected) {
    row->failed = visits->wrong != 0 || answers != expected;
    if (visits->wrong != 0)
        snprintf(row->note, sizeof row->note, "%llu answers were not the expected, the first for %s",
                 (unsigned long long)visits->wrong, visits->first_wrong);
    else if (answers != expected)
        snprintf(row->note, sizeof row->note, "%llu of %llu got no answer", (unsigned long long)(expected - answers),
                 (unsigned long long)expected);
    row->latencies = visits->latencies;
}

void scenario_first_connects(struct bench *bench) {
    struct row row = row_init("first-connects", "connection");
    struct visits visits = visits_of(bench, alloc_zero(sizeof(struct histogram)));
    struct visit *all = alloc_zero(FIRST_CONNECTS * sizeof all[0]);

    bench->poller.mode = POLLER_CONNECT;
    for (unsigned i = 0; i < FIRST_CONNECTS; i++) {
        visit_connect(&all[i], &visits, 0);
        if (i % IN_FLIGHT == 0)
            run_while_any(&visits, VISIT_CONNECTING);
    }
    run_while_any(&visits, VISIT_CONNECTING);
    for (unsigned i = 0; i < FIRST_CONNECTS; i++)
        if (all[i].state == VISIT_READY)
            visit_ask(&all[i]);
    run_while_any(&visits, VISIT_ASKING);
    judge(&row, &visits, visits.latencies->count, FIRST_CONNECTS);
    snprintf(row.load, sizeof row.load, "%d connections for one app", FIRST_CONNECTS);
    report_row(&row);
    for (unsigned i = 0; i < FIRST_CONNECTS; i++)
        visit_end(&all[i]);
    free(all);
    free(visits.latencies);
    bench->poller.mode = POLLER_GATHER;
}

/*
 * Visits key after key, `rounds` times each of `keys` (0: the target's own), at `per_second` (0: IN_FLIGHT at a time).
 * Returns how many there were.
 */
static uint64_t visit_all(struct visits *visits, unsigned keys, uint64_t count, unsigned per_second) {
    struct visit *places = alloc_zero(PLACES * sizeof places[0]);
    unsigned limit = per_second != 0 ? PLACES : IN_FLIGHT;
    uint64_t started = 0, start_ns = clock_monotonic_ns(), moved_ns = start_ns;
    bool any = true;

    visits->poller->mode = POLLER_CONNECT;
    while (any && clock_monotonic_ns() - moved_ns < ANSWER_NS) {
        uint64_t now_ns = clock_monotonic_ns();
        any = started < count;
        for (unsigned i = 0; i < limit; i++) {
            struct visit *visit = &places[i];
            if (visit->state == VISIT_READY)
                visit_ask(visit);
            if (visit_under_way(visit)) {
                any = true;
                continue;
            }
            visit_end(visit);
            if (started < count && (per_second == 0 || now_ns - start_ns >= started * 1000000000u / per_second)) {
                visit_connect(visit, visits, keys != 0 ? (unsigned)(started % keys) + 1 : 0);
                started++;
                moved_ns = now_ns;
            }
        }
        poller_turn(visits->poller);
    }
    for (unsigned i = 0; i < PLACES; i++)
        visit_end(&places[i]);
    free(places);
    visits->poller->mode = POLLER_GATHER;
    return started;
}

void scenario_unknown_keys(struct bench *bench) {
    struct row row = row_init("unknown-keys", "connection");
    struct visits visits = visits_of(bench, alloc_zero(sizeof(struct histogram)));
    uint64_t start_ns = clock_monotonic_ns();

    visits.expected_code = 4001;
    visit_all(&visits, UNKNOWN_KEYS, UNKNOWN_KEYS * UNKNOWN_ROUNDS, 0);
    judge(&row, &visits, visits.latencies->count, UNKNOWN_KEYS * UNKNOWN_ROUNDS);
    snprintf(row.load, sizeof row.load, "%d keys, %d times each", UNKNOWN_KEYS, UNKNOWN_ROUNDS);
    row.per_second = (double)visits.latencies->count / ((double)(clock_monotonic_ns() - start_ns) / 1e9);
    report_row(&row);
    free(visits.latencies);
}

/* Connects at a steady rate once every app has been asked for, and the row about it. */
static void steady_row(struct bench *bench, struct row *row, unsigned per_second) {
    struct visits first = visits_of(bench, NULL), visits;
    uint64_t count = bench->duration_ns / 1000000000u * per_second;
    struct measure measure;

    visit_all(&first, bench->keys, bench->keys != 0 ? bench->keys : 1, 0);
    visits = visits_of(bench, alloc_zero(sizeof(struct histogram)));
    measure_begin(&measure, &bench->target);
    count = visit_all(&visits, bench->keys, count, per_second);
    measure_end(&measure, &bench->target);
    visits.wrong += first.wrong;
    judge(row, &visits, visits.latencies->count, count);
    row->per_second = (double)count / ((double)measure.wall_ns / 1e9);
    row->generator_share = (double)measure.generator_cpu_ns / (double)measure.wall_ns;
    report_row(row);
    free(visits.latencies);
}

void scenario_steady(struct bench *bench) {
    struct row row = row_init("steady", "connection");

    snprintf(row.load, sizeof row.load, "%u apps", bench->keys != 0 ? bench->keys : 1);
    steady_row(bench, &row, RATE_STEADY);
}

void scenario_outage(struct bench *bench) {
    struct row row = row_init("outage", "connection");
    struct crowd clients;

    snprintf(row.load, sizeof row.load, "%d clients", CLIENTS_OUTAGE);
    crowd_init(&clients, &bench->target, &bench->poller, "bench-outage", 1, CLIENTS_OUTAGE);
    crowd_open(&clients, IN_FLIGHT);
    steady_row(bench, &row, RATE_OUTAGE);
    crowd_close(&clients, IN_FLIGHT);
    crowd_dispose(&clients);
}
