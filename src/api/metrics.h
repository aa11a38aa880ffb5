/*
 * The metrics page: Prometheus text format 0.0.4, made afresh for each request out of the workers' counters.
 *
 *   metrics.c          the page, and what belongs to workers
 *   metrics_apps.c     what belongs to apps
 *   metrics_process.c  process_*
 *   metrics_store.c    the app store and the cache in front of it
 *   metrics_text.c     lines
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/api.h"
#include "base/buffer.h"
#include "base/slice.h"

struct metrics_page {
    struct buffer text;
    struct slice prefix; /* before each name */
    const char *name;    /* of the family that is being written */
};

/* Begins a family: all samples up to the next call are its. `type` is counter, gauge or histogram. */
void metrics_family(struct metrics_page *page, const char *name, const char *type, const char *help);

/* One sample. `labels` is `a="1",b="2"` or empty. */
void metrics_sample(struct metrics_page *page, struct slice labels, uint64_t value);
void metrics_fraction(struct metrics_page *page, struct slice labels, double value);

/* One sample with a label more. */
void metrics_sample_of(struct metrics_page *page, struct slice labels, const char *label, const char *label_value,
                       uint64_t value);

/*
 * One series of a histogram: `counts[i]` values were at most `bounds[i]` and above the bound before, the last of the
 * `bucket_count` has no bound. Bounds and sum are divided by `unit` for the page.
 */
void metrics_histogram(struct metrics_page *page, struct slice labels, const uint64_t *bounds, const uint64_t *counts,
                       size_t bucket_count, uint64_t sum, double unit);

/* Appends `name="value"` with the value escaped, and a comma before it if there is something already. */
void metrics_append_label(struct buffer *labels, const char *name, struct slice value);

void metrics_append_apps(struct metrics_page *page, const struct api *api);
void metrics_append_store(struct metrics_page *page, const struct api *api, struct slice labels);
void metrics_append_process(struct metrics_page *page, uint64_t started_at_s);
