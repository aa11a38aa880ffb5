/* Metrics of the cluster; with the adapter `local` only those of the family are there. */
#include "api/metrics.h"
#include "channel/channel.h"
#include "cluster/cluster.h"

static const struct {
    const char *name, *help;
    size_t offset;
} kind_families[] = {
    {"cluster_messages_received_total", "Messages of other nodes that arrived, by kind.",
     offsetof(struct cluster_kind_metrics, received)},
    {"cluster_received_bytes_total", "Bytes of these messages.", offsetof(struct cluster_kind_metrics, received_bytes)},
    {"cluster_messages_sent_total", "Messages that were handed to the message system between nodes, by kind.",
     offsetof(struct cluster_kind_metrics, sent)},
    {"cluster_sent_bytes_total", "Bytes of these messages.", offsetof(struct cluster_kind_metrics, sent_bytes)},
};

static void append_kinds(struct metrics_page *page, const struct cluster_metrics *metrics, struct slice labels) {
    for (size_t i = 0; i < sizeof kind_families / sizeof kind_families[0]; i++) {
        metrics_family(page, kind_families[i].name, "counter", kind_families[i].help);
        for (unsigned kind = 0; kind < MESSAGE_KINDS; kind++) {
            const char *at = (const char *)&metrics->kinds[kind];
            uint64_t value = *(const uint64_t *)(at + kind_families[i].offset);
            if (value != 0)
                metrics_sample_of(page, labels, "kind", message_kind_name(kind), value);
        }
    }
}

static void append_dropped(struct metrics_page *page, const struct cluster_metrics *metrics, struct slice labels) {
    metrics_family(
        page, "cluster_messages_dropped_total", "counter",
        "Messages of other nodes that were dropped: they do not parse (malformed), are of an unknown kind or "
        "version (skipped), or come from a node that is not known, dead or departed (sender). Messages of "
        "this node that could not be sent (unsent). Events of this node that had no room while they waited (full) or "
        "waited for too long (expired), and events of other nodes while this one was too far behind (behind) or that "
        "came on the subject of another channel (subject).");
    metrics_sample_of(page, labels, "reason", "malformed", metrics->malformed);
    metrics_sample_of(page, labels, "reason", "skipped", metrics->skipped);
    metrics_sample_of(page, labels, "reason", "sender", metrics->dropped);
    metrics_sample_of(page, labels, "reason", "unsent", metrics->unsent);
    metrics_sample_of(page, labels, "reason", "full", metrics->publisher.dropped);
    metrics_sample_of(page, labels, "reason", "expired", metrics->publisher.expired);
    metrics_sample_of(page, labels, "reason", "behind", metrics->incoming.dropped);
    metrics_sample_of(page, labels, "reason", "subject", metrics->incoming.foreign);
}

static uint64_t count_answers(const struct cluster_metrics *metrics) {
    uint64_t count = 0;

    for (size_t i = 0; i < STATE_ANSWER_BUCKETS; i++)
        count += metrics->answered[i];
    return count;
}

static void append_answer_times(struct metrics_page *page, const struct cluster_metrics *metrics, struct slice labels) {
    uint64_t bounds[STATE_ANSWER_BUCKETS] = {0};

    for (size_t i = 0; i + 1 < STATE_ANSWER_BUCKETS; i++)
        bounds[i] = state_answer_bounds_ms[i];
    metrics_family(page, "horizontal_adapter_resolve_time", "histogram",
                   "How long requests to other nodes took that were answered, in milliseconds.");
    metrics_histogram(page, labels, bounds, metrics->answered, STATE_ANSWER_BUCKETS, metrics->answered_ms, 1);
}

/* The metrics of the family: dashboards find them at zero if there is no cluster. */
static void append_adapter(struct metrics_page *page, const struct cluster_metrics *metrics, struct slice labels) {
    uint64_t answered = count_answers(metrics);
    const struct {
        const char *name, *help;
        uint64_t value;
    } families[] = {
        {"horizontal_adapter_resolved_promises", "Requests to other nodes that a node answered.", answered},
        {"horizontal_adapter_uncomplete_promises", "Requests to other nodes that a node did not answer in time.",
         metrics->unanswered},
        {"horizontal_adapter_sent_requests", "Requests sent to other nodes.", metrics->requests_sent},
        {"horizontal_adapter_received_requests", "Requests received from other nodes.", metrics->requests_received},
        {"horizontal_adapter_received_responses", "Answers received from other nodes.", metrics->responses_received},
    };

    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        metrics_family(page, families[i].name, "counter", families[i].help);
        metrics_sample(page, labels, families[i].value);
    }
    append_answer_times(page, metrics, labels);
}

static void append_waiting(struct metrics_page *page, const struct cluster_metrics *metrics, struct slice labels) {
    metrics_family(page, "cluster_waiting_messages", "gauge",
                   "Messages that wait until the message system between nodes takes them.");
    metrics_sample(page, labels, metrics->publisher.waiting);
    metrics_family(page, "cluster_waiting_bytes", "gauge", "Bytes of these messages.");
    metrics_sample(page, labels, metrics->publisher.waiting_bytes);
    metrics_family(page, "cluster_gaps_total", "counter",
                   "Sets of other nodes of which something was missing, so that they were asked for.");
    metrics_sample(page, labels, metrics->gaps);
    metrics_family(page, "cluster_state_bytes_total", "counter",
                   "Bytes of the answers to other nodes that asked for the state of channels.");
    metrics_sample(page, labels, metrics->state_bytes);
}

/* The store of cache.driver. */
static void append_cached_events(struct metrics_page *page, const struct cached_events_stats *stats,
                                 struct slice labels) {
    metrics_family(page, "cluster_cached_events_waiting", "gauge",
                   "Events of cache channels that wait until Redis takes them.");
    metrics_sample(page, labels, stats->waiting);
    metrics_family(page, "cluster_cached_events_lost_total", "counter",
                   "Events of cache channels that are not in Redis: no room while they waited (full), or it did not "
                   "take them (refused).");
    metrics_sample_of(page, labels, "reason", "full", stats->dropped);
    metrics_sample_of(page, labels, "reason", "refused", stats->refused);
}

void metrics_append_cluster(struct metrics_page *page, const struct api *api, struct slice labels) {
    struct cluster_metrics metrics = {0};

    if (api->cluster != NULL)
        cluster_read_metrics(api->cluster, &metrics);
    append_adapter(page, &metrics, labels);
    if (api->cluster == NULL)
        return;
    metrics_family(page, "cluster_nodes_alive", "gauge", "Nodes that are alive, with this one.");
    metrics_sample(page, labels, metrics.alive);
    metrics_family(page, "cluster_bus_up", "gauge", "1 if the message system between nodes can be reached.");
    metrics_sample(page, labels, metrics.bus_up);
    metrics_family(page, "cluster_outages_total", "counter",
                   "How often the connection to the message system between nodes was lost.");
    metrics_sample(page, labels, metrics.outages);
    metrics_family(page, "cluster_outage_seconds_total", "counter",
                   "How long the message system between nodes could not be reached, since the start.");
    metrics_fraction(page, labels, (double)metrics.outage_ms / 1e3);
    metrics_family(page, "cluster_loop_lag_max_seconds", "gauge",
                   "The longest turn of the loop that talks to other nodes, since the start.");
    metrics_fraction(page, labels, (double)metrics.longest_turn_us / 1e6);
    metrics_family(page, "cluster_loop_cpu_max_seconds", "gauge",
                   "The most CPU time that a turn of the loop that talks to other nodes took, since the start.");
    metrics_fraction(page, labels, (double)metrics.longest_turn_cpu_us / 1e6);
    append_kinds(page, &metrics, labels);
    append_dropped(page, &metrics, labels);
    append_waiting(page, &metrics, labels);
    append_cached_events(page, &metrics.cached_events, labels);
    metrics_family(page, "cluster_waiting_subscriptions", "gauge",
                   "Subscriptions, sign-ins and watched users that wait until other nodes were heard.");
    metrics_sample(page, labels, channel_hub_waiting(api->channels));
}
