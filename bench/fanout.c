/*
 * Fan-out: all subscribers are on one channel, and closed-loop publishers send to it.
 *
 * A measurement consists of slices, with a floor measurement before and after each. The row reports medians over the
 * slices. The ratio to the floor is computed per slice, since the speed of the machine can halve from one second to the
 * next. At the end of a slice the publishers stop and the subscribers receive the events in flight: a missing event
 * fails the row.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "floor.h"
#include "load_clients.h"
#include "measure.h"
#include "publisher.h"
#include "report.h"
#include "scenario.h"

#define CHANNEL "bench-fanout"
#define SLICES 10
#define FLOOR_SHARE 3 /* length of a fan-out slice divided by that of a floor slice */
#define IN_FLIGHT 256
#define WARM_UP_NS 100000000u
#define PACE_NS 20000000u
/* Events in flight count as lost after this time without any progress. */
#define LOST_AFTER_NS 5000000000u

/* One server with its subscribers and the publishers of the current row. */
struct fanout {
    const struct target *target;
    struct poller *poller;
    struct load_clients clients;
    struct publishing publishing;
    struct publisher *publishers;
    unsigned publisher_count;
    struct histogram *latencies;
    char lost[256]; /* reason why the row failed; empty if it did not */

    double per_second[SLICES], cpu_ns[SLICES];
    unsigned slices;
    struct measure total;
};

static void fanout_open(struct fanout *fanout, const struct target *target, struct poller *poller,
                        unsigned subscribers) {
    *fanout = (struct fanout){.target = target, .poller = poller};
    load_clients_init(&fanout->clients, target, poller, CHANNEL, 1, subscribers);
    load_clients_open(&fanout->clients, IN_FLIGHT);
}

static void fanout_close(struct fanout *fanout) {
    load_clients_close(&fanout->clients, IN_FLIGHT);
    load_clients_dispose(&fanout->clients);
}

static void fanout_begin_row(struct fanout *fanout, unsigned publishers) {
    fanout->latencies = alloc_zero(sizeof *fanout->latencies);
    fanout->publishing =
        (struct publishing){.target = fanout->target, .poller = fanout->poller, .channel = CHANNEL, .fresh = true};
    fanout->publishers = alloc_zero(publishers * sizeof fanout->publishers[0]);
    fanout->publisher_count = publishers;
    load_clients_expect_new_publishers(&fanout->clients);
    for (unsigned i = 0; i < publishers; i++)
        publisher_open(&fanout->publishers[i], &fanout->publishing, i);
    fanout->lost[0] = '\0';
    fanout->slices = 0;
    fanout->total = (struct measure){0};
}

static void fanout_end_row(struct fanout *fanout) {
    for (unsigned i = 0; i < fanout->publisher_count; i++)
        publisher_close(&fanout->publishers[i]);
    free(fanout->publishers);
    free(fanout->latencies);
    fanout->clients.latencies = NULL;
}

/* Waits for the events in flight; false with the reason in `lost` if events are missing or wrong. */
static bool drain(struct fanout *fanout) {
    struct load_clients *clients = &fanout->clients;
    struct publishing *publishing = &fanout->publishing;
    uint64_t progress = clients->progress + publishing->answered, moved_ns = clock_monotonic_ns();

    while (publishing->outstanding != 0 || clients->received < publishing->answered * clients->count) {
        poller_turn(fanout->poller);
        if (clients->progress + publishing->answered != progress) {
            progress = clients->progress + publishing->answered;
            moved_ns = clock_monotonic_ns();
        } else if (clock_monotonic_ns() - moved_ns > LOST_AFTER_NS) {
            break;
        }
    }
    if (clients->wrong != 0)
        snprintf(fanout->lost, sizeof fanout->lost, "%llu events out of order; %s", (unsigned long long)clients->wrong,
                 clients->first_wrong);
    else if (publishing->outstanding != 0)
        snprintf(fanout->lost, sizeof fanout->lost, "%u publishes had no answer within 5 s", publishing->outstanding);
    else if (!load_clients_complete(clients, publishing->answered))
        snprintf(fanout->lost, sizeof fanout->lost, "%llu events to %u subscribers: %llu frames came instead of %llu",
                 (unsigned long long)publishing->answered, clients->count, (unsigned long long)clients->received,
                 (unsigned long long)publishing->answered * clients->count);
    return fanout->lost[0] == '\0';
}

/* Runs all publishers in closed loops or, if `every_ns` is not 0, sends one event of each every `every_ns`. */
static bool fanout_run(struct fanout *fanout, uint64_t duration_ns, uint64_t every_ns, struct measure *measure) {
    uint64_t next_ns = clock_monotonic_ns(), end_ns = next_ns + duration_ns, now_ns;

    load_clients_clear_record(&fanout->clients);
    fanout->publishing.answered = 0;
    fanout->publishing.running = every_ns == 0;
    measure_begin(measure, fanout->target);
    for (unsigned i = 0; every_ns == 0 && i < fanout->publisher_count; i++)
        publisher_send(&fanout->publishers[i]);
    while ((now_ns = clock_monotonic_ns()) < end_ns) {
        if (every_ns != 0 && now_ns >= next_ns && fanout->publishing.outstanding == 0) {
            for (unsigned i = 0; i < fanout->publisher_count; i++)
                publisher_send(&fanout->publishers[i]);
            next_ns += every_ns;
        }
        poller_turn(fanout->poller);
    }
    fanout->publishing.running = false;
    if (!drain(fanout))
        return false;
    measure_end(measure, fanout->target);
    return true;
}

/* Runs one slice and records its figures; false if events were lost. */
static bool fanout_slice(struct fanout *fanout, uint64_t duration_ns, uint64_t every_ns) {
    struct measure measure;
    double frames;

    fanout->clients.latencies = fanout->latencies;
    if (!fanout_run(fanout, duration_ns, every_ns, &measure))
        return false;
    frames = (double)fanout->clients.received;
    fanout->per_second[fanout->slices] = frames / ((double)measure.wall_ns / 1e9);
    fanout->cpu_ns[fanout->slices++] = (double)measure.server_cpu_ns / frames;
    fanout->total.wall_ns += measure.wall_ns;
    fanout->total.server_cpu_ns += measure.server_cpu_ns;
    fanout->total.generator_cpu_ns += measure.generator_cpu_ns;
    return true;
}

/* Runs server and generator with this number of publishers before the measurement; the result is dropped. */
static bool fanout_warm_up(struct fanout *fanout) {
    struct measure measure;

    fanout->clients.latencies = NULL;
    return fanout_run(fanout, WARM_UP_NS, 0, &measure);
}

/* Computes the row from the completed slices. */
static struct row fanout_row(struct fanout *fanout, const char *scenario) {
    struct row row = row_init(scenario, "frame");

    snprintf(row.load, sizeof row.load, "%u subscribers, %u publisher%s", fanout->clients.count,
             fanout->publisher_count, fanout->publisher_count == 1 ? "" : "s");
    row.failed = fanout->lost[0] != '\0';
    memcpy(row.note, fanout->lost, sizeof row.note);
    if (fanout->slices == 0)
        return row;
    row.per_second = measure_median(fanout->per_second, fanout->slices);
    row.generator_share = (double)fanout->total.generator_cpu_ns / (double)fanout->total.wall_ns;
    row.latencies = fanout->latencies;
    if (fanout->target->pid != 0) {
        row.cpu_us = measure_median(fanout->cpu_ns, fanout->slices) / 1e3;
        row.server_share = (double)fanout->total.server_cpu_ns / (double)fanout->total.wall_ns;
    }
    return row;
}

/* Measures and reports one row; false if events were lost: the subscribers cannot be used again then. */
static bool measure_row(struct bench *bench, struct fanout *fanout, const char *scenario, unsigned publishers) {
    uint64_t slice_ns = bench->duration_ns / SLICES;
    double floors[SLICES + 1], ratios[SLICES];
    unsigned floor_count = 0;
    struct row row;

    fanout_begin_row(fanout, publishers);
    if (fanout_warm_up(fanout)) {
        floors[floor_count++] = floor_measure(bench_floor(bench), publishers, slice_ns / FLOOR_SHARE);
        for (unsigned i = 0; i < SLICES && fanout_slice(fanout, slice_ns, 0); i++)
            floors[floor_count++] = floor_measure(bench_floor(bench), publishers, slice_ns / FLOOR_SHARE);
    }
    for (unsigned i = 0; i < fanout->slices; i++)
        ratios[i] = fanout->cpu_ns[i] / ((floors[i] + floors[i + 1]) / 2);
    row = fanout_row(fanout, scenario);
    if (row.cpu_us >= 0)
        row.floor_ratio = measure_median(ratios, fanout->slices);
    if (floor_count != 0)
        row.floor_us = measure_median(floors, floor_count) / 1e3;
    report_row(&row);
    fanout_end_row(fanout);
    return !row.failed;
}

static void measure_fanout(struct bench *bench, const char *scenario, unsigned subscribers,
                           const unsigned *publisher_counts, size_t rows) {
    struct fanout fanout;
    bool whole = true;

    bench_floor(bench); /* first: a later fork would inherit the subscribers' sockets */
    fanout_open(&fanout, &bench->target, &bench->poller, subscribers);
    for (size_t i = 0; i < rows && whole; i++)
        whole = measure_row(bench, &fanout, scenario, publisher_counts[i]);
    if (whole)
        fanout_close(&fanout);
    else
        load_clients_dispose(&fanout.clients);
}

void scenario_fanout(struct bench *bench) {
    measure_fanout(bench, "fanout", 500, (const unsigned[]){1, 8, 32}, 3);
}

void scenario_fanout_10k(struct bench *bench) {
    measure_fanout(bench, "fanout-10k", 10000, (const unsigned[]){1, 8}, 2);
}

/* Latency of single events at an interval: no event queues, so only the walk over the subscribers counts. */
void scenario_latency(struct bench *bench) {
    struct fanout fanout;
    struct row row;

    fanout_open(&fanout, &bench->target, &bench->poller, 500);
    fanout_begin_row(&fanout, 1);
    if (fanout_warm_up(&fanout))
        fanout_slice(&fanout, bench->duration_ns, PACE_NS);
    row = fanout_row(&fanout, "latency");
    snprintf(row.load, sizeof row.load, "500 subscribers, %u events/s", 1000000000u / PACE_NS);
    report_row(&row);
    fanout_end_row(&fanout);
    load_clients_dispose(&fanout.clients);
}

void scenario_floor(struct bench *bench) {
    static const unsigned frames[] = {1, 8, 32};

    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        struct row row = row_init("floor", "frame");
        double floors[SLICES];

        for (unsigned slice = 0; slice < SLICES; slice++)
            floors[slice] = floor_measure(bench_floor(bench), frames[i], bench->duration_ns / SLICES);
        row.floor_us = measure_median(floors, SLICES) / 1e3;
        snprintf(row.load, sizeof row.load, "%u sockets, %u frame%s a call", FLOOR_SOCKETS, frames[i],
                 frames[i] == 1 ? "" : "s");
        snprintf(row.note, sizeof row.note, "slices from %.3f to %.3f", floors[0] / 1e3, floors[SLICES - 1] / 1e3);
        report_row(&row);
    }
}

/* Reports a row for each server; the note of the second row is its ratio to the first. */
static void compare_row(struct bench *bench, struct fanout *first, struct fanout *second, unsigned publishers,
                        uint64_t every_ns) {
    struct fanout *both[] = {first, second};
    struct row rows[2];

    for (unsigned i = 0; i < 2; i++) {
        fanout_begin_row(both[i], publishers);
        fanout_warm_up(both[i]);
    }
    for (unsigned slice = 0; slice < SLICES; slice++)
        for (unsigned i = 0; i < 2; i++)
            if (first->lost[0] == '\0' && second->lost[0] == '\0')
                fanout_slice(both[i], bench->duration_ns / SLICES, every_ns);
    rows[0] = fanout_row(first, "compare A");
    rows[1] = fanout_row(second, "compare B");
    for (unsigned i = 0; i < 2; i++) {
        if (every_ns != 0)
            snprintf(rows[i].load, sizeof rows[i].load, "%u subscribers, %.0f x %u events/s", both[i]->clients.count,
                     1e9 / (double)every_ns, publishers);
        snprintf(rows[i].note, sizeof rows[i].note, "%.0f bytes a frame",
                 (double)both[i]->clients.received_bytes / (double)both[i]->clients.received);
    }
    if (!rows[0].failed && !rows[1].failed) {
        int length = (int)strlen(rows[1].note);
        length += snprintf(rows[1].note + length, sizeof rows[1].note - (size_t)length, "; B/A: %.2f x per second",
                           rows[1].per_second / rows[0].per_second);
        if (rows[0].cpu_us >= 0 && rows[1].cpu_us >= 0)
            snprintf(rows[1].note + length, sizeof rows[1].note - (size_t)length, ", %.2f x CPU",
                     rows[1].cpu_us / rows[0].cpu_us);
    }
    for (unsigned i = 0; i < 2; i++) {
        report_row(&rows[i]);
        fanout_end_row(both[i]);
    }
}

void scenario_compare(struct bench *bench) {
    static const unsigned publishers[] = {1, 8, 32};
    /* What TLS and compression cost is compared at the same load: in closed loops, the faster server sends fewer events
     * a call, and each call costs more than what is in it. */
    uint64_t every_ns = bench->against.tls || bench->against.compress ? PACE_NS : 0;
    struct fanout first, second;

    fanout_open(&first, &bench->target, &bench->poller, 500);
    fanout_open(&second, &bench->against, &bench->poller, 500);
    for (size_t i = 0; i < sizeof publishers / sizeof publishers[0]; i++)
        if (first.lost[0] == '\0' && second.lost[0] == '\0')
            compare_row(bench, &first, &second, publishers[i], every_ns);
    load_clients_dispose(&first.clients);
    load_clients_dispose(&second.clients);
}
