#include "api/stats.h"

#include "api/page_thread.h"
#include "api/usage.h"
#include "base/json.h"

struct app_stats {
    uint64_t connections;
    uint64_t channels, presence_channels;
    uint64_t subscriptions, presence_subscriptions;
    uint64_t received, sent; /* messages over WebSocket */
    uint64_t publishes;
};

static void read_part(const struct app_counters *counters, struct app_stats *stats) {
    stats->received += counter_read(&counters->messages_received);
    stats->sent += counter_read(&counters->messages_sent);
    stats->publishes += counter_read(&counters->publishes);
    for (unsigned i = 0; i < CHANNEL_LABEL_COUNT; i++) {
        uint64_t ended = counter_read(&counters->unsubscriptions[i]); /* its worker goes on counting */
        uint64_t begun = counter_read(&counters->subscriptions[i]);
        uint64_t open = begun > ended ? begun - ended : 0;
        stats->subscriptions += open;
        if (i == LABEL_PRESENCE)
            stats->presence_subscriptions += open;
    }
}

static void read_slot(struct app_slot *slot, struct app_stats *stats) {
    uint32_t active[CHANNEL_LABEL_COUNT];

    *stats = (struct app_stats){.connections = slot_connections(slot)};
    channel_count_active(slot, active);
    for (unsigned i = 0; i < CHANNEL_LABEL_COUNT; i++)
        stats->channels += active[i];
    stats->presence_channels = active[LABEL_PRESENCE];
    for (unsigned i = 0; i < slot->worker_count; i++) {
        const struct app_part *part = atomic_load_explicit(&slot->parts[i], memory_order_acquire);
        if (part != NULL)
            read_part(&part->counters, stats);
    }
}

static void append_stats(struct buffer *text, const struct app_stats *stats) {
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"\"connections\":", stats->connections},
        {",\"channels\":", stats->channels},
        {",\"messages\":", stats->received + stats->sent},
        {",\"messages_received\":", stats->received},
        {",\"messages_sent\":", stats->sent},
        {",\"publishes\":", stats->publishes},
        {",\"occupancy\":{\"channels\":", stats->channels},
        {",\"subscriptions\":", stats->subscriptions},
        {",\"presence_channels\":", stats->presence_channels},
        {",\"presence_subscriptions\":", stats->presence_subscriptions},
    };

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        buffer_append_string(text, members[i].name);
        buffer_append_number(text, members[i].value);
    }
    buffer_append_byte(text, '}');
}

static void append_app(struct buffer *text, const struct app_slot *slot, const struct app_stats *stats) {
    buffer_append(text, SLICE("{\"app_id\":"));
    json_append_string(text, slice_of(slot->id));
    buffer_append_byte(text, ',');
    append_stats(text, stats);
    buffer_append_byte(text, '}');
}

/* --- all apps --- */

struct all_stats {
    struct buffer *text;
    struct app_stats totals;
    uint64_t apps;
};

static void add_app(struct app_slot *slot, void *context) {
    struct all_stats *all = context;
    struct app_stats stats;

    read_slot(slot, &stats);
    if (slot_app(slot) == NULL && stats.connections == 0) /* a deleted app */
        return;
    if (all->apps++ != 0)
        buffer_append_byte(all->text, ',');
    append_app(all->text, slot, &stats);
    all->totals.connections += stats.connections;
    all->totals.channels += stats.channels;
    all->totals.presence_channels += stats.presence_channels;
    all->totals.subscriptions += stats.subscriptions;
    all->totals.presence_subscriptions += stats.presence_subscriptions;
    all->totals.received += stats.received;
    all->totals.sent += stats.sent;
    all->totals.publishes += stats.publishes;
}

void stats_append_page(const struct api *api, struct buffer *text) {
    struct all_stats all = {.text = text};

    buffer_append_byte(text, '{');
    if (usage_append_memory(text))
        buffer_append_byte(text, ',');
    buffer_append(text, SLICE("\"apps\":["));
    app_manager_each_slot(api->apps, add_app, &all);
    buffer_append(text, SLICE("],\"totals\":{\"apps\":"));
    buffer_append_number(text, all.apps);
    buffer_append_byte(text, ',');
    append_stats(text, &all.totals);
    buffer_append(text, SLICE("}}"));
}

void stats_answer_all(struct api_call *call) {
    page_answer(call->api->stats, call, SLICE("application/json"));
}

/* --- one app --- */

void api_get_stats(struct api_call *call) {
    struct buffer answer = {0};
    struct app_stats stats;

    if (call->lookup.app == NULL) {
        if (call->api->config->http_api.stats_public)
            stats_answer_all(call);
        else
            api_refuse(call, 401, REFUSED_SIGNATURE,
                       "auth_key is missing: /stats is signed as requests to /apps are; without a signature it needs "
                       "http_api.stats_public");
        return;
    }
    read_slot(call->lookup.slot, &stats);
    append_app(&answer, call->lookup.slot, &stats);
    api_answer(call, buffer_slice(&answer));
    buffer_dispose(&answer);
}
