#include "app/app.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/near_miss.h"
#include "config/config.h"

#define TEXT(field, member)                                                                                            \
    [field] = {#member, APP_TYPE_TEXT, .offset = offsetof(struct app, member), .defaults_offset = -1}
#define SECRET(field, member, field_type, is_optional)                                                                 \
    [field] = {#member,                                                                                                \
               field_type,                                                                                             \
               is_optional,                                                                                            \
               .hidden = true,                                                                                         \
               .offset = offsetof(struct app, member),                                                                 \
               .defaults_offset = -1}
#define FLAG(field, member, otherwise, is_optional)                                                                    \
    [field] = {#member,                                                                                                \
               APP_TYPE_FLAG,                                                                                          \
               is_optional,                                                                                            \
               .offset = offsetof(struct app, member),                                                                 \
               .fallback = otherwise,                                                                                  \
               .defaults_offset = -1}
#define REQUIRED_NUMBER(field, member)                                                                                 \
    [field] = {#member, APP_TYPE_NUMBER, .offset = offsetof(struct app, member), .fallback = 100, .defaults_offset = -1}
#define NUMBER(field, member)                                                                                          \
    [field] = {#member,                                                                                                \
               APP_TYPE_NUMBER,                                                                                        \
               true,                                                                                                   \
               .offset = offsetof(struct app, member),                                                                 \
               .fallback = 100,                                                                                        \
               .defaults_offset = (ptrdiff_t)offsetof(struct app_defaults, member)}
#define JSON(field, name) [field] = {name, APP_TYPE_JSON, true, .defaults_offset = -1}

const struct app_field_info app_fields[APP_FIELD_COUNT] = {
    TEXT(APP_ID, id),
    TEXT(APP_KEY, key),
    SECRET(APP_SECRET, secret, APP_TYPE_TEXT, false),
    SECRET(APP_PREVIOUS_SECRET, previous_secret, APP_TYPE_TEXT, true),
    SECRET(APP_PREVIOUS_SECRET_UNTIL, previous_secret_until, APP_TYPE_TIME, true),
    FLAG(APP_ENABLED, enabled, true, false),
    FLAG(APP_ENABLE_CLIENT_MESSAGES, enable_client_messages, false, false),
    REQUIRED_NUMBER(APP_MAX_CONNECTIONS, max_connections),
    REQUIRED_NUMBER(APP_MAX_CLIENT_EVENTS_PER_SECOND, max_client_events_per_second),
    NUMBER(APP_MAX_READ_REQUESTS_PER_SECOND, max_read_requests_per_second),
    NUMBER(APP_MAX_BACKEND_EVENTS_PER_SECOND, max_backend_events_per_second),
    NUMBER(APP_MAX_PRESENCE_MEMBERS_PER_CHANNEL, max_presence_members_per_channel),
    NUMBER(APP_MAX_PRESENCE_MEMBER_SIZE_IN_KB, max_presence_member_size_in_kb),
    NUMBER(APP_MAX_CHANNEL_NAME_LENGTH, max_channel_name_length),
    NUMBER(APP_MAX_EVENT_CHANNELS_AT_ONCE, max_event_channels_at_once),
    NUMBER(APP_MAX_EVENT_NAME_LENGTH, max_event_name_length),
    NUMBER(APP_MAX_EVENT_PAYLOAD_IN_KB, max_event_payload_in_kb),
    NUMBER(APP_MAX_EVENT_BATCH_SIZE, max_event_batch_size),
    FLAG(APP_ENABLE_USER_AUTHENTICATION, enable_user_authentication, false, true),
    FLAG(APP_ENABLE_WATCHLIST_EVENTS, enable_watchlist_events, false, true),
    JSON(APP_ALLOWED_ORIGINS, "allowed_origins"),
    JSON(APP_WEBHOOKS, "webhooks"),
    JSON(APP_CHANNEL_DELTA_COMPRESSION, "channel_delta_compression"),
    JSON(APP_POLICY, "policy"),
};

void app_defaults_from_config(struct app_defaults *defaults, const struct config *config) {
    *defaults = (struct app_defaults){
        .max_read_requests_per_second = config->rate_limits.max_read_requests_per_second,
        .max_backend_events_per_second = config->rate_limits.max_backend_events_per_second,
        .max_presence_members_per_channel = config->presence.max_members_per_channel,
        .max_presence_member_size_in_kb = config->presence.max_member_size_in_kb,
        .max_channel_name_length = config->channel_limits.max_name_length,
        .max_event_channels_at_once = config->event_limits.max_channels_at_once,
        .max_event_name_length = config->event_limits.max_name_length,
        .max_event_payload_in_kb = config->event_limits.max_payload_in_kb,
        .max_event_batch_size = config->event_limits.max_batch_size,
    };
}

void app_warn_to_log(void *context, const char *text) {
    (void)context;
    log_warning("app", "%s", text);
}

struct app *app_ref(struct app *app) {
    atomic_fetch_add_explicit(&app->references, 1, memory_order_relaxed);
    return app;
}

/* The successor of a record whose app was deleted. */
static struct app no_successor;

void app_set_successor(struct app *app, struct app *successor) {
    atomic_store_explicit(&app->successor, successor != NULL ? app_ref(successor) : &no_successor,
                          memory_order_release);
}

struct app *app_latest(struct app *app) {
    struct app *successor;

    while ((successor = atomic_load_explicit(&app->successor, memory_order_acquire)) != NULL)
        app = successor;
    return app != &no_successor ? app : NULL;
}

static void app_free(struct app *app) {
    if (app->secret.data != NULL)
        explicit_bzero((char *)app->secret.data, app->secret.length);
    if (app->previous_secret.data != NULL)
        explicit_bzero((char *)app->previous_secret.data, app->previous_secret.length);
    explicit_bzero(&app->hmac, sizeof app->hmac);
    explicit_bzero(&app->previous_hmac, sizeof app->previous_hmac);
    free(app->allowed_origins);
    app_webhooks_free(app->webhooks, app->webhook_count);
    free(app->delta_settings);
    json_decref(app->webhooks_json);
    json_decref(app->delta_json);
    json_decref(app->policy_json);
    json_decref(app->unknown);
    free(app);
}

void app_unref(struct app *app) {
    /* A loop, since a record that was held for long may have many successors that nothing else holds. */
    while (app != NULL && app != &no_successor &&
           atomic_fetch_sub_explicit(&app->references, 1, memory_order_acq_rel) == 1) {
        struct app *successor = atomic_load_explicit(&app->successor, memory_order_relaxed);

        app_free(app);
        app = successor;
    }
}

bool app_webhook_takes(const struct app *app, size_t index, unsigned kinds, struct slice channel) {
    const struct app_webhook *webhook = &app->webhooks[index];
    bool gave_up = false, takes;

    if ((webhook->event_types & kinds) == 0)
        return false;
    takes = webhook_filter_takes(&webhook->filter, channel, &gave_up);
    if (gave_up)
        log_warning("app",
                    "app %s: webhooks[%zu].filter.channel_pattern takes too many steps for the channel %.*s, so it "
                    "does not match; a pattern without nested repetition takes fewer",
                    app->id.data, index, SLICE_ARGS(channel));
    return takes;
}

unsigned app_webhook_kinds_of(const struct app *app, unsigned kinds, struct slice channel) {
    unsigned taken = 0;

    kinds &= app->webhook_kinds;
    for (size_t i = 0; i < app->webhook_count && taken != kinds; i++)
        if (app_webhook_takes(app, i, kinds & ~taken, channel))
            taken |= app->webhooks[i].event_types & kinds;
    return taken;
}

uint32_t app_number(const struct app *app, enum app_field field) {
    return *(const uint32_t *)((const char *)app + app_fields[field].offset);
}

bool app_field_from_name(struct slice name, enum app_field *field) {
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++) {
        if (slice_equal(name, slice_of(app_fields[i].name))) {
            *field = (enum app_field)i;
            return true;
        }
    }
    return false;
}

struct slice app_field_meant(struct slice name) {
    /* in tables of soketi and sample files of Sockudo */
    static const struct {
        const char *name, *meant;
    } others[] = {
        {"max_backend_events_per_sec", "max_backend_events_per_second"},
        {"max_client_events_per_sec", "max_client_events_per_second"},
        {"max_read_req_per_sec", "max_read_requests_per_second"},
    };
    struct near_miss miss = near_miss_of(name);

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (slice_equal(name, slice_of(others[i].name)))
            return slice_of(others[i].meant);
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        near_miss_offer(&miss, slice_of(app_fields[i].name));
    return miss.best;
}

static json_t *origins_json(const struct app *app) {
    json_t *list = json_array();

    for (size_t i = 0; i < app->allowed_origin_count; i++)
        json_array_append_new(list, json_stringn(app->allowed_origins[i].data, app->allowed_origins[i].length));
    return list;
}

static json_t *field_json(const struct app *app, enum app_field field) {
    const void *at = (const char *)app + app_fields[field].offset;
    const struct slice *text = at;

    switch (app_fields[field].type) {
    case APP_TYPE_TEXT:
        return json_stringn(text->data, text->length);
    case APP_TYPE_FLAG:
        return json_boolean(*(const bool *)at);
    case APP_TYPE_NUMBER:
    case APP_TYPE_TIME:
        return json_integer((json_int_t) * (const uint32_t *)at);
    case APP_TYPE_JSON:
        break;
    }
    if (field == APP_ALLOWED_ORIGINS)
        return origins_json(app);
    if (field == APP_POLICY)
        return json_deep_copy(app->policy_json);
    return json_deep_copy(field == APP_WEBHOOKS ? app->webhooks_json : app->delta_json);
}

json_t *app_to_json(const struct app *app) {
    json_t *record = json_object(), *value;
    const char *name;

    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (app_field_is_set(app, (enum app_field)i))
            json_object_set_new(record, app_fields[i].name, field_json(app, (enum app_field)i));
    json_object_foreach(app->unknown, name, value) {
        json_object_set_new(record, name, json_deep_copy(value));
    }
    return record;
}

bool app_equal(const struct app *a, const struct app *b) {
    json_t *first, *second;
    bool equal;

    if (a == b)
        return true;
    for (unsigned i = 0; i < APP_FIELD_COUNT; i++)
        if (app_fields[i].type == APP_TYPE_NUMBER &&
            app_number(a, (enum app_field)i) != app_number(b, (enum app_field)i))
            return false;
    first = app_to_json(a);
    second = app_to_json(b);
    equal = json_equal(first, second);
    json_decref(first);
    json_decref(second);
    return equal;
}

bool app_name_valid(struct slice text) {
    if (text.length == 0 || text.length > 255)
        return false;
    for (size_t i = 0; i < text.length; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~' || strchr("/?#%", text.data[i]) != NULL)
            return false;
    return true;
}
