/* Metrics of the app store and the cache in front of it; absent with the memory driver, but for removals of apps. */
#include "api/metrics.h"

static const struct {
    const char *answer;
    size_t offset;
} answers[] = {
    {"hit", offsetof(struct app_lookup_stats, hits)},           {"miss", offsetof(struct app_lookup_stats, misses)},
    {"negative", offsetof(struct app_lookup_stats, negatives)}, {"stale", offsetof(struct app_lookup_stats, stale)},
    {"error", offsetof(struct app_lookup_stats, errors)},
};

static void append_lookups(struct metrics_page *page, const struct app_lookup_stats *counts, struct slice labels) {
    metrics_family(
        page, "app_lookups_total", "counter",
        "Lookups of apps by how they were answered: from the cache, by asking the store (miss), as known not "
        "to be there (negative), with an expired record while the store fails (stale), not at all (error).");
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        metrics_sample_of(page, labels, "answer", answers[i].answer,
                          *(const uint64_t *)((const char *)counts + answers[i].offset));
    metrics_family(page, "app_cache_entries", "gauge", "Apps in the cache.");
    metrics_sample(page, labels, counts->entries);
    metrics_family(page, "app_cache_absent_entries", "gauge", "Names in the cache that the store does not know.");
    metrics_sample(page, labels, counts->negative_entries);
    metrics_family(page, "app_cache_invalid_entries", "gauge",
                   "Apps whose record in the store has become invalid; the last valid one is in force.");
    metrics_sample(page, labels, counts->broken);
    metrics_family(page, "app_store_up", "gauge", "1 if the store answered the last time.");
    metrics_sample(page, labels, !counts->outage);
    metrics_family(page, "app_store_outages_total", "counter", "How often the store stopped answering.");
    metrics_sample(page, labels, counts->outages);
}

static void append_pool(struct metrics_page *page, const struct store_pool_stats *status, struct slice labels) {
    static const char *const priorities[] = {"urgent", "known", "unknown"};
    uint64_t bounds[STORE_LATENCY_BUCKETS] = {0};

    for (size_t i = 0; i + 1 < STORE_LATENCY_BUCKETS; i++)
        bounds[i] = store_latency_bounds_us[i];
    metrics_family(page, "app_store_connections", "gauge", "Connections to the store that are open.");
    metrics_sample(page, labels, status->connections);
    metrics_family(page, "app_store_connections_busy", "gauge", "Connections to the store in use.");
    metrics_sample(page, labels, status->busy);
    metrics_family(page, "app_store_waiting", "gauge", "Operations that wait for a connection to the store.");
    for (unsigned i = 0; i < STORE_PRIORITY_COUNT; i++)
        metrics_sample_of(page, labels, "priority", priorities[i], status->waiting[i]);
    metrics_family(page, "app_store_turned_away_total", "counter",
                   "Lookups of names never seen that were refused, because there were too many of their kind.");
    metrics_sample(page, labels, status->rejected);
    metrics_family(page, "app_store_failures_total", "counter", "Operations for which the store could not be reached.");
    metrics_sample(page, labels, status->failures);
    metrics_family(page, "app_store_seconds", "histogram", "How long operations on the store took.");
    metrics_histogram(page, labels, bounds, status->latency, STORE_LATENCY_BUCKETS, status->latency_sum_us, 1e6);
}

static void append_removals(struct metrics_page *page, const struct api *api, struct slice labels) {
    uint64_t total, held;

    app_manager_read_removals(api->apps, &total, &held);
    metrics_family(page, "app_removals_held_total", "counter",
                   "How often many apps vanished at once, so that their removal was held.");
    metrics_sample(page, labels, total);
    metrics_family(page, "apps_held", "gauge", "Apps that have vanished and stay in force for a while.");
    metrics_sample(page, labels, held);
}

void metrics_append_store(struct metrics_page *page, const struct api *api, struct slice labels) {
    struct app_lookup_stats counts;
    struct store_pool_stats status;

    append_removals(page, api, labels);
    if (!app_manager_read_stats(api->apps, &counts, &status))
        return;
    append_lookups(page, &counts, labels);
    append_pool(page, &status, labels);
}
