#include "api/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/broadcast_latency.h"
#include "base/alloc.h"

#define COUNTERS (sizeof(struct app_counters) / sizeof(struct counter))
#define LATENCIES (sizeof(struct broadcast_latency) / sizeof(struct counter))

/* The sums of one app over all workers. The arrays have the members of the structures, in their order. */
struct app_totals {
    struct buffer labels;
    uint64_t connected;
    int64_t memory_bytes;
    uint32_t active[CHANNEL_LABEL_COUNT];
    uint64_t counters[COUNTERS];
    uint64_t latency[LATENCIES];
};

struct totals {
    const struct api *api;
    struct app_totals *apps;
    size_t count, capacity;
};

#define OFFSET(member) (offsetof(struct app_counters, member) / sizeof(struct counter))

/* A family of counters. With a label, it is an array with one counter per value of the label. */
struct app_family {
    const char *name, *help;
    size_t first;
    const char *label;
    const char *const *values;
    size_t count;
};

static const struct app_family families[] = {
    {"new_connections_total", "WebSocket connections that were opened.", OFFSET(connections)},
    {"new_disconnections_total", "WebSocket connections that ended.", OFFSET(disconnections)},
    {"connection_errors_total", "WebSocket connections and messages that were refused, by type of error.",
     OFFSET(errors), "error_type", connection_error_names, CONNECTION_ERROR_COUNT},
    {"socket_received_bytes", "Bytes received over WebSockets.", OFFSET(bytes_received)},
    {"socket_transmitted_bytes", "Bytes sent over WebSockets.", OFFSET(bytes_sent)},
    {"ws_messages_received_total", "Messages received over WebSockets.", OFFSET(messages_received)},
    {"ws_messages_sent_total", "Messages sent over WebSockets.", OFFSET(messages_sent)},
    {"http_received_bytes", "Bytes of API requests.", OFFSET(http_bytes_received)},
    {"http_transmitted_bytes", "Bytes of answers to API requests.", OFFSET(http_bytes_sent)},
    {"http_calls_received_total", "API requests.", OFFSET(http_calls)},
    {"channel_subscriptions_total", "Subscriptions to channels.", OFFSET(subscriptions), "channel_type",
     channel_label_names, CHANNEL_LABEL_COUNT},
    {"channel_unsubscriptions_total", "Subscriptions to channels that ended.", OFFSET(unsubscriptions), "channel_type",
     channel_label_names, CHANNEL_LABEL_COUNT},
    {"publishes_total", "Events published over the API, counted once for each channel.", OFFSET(publishes)},
    {"client_events_total", "Events published by clients.", OFFSET(client_events)},
    {"previous_secret_signatures_total", "Signatures that were accepted although made with the previous secret.",
     OFFSET(previous_secret_signatures)},
    {"tag_filtering_filtered_messages_total", "Events that subscribers did not get because of their filter.",
     OFFSET(filtered_messages)},
    {"delta_compression_delta_messages_total", "Events that connections got as a delta.", OFFSET(delta_messages)},
    {"delta_compression_full_messages_total",
     "Events that connections with deltas got whole, as a base of later deltas.", OFFSET(delta_wholes)},
    {"delta_compression_bandwidth_original_bytes", "Bytes of the events sent as deltas, had they been sent whole.",
     OFFSET(delta_original_bytes)},
    {"delta_compression_bandwidth_saved_bytes", "Bytes that deltas have saved.", OFFSET(delta_saved_bytes)},
    {"delta_compression_resyncs_total", "Reports of clients that could not decode a delta.", OFFSET(delta_resyncs)},
    {"delta_compression_evictions_total", "Bases of deltas that were dropped to make room for others.",
     OFFSET(delta_evictions)},
    {"refusals_total", "Connections, subscriptions, events and requests that were refused, by what they broke.",
     OFFSET(refusals), "reason", refusal_names, REFUSAL_COUNT},
};

static void add_up(uint64_t *totals, const void *counters, size_t count) {
    const struct counter *each = counters;

    for (size_t i = 0; i < count; i++)
        totals[i] += counter_read(&each[i]);
}

/* True if the app was not used on this server since its start. */
static bool is_unused(const struct app_totals *app) {
    bool used = app->connected != 0 || app->memory_bytes > 0;

    for (size_t i = 0; i < CHANNEL_LABEL_COUNT; i++)
        used |= app->active[i] != 0;
    for (size_t i = 0; i < COUNTERS; i++)
        used |= app->counters[i] != 0;
    return !used;
}

static void collect_totals(struct app_slot *slot, void *context) {
    struct totals *totals = context;
    struct app_totals *app;
    char port[16];

    if (totals->count == totals->capacity) {
        totals->capacity = totals->capacity != 0 ? 2 * totals->capacity : 8;
        totals->apps = alloc_array(totals->apps, totals->capacity, sizeof totals->apps[0]);
    }
    app = &totals->apps[totals->count];
    *app = (struct app_totals){
        .connected = atomic_load_explicit(&slot->connections, memory_order_relaxed),
        .memory_bytes = budget_app_held(slot->budget),
    };
    channel_count_active(slot, app->active);
    for (unsigned i = 0; i < slot->worker_count; i++) {
        struct app_part *part = atomic_load_explicit(&slot->parts[i], memory_order_acquire);
        struct broadcast_latency *latency;
        if (part == NULL)
            continue;
        add_up(app->counters, &part->counters, COUNTERS);
        latency = atomic_load_explicit(&part->latency, memory_order_acquire);
        if (latency != NULL)
            add_up(app->latency, latency, LATENCIES);
    }
    if (is_unused(app))
        return;
    totals->count++;
    snprintf(port, sizeof port, "%u", totals->api->metrics_port);
    metrics_append_label(&app->labels, "app_id", slice_of(slot->id));
    metrics_append_label(&app->labels, "port", slice_of(port));
}

static void append_gauges(struct metrics_page *page, const struct totals *totals) {
    metrics_family(page, "connected", "gauge", "WebSocket connections that are open.");
    for (size_t i = 0; i < totals->count; i++)
        metrics_sample(page, buffer_slice(&totals->apps[i].labels), totals->apps[i].connected);
    metrics_family(page, "active_channels", "gauge", "Channels with subscribers.");
    for (size_t i = 0; i < totals->count; i++)
        for (size_t type = 0; type < CHANNEL_LABEL_COUNT; type++)
            metrics_sample_of(page, buffer_slice(&totals->apps[i].labels), "channel_type", channel_label_names[type],
                              totals->apps[i].active[type]);
}

/* Only apps that hold something: many have been used and hold nothing now. */
static void append_app_memory(struct metrics_page *page, const struct totals *totals) {
    metrics_family(page, "app_memory_held_bytes", "gauge",
                   "Memory that is held for an app, of all kinds that count for one.");
    for (size_t i = 0; i < totals->count; i++)
        if (totals->apps[i].memory_bytes > 0)
            metrics_sample(page, buffer_slice(&totals->apps[i].labels), (uint64_t)totals->apps[i].memory_bytes);
}

/* Connections with unknown keys are one series: a key from a client never becomes a label. */
static void append_unknown_apps(struct metrics_page *page, const struct api *api) {
    struct buffer labels = {0};
    uint64_t count = 0;
    char port[16];

    for (unsigned i = 0; api->unknown_apps != NULL && i < WORKERS_MAX; i++)
        count += counter_read(&api->unknown_apps[i]);
    snprintf(port, sizeof port, "%u", api->metrics_port);
    metrics_append_label(&labels, "app_id", SLICE(""));
    metrics_append_label(&labels, "port", slice_of(port));
    metrics_sample_of(page, buffer_slice(&labels), "error_type", connection_error_names[CONNECTION_ERROR_APP_NOT_FOUND],
                      count);
    buffer_dispose(&labels);
}

/* Of a labelled family only the series above zero: an app has about fifty. */
static void append_family(struct metrics_page *page, const struct app_family *family, const struct app_totals *app) {
    struct slice labels = buffer_slice(&app->labels);

    if (family->label == NULL)
        metrics_sample(page, labels, app->counters[family->first]);
    for (size_t i = 0; i < family->count; i++)
        if (app->counters[family->first + i] != 0)
            metrics_sample_of(page, labels, family->label, family->values[i], app->counters[family->first + i]);
}

static void append_counters(struct metrics_page *page, const struct totals *totals) {
    for (size_t at = 0; at < sizeof families / sizeof families[0]; at++) {
        metrics_family(page, families[at].name, "counter", families[at].help);
        for (size_t i = 0; i < totals->count; i++)
            append_family(page, &families[at], &totals->apps[i]);
        if (families[at].first == OFFSET(errors))
            append_unknown_apps(page, totals->api);
    }
}

/* Only the series with values: an app has twenty. */
static void append_latency_of(struct metrics_page *page, struct app_totals *app) {
    const uint64_t *series = app->latency;
    size_t app_length = app->labels.length;

    for (size_t type = 0; type < BROADCAST_CHANNEL_TYPES; type++) {
        for (size_t size = 0; size < BROADCAST_SIZE_COUNT; size++, series += BROADCAST_LATENCY_BUCKETS + 1) {
            uint64_t count = 0;
            for (size_t i = 0; i < BROADCAST_LATENCY_BUCKETS; i++)
                count += series[i];
            if (count == 0)
                continue;
            metrics_append_label(&app->labels, "channel_type", slice_of(channel_label_names[type]));
            metrics_append_label(&app->labels, "recipient_count_bucket", slice_of(broadcast_size_names[size]));
            metrics_histogram(page, buffer_slice(&app->labels), broadcast_latency_bounds_us, series,
                              BROADCAST_LATENCY_BUCKETS, series[BROADCAST_LATENCY_BUCKETS], 1e3);
            app->labels.length = app_length;
        }
    }
}

_Static_assert(BROADCAST_CHANNEL_TYPES == CHANNEL_LABEL_COUNT, "one series for each type of channel");

void metrics_append_apps(struct metrics_page *page, const struct api *api) {
    struct totals totals = {.api = api};

    app_manager_each_slot(api->apps, collect_totals, &totals);
    append_gauges(page, &totals);
    append_app_memory(page, &totals);
    append_counters(page, &totals);
    metrics_family(page, "broadcast_latency_ms", "histogram",
                   "Milliseconds from publishing an event to handing it to the connections of a worker.");
    for (size_t i = 0; i < totals.count; i++) {
        append_latency_of(page, &totals.apps[i]);
        buffer_dispose(&totals.apps[i].labels);
    }
    free(totals.apps);
}
