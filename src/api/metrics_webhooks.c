/* Metrics of webhooks; those of one webhook are absent until its first event. */
#include "api/metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "app/webhook_event.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "webhook/delivery.h"

/* A copy of one webhook's counters. */
struct webhook_totals {
    struct buffer labels;
    uint64_t delivered, failures, retries, waiting, waiting_bytes, oldest_wall_ms;
    uint64_t dropped[WEBHOOK_DROP_COUNT];
    uint64_t latency[WEBHOOK_LATENCY_BUCKETS], latency_sum_ms;
};

struct webhook_list {
    unsigned port;
    struct webhook_totals *webhooks;
    size_t count, capacity;
};

static void collect_webhook(struct slice app_id, size_t index, const struct webhook_counters *counters, void *context) {
    struct webhook_list *list = context;
    struct webhook_totals *totals;
    char number[24];

    if (list->count == list->capacity) {
        list->capacity = list->capacity != 0 ? 2 * list->capacity : 8;
        list->webhooks = alloc_array(list->webhooks, list->capacity, sizeof list->webhooks[0]);
    }
    totals = &list->webhooks[list->count++];
    *totals = (struct webhook_totals){
        .delivered = counter_read(&counters->delivered),
        .failures = counter_read(&counters->failures),
        .retries = counter_read(&counters->retries),
        .waiting = counter_read(&counters->waiting),
        .waiting_bytes = counter_read(&counters->waiting_bytes),
        .oldest_wall_ms = counter_read(&counters->oldest_wall_ms),
        .latency_sum_ms = counter_read(&counters->latency_sum_ms),
    };
    for (size_t i = 0; i < WEBHOOK_DROP_COUNT; i++)
        totals->dropped[i] = counter_read(&counters->dropped[i]);
    for (size_t i = 0; i < WEBHOOK_LATENCY_BUCKETS; i++)
        totals->latency[i] = counter_read(&counters->latency[i]);
    metrics_append_label(&totals->labels, "app_id", app_id);
    snprintf(number, sizeof number, "%u", list->port);
    metrics_append_label(&totals->labels, "port", slice_of(number));
    snprintf(number, sizeof number, "%zu", index);
    metrics_append_label(&totals->labels, "webhook", slice_of(number));
}

static void append_webhook_counts(struct metrics_page *page, const struct webhook_list *list) {
    static const struct {
        const char *name, *type, *help;
        size_t offset;
    } simple[] = {
        {"webhook_events_sent_total", "counter", "Webhook events that were accepted.",
         offsetof(struct webhook_totals, delivered)},
        {"webhook_failures_total", "counter", "Requests to webhooks that did not deliver their events.",
         offsetof(struct webhook_totals, failures)},
        {"webhook_retries_total", "counter", "Requests to webhooks that repeated an earlier one.",
         offsetof(struct webhook_totals, retries)},
        {"webhook_events_waiting", "gauge", "Webhook events that wait for delivery.",
         offsetof(struct webhook_totals, waiting)},
        {"webhook_waiting_bytes", "gauge", "Memory of the webhook events that wait for delivery.",
         offsetof(struct webhook_totals, waiting_bytes)},
    };

    for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++) {
        metrics_family(page, simple[i].name, simple[i].type, simple[i].help);
        for (size_t j = 0; j < list->count; j++)
            metrics_sample(page, buffer_slice(&list->webhooks[j].labels),
                           *(const uint64_t *)((const char *)&list->webhooks[j] + simple[i].offset));
    }
    metrics_family(page, "webhook_events_dropped_total", "counter",
                   "Webhook events that were given up: too many waited (bound), no attempt had success (retries), the "
                   "endpoint answered 410 (gone).");
    for (size_t j = 0; j < list->count; j++)
        for (size_t i = 0; i < WEBHOOK_DROP_COUNT; i++)
            metrics_sample_of(page, buffer_slice(&list->webhooks[j].labels), "reason", webhook_drop_names[i],
                              list->webhooks[j].dropped[i]);
}

static void append_webhook_times(struct metrics_page *page, const struct webhook_list *list) {
    uint64_t now_ms = clock_wall_ms();

    metrics_family(page, "webhook_oldest_event_seconds", "gauge", "How long the oldest webhook event has waited.");
    for (size_t j = 0; j < list->count; j++) {
        uint64_t since_ms = list->webhooks[j].oldest_wall_ms;

        metrics_fraction(page, buffer_slice(&list->webhooks[j].labels),
                         since_ms != 0 && now_ms > since_ms ? (double)(now_ms - since_ms) / 1000 : 0);
    }
    metrics_family(page, "webhook_delivery_seconds", "histogram",
                   "Time from the oldest event of a batch to the answer that accepted it.");
    for (size_t j = 0; j < list->count; j++)
        metrics_histogram(page, buffer_slice(&list->webhooks[j].labels), webhook_latency_bounds_ms,
                          list->webhooks[j].latency, WEBHOOK_LATENCY_BUCKETS, list->webhooks[j].latency_sum_ms, 1000);
}

/* Events that did not get as far as a webhook. */
static void append_lost_events(struct metrics_page *page, const struct api *api) {
    uint64_t lost = atomic_load_explicit(&api->webhook_outlet->dropped, memory_order_relaxed);
    struct buffer labels = {0};
    char number[24];

    snprintf(number, sizeof number, "%u", api->metrics_port);
    metrics_append_label(&labels, "port", slice_of(number));
    metrics_family(page, "webhook_events_lost_total", "counter",
                   "Events that were dropped because too many waited for the webhook thread.");
    metrics_sample(page, buffer_slice(&labels), lost);
    if (api->webhooks != NULL) {
        metrics_family(page, "webhook_spool_dropped_total", "counter",
                       "Events that an earlier process left in the spool for apps and webhooks that are gone.");
        metrics_sample(page, buffer_slice(&labels), delivery_spool_dropped(api->webhooks));
    }
    buffer_dispose(&labels);
}

void metrics_append_webhooks(struct metrics_page *page, const struct api *api) {
    struct webhook_list list = {.port = api->metrics_port};

    if (api->webhook_outlet != NULL)
        append_lost_events(page, api);
    if (api->webhooks != NULL)
        delivery_each_webhook(api->webhooks, collect_webhook, &list);
    if (list.count > 0) {
        append_webhook_counts(page, &list);
        append_webhook_times(page, &list);
    }
    for (size_t i = 0; i < list.count; i++)
        buffer_dispose(&list.webhooks[i].labels);
    free(list.webhooks);
}
