/*
 * A slot: the run-time state of one app id. Records come and go in it; connections, counts and channels stay.
 *
 *   slot "42" ---- current ----> struct app (immutable; replaced as a whole when the app changes)
 *      |  connections: one atomic count, so that max_connections is exact
 *      |  channels:    the app's live channels, see channel/
 *      +-- parts[worker]: sessions and counters of this worker, written by that worker only
 *
 * A session holds the slot, not the record, and calls slot_app() each time it needs a limit, so a change is in force at
 * once. The record that slot_app() returns is valid until the end of the worker's turn: a replaced record is freed only
 * after every worker has ended the turn in which it could have seen it.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "app/app.h"
#include "app/broadcast_latency.h"
#include "base/alloc.h"
#include "base/budget.h"
#include "base/counter.h"
#include "base/list.h"
#include "base/slice.h"
#include "base/token_bucket.h"
#include "net/worker.h"

/* The reason why a connection, subscription, event or request was refused; the label `reason` of a metric. */
enum refusal {
    REFUSED_DISABLED,
    REFUSED_ORIGIN,
    REFUSED_CONNECTIONS,
    REFUSED_MEMORY,
    REFUSED_MEMORY_LIMIT,
    REFUSED_CLIENT_EVENTS_OFF,
    REFUSED_CLIENT_EVENT_RATE,
    REFUSED_CLIENT_EVENT_CHANNEL,
    REFUSED_EVENT_NAME,
    REFUSED_EVENT_PAYLOAD,
    REFUSED_EVENT_CHANNELS,
    REFUSED_BATCH_SIZE,
    REFUSED_CHANNEL_NAME,
    REFUSED_PRESENCE_MEMBERS,
    REFUSED_PRESENCE_MEMBER_SIZE,
    REFUSED_SUBSCRIPTIONS,
    REFUSED_FILTERS,
    REFUSED_SIGNATURE,
    REFUSED_SIGN_IN,
    REFUSED_WATCHLIST,
    REFUSED_SLOW_READER,
    REFUSED_MESSAGE,
    REFUSED_MESSAGE_RATE,
    REFUSED_JUNK,
    REFUSED_REQUEST,
    REFUSED_READ_RATE,
    REFUSED_BACKEND_RATE,
    REFUSAL_COUNT,
};
extern const char *const refusal_names[REFUSAL_COUNT];

/* The label error_type of connection_errors_total, with the names that dashboards of the protocol family know. */
enum connection_error {
    /* Counted for the process, since an unknown key must not become a label. */
    CONNECTION_ERROR_APP_NOT_FOUND,
    CONNECTION_ERROR_APP_DISABLED,
    CONNECTION_ERROR_OVER_QUOTA,
    CONNECTION_ERROR_ORIGIN_NOT_ALLOWED,
    CONNECTION_ERROR_INVALID_MESSAGE_FORMAT,
    CONNECTION_ERROR_MESSAGE_PARSE_ERROR,
    CONNECTION_ERROR_MISSING_EVENT_NAME,
    CONNECTION_ERROR_AUTHENTICATION_FAILED,
    CONNECTION_ERROR_COUNT,
};
extern const char *const connection_error_names[CONNECTION_ERROR_COUNT];

/* The label channel_type of the channel metrics. */
enum channel_label { LABEL_PUBLIC, LABEL_PRIVATE, LABEL_PRESENCE, LABEL_CACHE, CHANNEL_LABEL_COUNT };
extern const char *const channel_label_names[CHANNEL_LABEL_COUNT];

struct app_counters {
    struct counter connections; /* opened */
    struct counter disconnections;
    struct counter bytes_received; /* over WebSocket */
    struct counter bytes_sent;
    struct counter messages_received;
    struct counter messages_sent;
    struct counter http_bytes_received;
    struct counter http_bytes_sent;
    struct counter http_calls;
    struct counter publishes; /* events over the HTTP API, one for each channel */
    struct counter client_events;
    struct counter previous_secret_signatures; /* accepted although made with the previous secret */
    struct counter filtered_messages;          /* events that a subscriber did not get because of its filter */
    struct counter delta_messages;             /* events that a connection got as a delta */
    struct counter delta_wholes;               /* events that it got whole, with a number: as a base of later deltas */
    struct counter delta_original_bytes;       /* of the deltas, had their events been sent whole */
    struct counter delta_saved_bytes;
    struct counter delta_resyncs;   /* clients that had lost their texts */
    struct counter delta_evictions; /* texts that went to make room for others */
    struct counter subscriptions[CHANNEL_LABEL_COUNT];
    struct counter unsubscriptions[CHANNEL_LABEL_COUNT];
    struct counter errors[CONNECTION_ERROR_COUNT];
    struct counter refusals[REFUSAL_COUNT];
};

/* One worker's part of an app's state. */
struct app_part {
    struct list sessions; /* established, on this worker; kept by session/ */
    uint32_t session_count;
    uint32_t to_review; /* of these sessions, how many are still to be judged by a changed record */
    /* Of the record by which they were judged last: origins_hash and enable_user_authentication. */
    uint64_t reviewed_origins;
    bool reviewed_sign_in;
    uint64_t sign_in_from_ms; /* when enable_user_authentication was turned on while there were sessions; 0: never */
    struct list link;         /* while there are sessions: in session_server.parts */
    struct app_counters counters;
    _Atomic(struct broadcast_latency *) latency; /* NULL until the first event is delivered */
    /* When a signature by the previous secret was last seen, in seconds since 1970, and until when that secret was
     * valid: a later one is another secret. Written by this worker only. */
    atomic_uint_fast64_t previous_seen_s, previous_seen_until_s;
};

/* The limits of requests per second. */
enum request_rate { RATE_READS, RATE_BACKEND_EVENTS, REQUEST_RATES };

struct app_slot {
    _Atomic(struct app *) current; /* NULL: deleted, or never valid */
    char *id;                      /* owned */
    atomic_uint_fast64_t connections;
    /* A struct channel_table, which channel/ makes when it is first needed. */
    _Atomic(void *) channels;
    /* Written with each request, so in a cache line of their own: all workers read the members above. They outlive a
     * record: a change gives no tokens. */
    _Alignas(CACHE_LINE) struct token_bucket rates[REQUEST_RATES];
    /* The minute of the last line of the log about refusals by a limit that the app did not choose. */
    atomic_uint_fast64_t rate_logged_minute[REQUEST_RATES];
    /* The memory that is held for the app: its connections, channels and what is in them. It outlives a record, too. */
    struct budget_app *budget;
    unsigned worker_count;
    /* By worker index. Each worker makes its part when it is first needed. */
    _Atomic(struct app_part *) parts[];
};

struct app_slot *app_slot_create(struct slice id, unsigned worker_count);
/* Frees the slot and its record; `free_channels` frees the channels. */
void app_slot_destroy(struct app_slot *slot, void (*free_channels)(void *channels));

/* Puts `record` (NULL: the app is deleted) in force, takes over the caller's reference to it, and returns the record
 * before, NULL if there was none; it is freed after a grace period. The record before gets its successor first: whoever
 * finds one of the two afterwards knows which is newer. A record enters a slot only once. One thread at a time. */
struct app *slot_replace_app(struct app_slot *slot, struct app *record);

/* The current record, or NULL when the app is deleted. Valid until the end of the worker's turn; do not keep it. */
static inline const struct app *slot_app(struct app_slot *slot) {
    return atomic_load_explicit(&slot->current, memory_order_acquire);
}

/* The worker's part of the slot. On that worker's thread only. */
struct app_part *slot_part(struct app_slot *slot, struct worker *worker);

/* Counts a connection if there are fewer than `max` (0: no limit); exact even if other workers count at the same time.
 */
bool slot_connection_enter(struct app_slot *slot, uint32_t max);
void slot_connection_leave(struct app_slot *slot);

/* The number of open connections. Any thread. */
static inline uint64_t slot_connections(struct app_slot *slot) {
    return atomic_load_explicit(&slot->connections, memory_order_relaxed);
}

/* Notes a signature by the previous secret of the app, which is valid until `until_s`. */
void slot_previous_secret_seen(struct app_slot *slot, struct worker *worker, uint64_t now_s, uint64_t until_s);
/* When such a signature was last seen; 0: never since the start. Any thread. */
uint64_t slot_previous_secret_last_seen(struct app_slot *slot, uint64_t until_s);

static inline void slot_refused(struct app_slot *slot, struct worker *worker, enum refusal reason) {
    counter_add(&slot_part(slot, worker)->counters.refusals[reason], 1);
}
