#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/json.h"
#include "fail.h"

/* Above this share of its core the generator may be the bottleneck. */
#define GENERATOR_BOUND 0.97

/* Above this share of the machine, other processes distort the figures. */
#define OTHERS_MANY 0.1

static const double percentiles[] = {0.5, 0.9, 0.99};
static const char *const percentile_names[] = {"p50", "p90", "p99"};

static struct {
    FILE *file;
    const char *path;
    struct buffer json;
    unsigned rows;
    bool failed;
} report;

struct row row_init(const char *scenario, const char *unit) {
    return (struct row){.scenario = scenario,
                        .unit = unit,
                        .per_second = -1,
                        .cpu_us = -1,
                        .floor_us = -1,
                        .floor_ratio = -1,
                        .server_share = -1,
                        .generator_share = -1,
                        .bytes = -1};
}

void report_begin(const char *url, const char *json_path) {
    report.path = json_path;
    /* Open the file now, so that a path that cannot be written fails at once and not after minutes. */
    if (json_path != NULL && (report.file = fopen(json_path, "we")) == NULL)
        fail("opening %s for the results: %s", json_path, strerror(errno));
    buffer_append_string(&report.json, "{\"url\":");
    json_append_string(&report.json, slice_of(url));
    buffer_append_string(&report.json, ",\"rows\":[");
    printf(
        "%s\n"
        "CPU: user and system time of the server's process for one frame, publish or connection.\n"
        "floor: the same for send() to 500 sockets alone; for publishes and connections, that of the reference: a "
        "server\n"
        "that does only what the protocol forces. x floor: the median of the ratios of neighbouring turns, which is\n"
        "not the quotient of the medians.\n"
        "latency: from publish to receipt, to the answer, or from connect to subscribed, with up to 0.2 ms of the\n"
        "generator's own gathering. server, gen.: share of a core that the server and the generator used.\n\n",
        url);
    printf("%-12s %-34s %11s %-10s %8s %8s %7s %9s %9s %9s %9s %7s %7s\n", "scenario", "load", "per second", "",
           "CPU us", "floor us", "x floor", "p50 us", "p90 us", "p99 us", "max us", "server", "gen.");
    fflush(stdout);
}

/* Prints one column; "-" if not measured. */
static void print_number(int width, int digits, double value) {
    if (value < 0)
        printf(" %*s", width, "-");
    else
        printf(" %*.*f", width, digits, value);
}

static void print_share(double share) {
    if (share < 0)
        printf(" %7s", "-");
    else
        printf(" %5.0f %%", share * 100);
}

static void print_row(const struct row *row) {
    bool latencies = row->latencies != NULL && row->latencies->count != 0;

    printf("%-12s %-34s", row->scenario, row->load);
    print_number(11, 0, row->per_second);
    printf(" %-10s", row->unit);
    print_number(8, 3, row->cpu_us);
    print_number(8, 3, row->floor_us);
    print_number(7, 2, row->floor_ratio);
    for (size_t i = 0; i < sizeof percentiles / sizeof percentiles[0]; i++)
        print_number(9, 0, latencies ? (double)histogram_percentile(row->latencies, percentiles[i]) / 1e3 : -1);
    print_number(9, 0, latencies ? (double)row->latencies->max_ns / 1e3 : -1);
    print_share(row->server_share);
    print_share(row->generator_share);
    if (row->bytes >= 0)
        printf("  %.3f KB", row->bytes / 1024);
    if (row->generator_share >= GENERATOR_BOUND)
        printf("  generator-bound");
    if (row->note[0] != '\0')
        printf("  %s%s", row->failed ? "FAILED: " : "", row->note);
    printf("\n");
    fflush(stdout);
}

static void json_number(const char *name, double value) {
    buffer_appendf(&report.json, value >= 0 ? ",\"%s\":%.6g" : ",\"%s\":null", name, value);
}

static void json_row(const struct row *row) {
    struct buffer *json = &report.json;

    buffer_append_string(json, report.rows != 0 ? ",\n{\"scenario\":" : "\n{\"scenario\":");
    json_append_string(json, slice_of(row->scenario));
    buffer_append_string(json, ",\"load\":");
    json_append_string(json, slice_of(row->load));
    buffer_appendf(json, ",\"unit\":\"%s\"", row->unit);
    json_number("per_second", row->per_second);
    json_number("cpu_us", row->cpu_us);
    json_number("floor_us", row->floor_us);
    json_number("ratio_to_floor", row->floor_ratio);
    json_number("server_share", row->server_share);
    json_number("generator_share", row->generator_share);
    json_number("bytes", row->bytes);
    if (row->latencies != NULL && row->latencies->count != 0) {
        buffer_appendf(json, ",\"latency_us\":{\"samples\":%llu", (unsigned long long)row->latencies->count);
        for (size_t i = 0; i < sizeof percentiles / sizeof percentiles[0]; i++)
            json_number(percentile_names[i], (double)histogram_percentile(row->latencies, percentiles[i]) / 1e3);
        json_number("max", (double)row->latencies->max_ns / 1e3);
        buffer_append_byte(json, '}');
    }
    buffer_appendf(json, ",\"generator_bound\":%s,\"failed\":%s,\"note\":",
                   row->generator_share >= GENERATOR_BOUND ? "true" : "false", row->failed ? "true" : "false");
    json_append_string(json, slice_of(row->note));
    buffer_append_byte(json, '}');
}

void report_row(const struct row *row) {
    print_row(row);
    json_row(row);
    report.rows++;
    report.failed |= row->failed;
}

bool report_end(double others_share) {
    buffer_append_string(&report.json, "\n]");
    json_number("others_share", others_share);
    buffer_append_string(&report.json, "}\n");
    if (others_share >= 0)
        printf("\nOthers used %.0f %% of the machine's CPUs meanwhile%s.\n", others_share * 100,
               others_share > OTHERS_MANY ? ": the ratios say more than the figures" : "");
    if (report.file != NULL) {
        bool written = fwrite(report.json.data, 1, report.json.length, report.file) == report.json.length;
        if (fclose(report.file) != 0 || !written)
            fail("writing the results to %s: %s", report.path, strerror(errno));
    }
    buffer_dispose(&report.json);
    return !report.failed;
}
