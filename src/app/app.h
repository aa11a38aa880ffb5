/*
 * An app: the record of who may connect and with which limits.
 *
 * A record is parsed once, from the configuration or from a store, and never changes: a change makes a new record. All
 * workers share it; the last reference frees it. One table, app_fields, describes the fields for parsing, writing,
 * comparing and the columns of stores.
 *
 *     json ---app_parse---> struct app ---app_to_json---> json     (a field that was not set stays not set)
 *
 * A record with a `policy` (policy_setting.h) has the values of the policy in its flat fields: those of the record
 * itself do not count then.
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/delta_setting.h"
#include "app/policy_setting.h"
#include "app/webhook_setting.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"

struct config;
struct secret_keyring;

/* The fields of a record, in the order of the documentation. */
enum app_field {
    APP_ID,
    APP_KEY,
    APP_SECRET,
    APP_PREVIOUS_SECRET,
    APP_PREVIOUS_SECRET_UNTIL,
    APP_ENABLED,
    APP_ENABLE_CLIENT_MESSAGES,
    APP_MAX_CONNECTIONS,
    APP_MAX_CLIENT_EVENTS_PER_SECOND,
    APP_MAX_READ_REQUESTS_PER_SECOND,
    APP_MAX_BACKEND_EVENTS_PER_SECOND,
    APP_MAX_PRESENCE_MEMBERS_PER_CHANNEL,
    APP_MAX_PRESENCE_MEMBER_SIZE_IN_KB,
    APP_MAX_CHANNEL_NAME_LENGTH,
    APP_MAX_EVENT_CHANNELS_AT_ONCE,
    APP_MAX_EVENT_NAME_LENGTH,
    APP_MAX_EVENT_PAYLOAD_IN_KB,
    APP_MAX_EVENT_BATCH_SIZE,
    APP_ENABLE_USER_AUTHENTICATION,
    APP_ENABLE_WATCHLIST_EVENTS,
    APP_ALLOWED_ORIGINS,
    APP_WEBHOOKS,
    APP_CHANNEL_DELTA_COMPRESSION,
    APP_POLICY,
    APP_FIELD_COUNT,
};

enum app_field_type {
    APP_TYPE_TEXT,   /* struct slice; id, key and the secrets */
    APP_TYPE_FLAG,   /* bool */
    APP_TYPE_NUMBER, /* uint32_t; 0: no limit */
    APP_TYPE_TIME,   /* uint32_t; seconds since 1970 */
    APP_TYPE_JSON,   /* allowed_origins, webhooks, channel_delta_compression, policy */
};

struct app_field_info {
    const char *name;
    enum app_field_type type;
    bool optional;             /* the column of a store may be NULL */
    bool hidden;               /* left out wherever a record is shown, unless secrets are asked for */
    size_t offset;             /* of the value in struct app */
    uint32_t fallback;         /* the default of a number or flag, if there is no server-wide one */
    ptrdiff_t defaults_offset; /* of the server-wide default in struct app_defaults, or -1 */
};

/* Runs the statement for each field whose bit (1 << field) is set in `bits`; `i` is the field's number. */
#define for_each_field(i, bits)                                                                                        \
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)                                                                     \
        if (((bits) >> i & 1) != 0)

#define APP_ALL_FIELDS ((1u << APP_FIELD_COUNT) - 1)

/* Indexed by enum app_field. */
extern const struct app_field_info app_fields[APP_FIELD_COUNT];

/* The server-wide defaults, for numbers that an app does not set. */
struct app_defaults {
    uint32_t max_read_requests_per_second;
    uint32_t max_backend_events_per_second;
    uint32_t max_presence_members_per_channel;
    uint32_t max_presence_member_size_in_kb;
    uint32_t max_channel_name_length;
    uint32_t max_event_channels_at_once;
    uint32_t max_event_name_length;
    uint32_t max_event_payload_in_kb;
    uint32_t max_event_batch_size;
    /* The keys that open encrypted secrets of a store; NULL: there are none. */
    const struct secret_keyring *keyring;
};

struct app {
    atomic_uint references;
    _Atomic(struct app *) successor; /* see app_set_successor */
    /* Events of webhooks that happened under this record and wait for the webhook thread: see struct webhook_outlet. */
    atomic_size_t waiting_events, waiting_bytes;
    uint32_t set;           /* bits (1 << field) of the fields that were given */
    uint32_t sealed;        /* bits of those that were encrypted in the store */
    bool sealed_by_old_key; /* one of them not by the first key */
    unsigned webhook_kinds; /* of enum app_webhook_event: the events that any webhook wants */

    struct slice id; /* these four also end with a zero byte */
    struct slice key;
    struct slice secret;
    struct slice previous_secret; /* accepted beside the secret until the time below; empty: there is none */
    uint32_t previous_secret_until;
    struct hmac_key hmac; /* of the secret */
    struct hmac_key previous_hmac;

    bool enabled;
    bool enable_client_messages;
    bool enable_user_authentication;
    bool enable_watchlist_events;

    /* The values in force: the app's, or the server-wide defaults. 0 is no limit; compare with limit_exceeded. */
    uint32_t max_connections;
    uint32_t max_client_events_per_second;
    uint32_t max_read_requests_per_second;
    uint32_t max_backend_events_per_second;
    uint32_t max_presence_members_per_channel;
    uint32_t max_presence_member_size_in_kb;
    uint32_t max_channel_name_length;
    uint32_t max_event_channels_at_once;
    uint32_t max_event_name_length;
    uint32_t max_event_payload_in_kb;
    uint32_t max_event_batch_size;

    /* Origins that may connect; none: all may. Each pattern is valid and has at most one `*`. */
    struct slice *allowed_origins;
    size_t allowed_origin_count;
    uint64_t origins_hash; /* differs between two lists; 0: none */

    struct app_webhook *webhooks;
    size_t webhook_count;

    struct app_delta_setting *delta_settings;
    size_t delta_setting_count;
    size_t delta_name_count; /* of these, how many are exact names: they come first */

    struct app_policy policy;

    /* For app_to_json. */
    json_t *webhooks_json;
    json_t *delta_json;
    json_t *policy_json;
    json_t *unknown; /* fields that this version does not know; NULL: none */
};

/* The source of a record. It decides how a number that is out of bounds is read, which warnings there are, and whether
 * a webhook's header that belongs to the server is an error (it is in a record that is about to be written). */
enum app_source {
    APP_FROM_CONFIGURATION,
    /* A command to write an app into a store. There is no warning of fields that this version does not know: the caller
     * finds out whether the store can hold them. */
    APP_FROM_COMMAND,
    APP_FROM_REQUEST, /* to write an app, over the admin API */
    APP_FROM_COPY,    /* a record that was read before, in another form; without warnings */
    /* A store, which another server may have filled: a negative 32-bit number stands for the unsigned number of the
     * same bits (-1 is 4294967295), and a flag may be the number 0 or 1. Secrets may be encrypted. */
    APP_FROM_STORE,
    /* A record whose secrets were encrypted to be written into a store: they are taken as they are. */
    APP_FOR_STORE,
};

/* Receives a warning: one sentence that names the app and the field. */
typedef void app_warning_function(void *context, const char *text);

/* Writes the warning to the log; `context` is not used. */
void app_warn_to_log(void *context, const char *text);

/* Sets the server-wide defaults to those of the configuration. */
void app_defaults_from_config(struct app_defaults *defaults, const struct config *config);

/*
 * Reads and validates a record. Returns it with one reference, or NULL with an error that names the app's id and the
 * field and says what would be right. Unknown fields are kept. They, and meaningless entries inside known fields, are
 * reported to `warn` (may be NULL). Takes no reference to `record`. Any thread.
 */
struct app *app_parse(const json_t *record, const struct app_defaults *defaults, enum app_source source,
                      app_warning_function *warn, void *context, struct error *error);

/* The same; when it returns NULL, `refused` is the name of the field that was refused, or NULL if `record` is not an
 * object. */
struct app *app_parse_or_name_field(const json_t *record, const struct app_defaults *defaults, enum app_source source,
                                    app_warning_function *warn, void *context, const char **refused,
                                    struct error *error);

/* Adds a reference; returns its argument. Any thread. */
struct app *app_ref(struct app *app);

/* Drops a reference; the last one frees the record. NULL is accepted. Any thread. */
void app_unref(struct app *app);

/*
 * Says that another record has replaced this one; NULL: the app was deleted. The record then keeps a reference to the
 * other one. Code that holds a record for longer than a turn finds the one in force by it. Call it once. Any thread.
 */
void app_set_successor(struct app *app, struct app *successor);

/* The record that has taken the place of this one, or itself; NULL: the app was deleted. Valid as long as the caller's
 * reference to `app`. Any thread. */
struct app *app_latest(struct app *app);

/*
 * The record as a new JSON object with its secret: the fields that were set, and the unknown ones. Webhook headers are
 * not nested, delta algorithms are spelled as other servers of the protocol family spell them.
 */
json_t *app_to_json(const struct app *app);

/* True if both have the same fields and the same limits in force. */
bool app_equal(const struct app *a, const struct app *b);

/* Those of the events `kinds` that webhooks take of the channel. The filter of a webhook is looked at once, and only if
 * the webhook wants one of the events. Any thread. */
unsigned app_webhook_kinds_of(const struct app *app, unsigned kinds, struct slice channel);

/* True if a webhook takes this event of the channel. Costs one load if no webhook of the app wants such an event. */
static inline bool app_wants_webhook(const struct app *app, enum app_webhook_event kind, struct slice channel) {
    return (app->webhook_kinds & kind) != 0 && app_webhook_kinds_of(app, kind, channel) != 0;
}

/* True if webhook `index` takes an event of the kind about the channel. Any thread. */
bool app_webhook_takes(const struct app *app, size_t index, unsigned kinds, struct slice channel);

/* True if clients get the event subscription_count: if a webhook wants it, for whichever channels. */
static inline bool app_wants_subscription_count(const struct app *app) {
    return (app->webhook_kinds & WEBHOOK_SUBSCRIPTION_COUNT) != 0;
}

static inline bool app_field_is_set(const struct app *app, enum app_field field) {
    return (app->set >> field & 1) != 0;
}

/* The number in force of a field of the type APP_TYPE_NUMBER. */
uint32_t app_number(const struct app *app, enum app_field field);

/* Finds the field with that name; false if there is none. */
bool app_field_from_name(struct slice name, enum app_field *field);

/* The field that was probably meant by a name that is none; empty if none is near. */
struct slice app_field_meant(struct slice name);

/* True if `text` can be the id or key of an app. Any other text is "not found" without a query. */
bool app_name_valid(struct slice text);

/* True if `value` exceeds `limit`; 0: no limit. */
static inline bool limit_exceeded(uint32_t limit, size_t value) {
    return limit != 0 && value > limit;
}
