/*
 * What was measured: a table for people, printed row by row, and JSON for machines, written at the end.
 */
#pragma once

#include <stdbool.h>

#include "histogram.h"

struct row {
    const char *scenario;
    char load[64];       /* "500 subscribers, 8 publishers" */
    const char *unit;    /* what is counted: "frame", "publish", "connection" */
    double per_second;   /* of the unit; this and the following: negative for "not measured" */
    double cpu_us;       /* of the server for one unit */
    double floor_us;     /* of the kernel for one frame, at as many frames a call */
    double floor_ratio;  /* of the two, taken where both were measured at the same time */
    double server_share; /* of one core, 1 is all of it */
    double generator_share;
    double bytes;                      /* of memory for one unit */
    const struct histogram *latencies; /* NULL for "not measured" */
    bool failed;
    char note[256];
};

/* A row with nothing measured. */
struct row row_init(const char *scenario, const char *unit);

/* Prints the head of the table. `json_path` may be NULL. */
void report_begin(const char *url, const char *json_path);
void report_row(const struct row *row);

/*
 * Says how much of the machine's CPUs processes used that had no part in the run (negative: not known), and writes the
 * JSON file. True if no row failed.
 */
bool report_end(double others_share);
