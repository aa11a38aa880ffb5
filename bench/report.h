/*
 * Report of the results: a table, printed row by row, and a JSON file, written at the end.
 */
#pragma once

#include <stdbool.h>

#include "histogram.h"

struct row {
    const char *scenario;
    char load[64];    /* "500 subscribers, 8 publishers" */
    const char *unit; /* counted unit: "frame", "publish", "connection" */
    /* Figures; a negative value means "not measured". */
    double per_second; /* units per second */
    double cpu_us;     /* CPU time of the server per unit */
    /* CPU time of the kernel's floor per frame, with the same number of frames per call; that of the reference per
     * publish or connection. */
    double floor_us;
    double floor_ratio;  /* server to floor, from slices measured at the same time */
    double server_share; /* share of one core; 1: the whole core */
    double generator_share;
    double bytes;                      /* memory per unit */
    const struct histogram *latencies; /* NULL: not measured */
    bool failed;
    char note[256];
};

/* Returns a row without measured figures. */
struct row row_init(const char *scenario, const char *unit);

/* Prints the head of the table and opens the JSON file. `json_path` may be NULL: no file. */
void report_begin(const char *url, const char *json_path);
void report_row(const struct row *row);

/*
 * Prints `others_share`, the share of the machine's CPUs that processes outside the run used (negative: unknown), and
 * writes the JSON file. True if no row failed.
 */
bool report_end(double others_share);
