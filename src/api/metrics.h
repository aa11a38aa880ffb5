/*
 * The metrics page: Prometheus text format 0.0.4, made of the workers' counters.
 *
 *   page_thread.c      the thread that builds the page, and scrapes
 *   metrics.c          the page; metrics of workers
 *   metrics_apps.c     metrics of apps
 *   metrics_cluster.c  metrics of other nodes and the message system between them
 *   metrics_memory.c   memory of the machine, and the account of base/budget.h
 *   metrics_process.c  process_*
 *   metrics_store.c    metrics of the app store and the cache in front of it
 *   metrics_webhooks.c metrics of webhooks
 *   metrics_text.c     lines
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "api/api.h"
#include "base/buffer.h"
#include "base/slice.h"

/* Appends the page. On any thread. */
void metrics_append_page(const struct api *api, struct buffer *text);

struct metrics_page {
    struct buffer text;
    struct slice prefix; /* before each name */
    const char *name;    /* of the family that is being written */
};

/* Begins a family, to which the next samples belong. `type` is counter, gauge or histogram. */
void metrics_family(struct metrics_page *page, const char *name, const char *type, const char *help);

/* One sample. `labels` is `a="1",b="2"` or empty. */
void metrics_sample(struct metrics_page *page, struct slice labels, uint64_t value);
void metrics_fraction(struct metrics_page *page, struct slice labels, double value);

/* One sample with one more label. */
void metrics_sample_of(struct metrics_page *page, struct slice labels, const char *label, const char *label_value,
                       uint64_t value);

/*
 * One series of a histogram. `counts[i]` values were above `bounds[i - 1]` and at most `bounds[i]`; the last bucket has
 * no bound. The page shows bounds and sum divided by `unit`.
 */
void metrics_histogram(struct metrics_page *page, struct slice labels, const uint64_t *bounds, const uint64_t *counts,
                       size_t bucket_count, uint64_t sum, double unit);

/* Appends `name="value"` with the value escaped, after a comma unless it is the first. */
void metrics_append_label(struct buffer *labels, const char *name, struct slice value);

void metrics_append_apps(struct metrics_page *page, const struct api *api);
void metrics_append_store(struct metrics_page *page, const struct api *api, struct slice labels);
void metrics_append_cluster(struct metrics_page *page, const struct api *api, struct slice labels);
void metrics_append_webhooks(struct metrics_page *page, const struct api *api);
void metrics_append_memory(struct metrics_page *page, struct slice labels);
void metrics_append_process(struct metrics_page *page, uint64_t started_at_s);
