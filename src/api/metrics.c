#include "api/metrics.h"

#include <stdio.h>

#include "api/idempotency.h"
#include "api/page_thread.h"
#include "base/log.h"
#include "net/address_table.h"

/* `worker="0",port="9601"`, or `port="9601"` without a worker. */
static struct slice labels_of(const struct api *api, const struct worker *worker, struct buffer *labels) {
    char number[16];

    labels->length = 0;
    if (worker != NULL) {
        snprintf(number, sizeof number, "%u", worker->index);
        metrics_append_label(labels, "worker", slice_of(number));
    }
    snprintf(number, sizeof number, "%u", api->metrics_port);
    metrics_append_label(labels, "port", slice_of(number));
    return buffer_slice(labels);
}

static const struct {
    const char *name, *help;
    size_t offset;
} worker_families[] = {
    {"worker_connections_total", "Connections of any kind that a worker accepted.",
     offsetof(struct worker_counters, accepted)},
    {"worker_disconnections_total", "Connections of any kind that a worker closed.",
     offsetof(struct worker_counters, closed)},
    {"worker_turns_total", "Turns of a worker's loop.", offsetof(struct worker_counters, turns)},
    {"slow_readers_total", "Connections that did not keep up with what was sent to them.",
     offsetof(struct worker_counters, slow_readers)},
    {"dropped_messages_total", "Channel events that were left out for slow readers.",
     offsetof(struct worker_counters, dropped_messages)},
    {"descriptor_refusals_total", "WebSockets that were refused because file descriptors were short.",
     offsetof(struct worker_counters, descriptor_refusals)},
    {"descriptor_closes_total", "HTTP connections that were closed while they waited, for the same reason.",
     offsetof(struct worker_counters, descriptor_closes)},
    {"input_deferred_total", "Times that a connection had more input than it may take in one turn.",
     offsetof(struct worker_counters, input_deferred)},
};

static const struct {
    const char *name, *help;
    size_t offset;
} worker_gauges[] = {
    {"input_bytes_max", "The most bytes that one connection could take of its input in a turn, since the start.",
     offsetof(struct worker_counters, input_bytes_max)},
    {"input_messages_max", "The same in messages and requests.", offsetof(struct worker_counters, input_messages_max)},
};

static const struct counter *counter_of(const struct worker *worker, size_t offset) {
    return (const struct counter *)((const char *)&worker->counters + offset);
}

static void append_lag(struct metrics_page *page, const struct worker_counters *counters, struct slice labels) {
    uint64_t bounds[LAG_BUCKETS], counts[LAG_BUCKETS];

    for (size_t i = 0; i < LAG_BUCKETS; i++) {
        bounds[i] = i + 1 < LAG_BUCKETS ? worker_lag_bounds_us[i] : 0;
        counts[i] = counter_read(&counters->lag_buckets[i]);
    }
    metrics_histogram(page, labels, bounds, counts, LAG_BUCKETS, counter_read(&counters->lag_sum_us), 1e6);
}

/* A gauge of each worker's longest turn, which is counted in microseconds. */
static void append_longest(struct metrics_page *page, const struct api *api, struct buffer *labels, const char *name,
                           const char *help, size_t offset) {
    const struct workers *workers = api->workers;

    metrics_family(page, name, "gauge", help);
    for (unsigned at = 0; at < workers->count; at++)
        metrics_fraction(page, labels_of(api, workers->list[at], labels),
                         (double)counter_read(counter_of(workers->list[at], offset)) / 1e6);
}

static void append_workers(struct metrics_page *page, const struct api *api, struct buffer *labels) {
    const struct workers *workers = api->workers;

    for (size_t i = 0; i < sizeof worker_families / sizeof worker_families[0]; i++) {
        metrics_family(page, worker_families[i].name, "counter", worker_families[i].help);
        for (unsigned at = 0; at < workers->count; at++) {
            metrics_sample(page, labels_of(api, workers->list[at], labels),
                           counter_read(counter_of(workers->list[at], worker_families[i].offset)));
        }
    }
    for (size_t i = 0; i < sizeof worker_gauges / sizeof worker_gauges[0]; i++) {
        metrics_family(page, worker_gauges[i].name, "gauge", worker_gauges[i].help);
        for (unsigned at = 0; at < workers->count; at++)
            metrics_sample(page, labels_of(api, workers->list[at], labels),
                           counter_read(counter_of(workers->list[at], worker_gauges[i].offset)));
    }
    metrics_family(page, "loop_lag_seconds", "histogram",
                   "How long a turn of a worker's loop kept other work waiting.");
    for (unsigned at = 0; at < workers->count; at++)
        append_lag(page, &workers->list[at]->counters, labels_of(api, workers->list[at], labels));
    append_longest(page, api, labels, "loop_lag_max_seconds", "The longest turn of a worker's loop since the start.",
                   offsetof(struct worker_counters, lag_max_us));
    append_longest(
        page, api, labels, "loop_cpu_max_seconds",
        "The most CPU time that a turn of a worker's loop took since the start; turns below 1 ms do not count.",
        offsetof(struct worker_counters, cpu_max_us));
}

/* Limits by client address belong to no app: `app_id` is empty. */
static void append_limit(struct metrics_page *page, const struct api *api, const char *type, const char *context,
                         uint64_t value) {
    struct buffer labels = {0};
    char port[16];

    snprintf(port, sizeof port, "%u", api->metrics_port);
    metrics_append_label(&labels, "app_id", SLICE(""));
    metrics_append_label(&labels, "port", slice_of(port));
    metrics_append_label(&labels, "limiter_type", slice_of(type));
    metrics_append_label(&labels, "request_context", slice_of(context));
    metrics_sample(page, buffer_slice(&labels), value);
    buffer_dispose(&labels);
}

static void append_limits(struct metrics_page *page, const struct api *api) {
    uint64_t checks[2] = {0}, refusals[2] = {0};

    if (api->request_limit != NULL)
        rate_limiter_count(api->request_limit, &checks[0], &refusals[0]);
    if (api->connect_limit != NULL)
        rate_limiter_count(api->connect_limit, &checks[1], &refusals[1]);
    metrics_family(page, "rate_limit_checks_total", "counter", "Checks of a limit by client address.");
    append_limit(page, api, "api", "http", checks[0]);
    append_limit(page, api, "websocket", "connect", checks[1]);
    metrics_family(page, "rate_limit_triggered_total", "counter",
                   "Checks of a limit by client address that found it exceeded.");
    append_limit(page, api, "api", "http", refusals[0]);
    append_limit(page, api, "websocket", "connect", refusals[1]);
}

static void append_addresses(struct metrics_page *page, const struct api *api, struct buffer *labels) {
    uint64_t refusals, addresses;

    if (api->workers->addresses == NULL)
        return;
    address_table_read(api->workers->addresses, &refusals, &addresses);
    metrics_family(page, "connected_addresses", "gauge", "Client addresses that have connections open.");
    metrics_sample(page, labels_of(api, NULL, labels), addresses);
    metrics_family(page, "address_limit_refusals_total", "counter",
                   "Connections and requests that were refused because their address had too many connections.");
    metrics_sample(page, labels_of(api, NULL, labels), refusals);
}

static void append_idempotency(struct metrics_page *page, const struct api *api, struct buffer *labels) {
    uint64_t keys, bytes;

    if (api->idempotency == NULL)
        return;
    idempotency_read_size(api->idempotency, &keys, &bytes);
    metrics_family(page, "idempotency_keys", "gauge", "Idempotency keys of publishes that are remembered.");
    metrics_sample(page, labels_of(api, NULL, labels), keys);
    metrics_family(page, "idempotency_bytes", "gauge", "Memory of these keys and of their answers.");
    metrics_sample(page, labels_of(api, NULL, labels), bytes);
}

static void append_log(struct metrics_page *page, const struct api *api, struct buffer *labels) {
    metrics_family(page, "log_lines_lost_total", "counter",
                   "Lines of the log that were lost, because they were not read fast enough.");
    metrics_sample(page, labels_of(api, NULL, labels), log_lost_lines());
}

void metrics_append_page(const struct api *api, struct buffer *text) {
    struct metrics_page page = {.prefix = slice_of(api->config->metrics.prometheus.prefix)};
    struct buffer labels = {0};

    metrics_append_apps(&page, api);
    metrics_append_webhooks(&page, api);
    append_limits(&page, api);
    append_addresses(&page, api, &labels);
    append_workers(&page, api, &labels);
    append_idempotency(&page, api, &labels);
    metrics_append_memory(&page, labels_of(api, NULL, &labels));
    append_log(&page, api, &labels);
    metrics_append_cluster(&page, api, labels_of(api, NULL, &labels));
    metrics_append_store(&page, api, labels_of(api, NULL, &labels));
    metrics_append_process(&page, api->started_at_s);
    buffer_append(text, buffer_slice(&page.text));
    buffer_dispose(&labels);
    buffer_dispose(&page.text);
}

void api_get_metrics(struct api_call *call) {
    page_answer(call->api->metrics, call, SLICE("text/plain; version=0.0.4; charset=utf-8"));
}
