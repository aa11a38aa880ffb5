#include "app/app_slot.h"

#include <stdlib.h>

#include "base/alloc.h"

const char *const refusal_names[REFUSAL_COUNT] = {
    [REFUSED_DISABLED] = "disabled",
    [REFUSED_ORIGIN] = "allowed_origins",
    [REFUSED_CONNECTIONS] = "max_connections",
    [REFUSED_MEMORY] = "memory_threshold",
    [REFUSED_MEMORY_LIMIT] = "memory_limit",
    [REFUSED_CLIENT_EVENTS_OFF] = "enable_client_messages",
    [REFUSED_CLIENT_EVENT_RATE] = "max_client_events_per_second",
    [REFUSED_CLIENT_EVENT_CHANNEL] = "client_event_channel",
    [REFUSED_EVENT_NAME] = "max_event_name_length",
    [REFUSED_EVENT_PAYLOAD] = "max_event_payload_in_kb",
    [REFUSED_EVENT_CHANNELS] = "max_event_channels_at_once",
    [REFUSED_BATCH_SIZE] = "max_event_batch_size",
    [REFUSED_CHANNEL_NAME] = "max_channel_name_length",
    [REFUSED_PRESENCE_MEMBERS] = "max_presence_members_per_channel",
    [REFUSED_PRESENCE_MEMBER_SIZE] = "max_presence_member_size_in_kb",
    [REFUSED_SUBSCRIPTIONS] = "subscriptions_per_connection",
    [REFUSED_FILTERS] = "filters_per_channel",
    [REFUSED_SIGNATURE] = "signature",
    [REFUSED_SIGN_IN] = "enable_user_authentication",
    [REFUSED_WATCHLIST] = "watchlist",
    [REFUSED_SLOW_READER] = "slow_reader",
    [REFUSED_MESSAGE] = "message",
    [REFUSED_MESSAGE_RATE] = "message_rate_limit",
    [REFUSED_JUNK] = "junk_messages",
    [REFUSED_REQUEST] = "request",
    [REFUSED_READ_RATE] = "max_read_requests_per_second",
    [REFUSED_BACKEND_RATE] = "max_backend_events_per_second",
};

const char *const connection_error_names[CONNECTION_ERROR_COUNT] = {
    [CONNECTION_ERROR_APP_NOT_FOUND] = "app_not_found",
    [CONNECTION_ERROR_APP_DISABLED] = "app_disabled",
    [CONNECTION_ERROR_OVER_QUOTA] = "over_quota",
    [CONNECTION_ERROR_ORIGIN_NOT_ALLOWED] = "origin_not_allowed",
    [CONNECTION_ERROR_INVALID_MESSAGE_FORMAT] = "invalid_message_format",
    [CONNECTION_ERROR_MESSAGE_PARSE_ERROR] = "message_parse_error",
    [CONNECTION_ERROR_MISSING_EVENT_NAME] = "missing_event_name",
    [CONNECTION_ERROR_AUTHENTICATION_FAILED] = "authentication_failed",
};

const char *const channel_label_names[CHANNEL_LABEL_COUNT] = {
    [LABEL_PUBLIC] = "public",
    [LABEL_PRIVATE] = "private",
    [LABEL_PRESENCE] = "presence",
    [LABEL_CACHE] = "cache",
};

struct app_slot *app_slot_create(struct slice id, unsigned worker_count) {
    struct app_slot *slot = alloc_cache_line(sizeof *slot + worker_count * sizeof slot->parts[0]);

    slot->id = alloc_copy(id.data, id.length);
    slot->budget = budget_app_create();
    slot->worker_count = worker_count;
    return slot;
}

void app_slot_destroy(struct app_slot *slot, void (*free_channels)(void *channels)) {
    for (unsigned i = 0; i < slot->worker_count; i++) {
        struct app_part *part = atomic_load(&slot->parts[i]);
        if (part != NULL)
            free(atomic_load(&part->latency));
        free(part);
    }
    if (atomic_load(&slot->channels) != NULL)
        free_channels(atomic_load(&slot->channels));
    app_unref(atomic_load(&slot->current));
    budget_app_release(slot->budget);
    free(slot->id);
    free(slot);
}

struct app *slot_replace_app(struct app_slot *slot, struct app *record) {
    struct app *before = atomic_load(&slot->current);

    if (before != NULL)
        app_set_successor(before, record);
    atomic_store(&slot->current, record);
    return before;
}

struct app_part *slot_part(struct app_slot *slot, struct worker *worker) {
    struct app_part *part = atomic_load_explicit(&slot->parts[worker->index], memory_order_relaxed);

    if (part == NULL) {
        part = alloc_cache_line(sizeof *part);
        list_init(&part->sessions);
        list_init(&part->link);
        atomic_store_explicit(&slot->parts[worker->index], part, memory_order_release);
    }
    return part;
}

bool slot_connection_enter(struct app_slot *slot, uint32_t max) {
    uint_fast64_t count = atomic_load_explicit(&slot->connections, memory_order_relaxed);

    do {
        if (max != 0 && count >= max)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&slot->connections, &count, count + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

void slot_connection_leave(struct app_slot *slot) {
    atomic_fetch_sub_explicit(&slot->connections, 1, memory_order_relaxed);
}

void slot_previous_secret_seen(struct app_slot *slot, struct worker *worker, uint64_t now_s, uint64_t until_s) {
    struct app_part *part = slot_part(slot, worker);

    counter_add(&part->counters.previous_secret_signatures, 1);
    atomic_store_explicit(&part->previous_seen_until_s, until_s, memory_order_relaxed);
    atomic_store_explicit(&part->previous_seen_s, now_s, memory_order_relaxed);
}

uint64_t slot_previous_secret_last_seen(struct app_slot *slot, uint64_t until_s) {
    uint64_t last = 0;

    for (unsigned i = 0; i < slot->worker_count; i++) {
        const struct app_part *part = atomic_load_explicit(&slot->parts[i], memory_order_acquire);
        uint64_t seen = 0;
        if (part != NULL && atomic_load_explicit(&part->previous_seen_until_s, memory_order_relaxed) == until_s)
            seen = atomic_load_explicit(&part->previous_seen_s, memory_order_relaxed);
        last = seen > last ? seen : last;
    }
    return last;
}
