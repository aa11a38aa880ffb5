#include <string.h>

#include "base/alloc.h"
#include "convert/laravel.h"
#include "convert/laravel_common.h"

#define SERVER(key) "servers.reverb." key
#define APP(key) "apps.apps.0." key
#define FOR_OTHERS "it says where back end and browsers connect; it stays as it is if Curlew takes the same address"
#define OWN_METRICS "Curlew serves metrics for Prometheus instead (docs/metrics.md)"

/* The variables of config/reverb.php as it ships. */
static const struct laravel_variable reverb_variables[] = {
    {"REVERB_SERVER", "default", NULL},
    {"REVERB_SERVER_HOST", SERVER("host"), NULL},
    {"REVERB_SERVER_PORT", SERVER("port"), NULL},
    {"REVERB_SERVER_PATH", SERVER("path"), NULL},
    {"REVERB_MAX_REQUEST_SIZE", SERVER("max_request_size"), NULL},
    {"REVERB_SCALING_ENABLED", SERVER("scaling.enabled"), NULL},
    {"REVERB_SCALING_CHANNEL", SERVER("scaling.channel"), NULL},
    {"REDIS_URL", SERVER("scaling.server.url"), NULL},
    {"REDIS_HOST", SERVER("scaling.server.host"), NULL},
    {"REDIS_PORT", SERVER("scaling.server.port"), NULL},
    {"REDIS_USERNAME", SERVER("scaling.server.username"), NULL},
    {"REDIS_PASSWORD", SERVER("scaling.server.password"), NULL},
    {"REDIS_DB", SERVER("scaling.server.database"), NULL},
    {"REVERB_PULSE_INGEST_INTERVAL", NULL, OWN_METRICS},
    {"REVERB_TELESCOPE_INGEST_INTERVAL", NULL, OWN_METRICS},
    {"REVERB_APP_ID", APP("app_id"), NULL},
    {"REVERB_APP_KEY", APP("key"), NULL},
    {"REVERB_APP_SECRET", APP("secret"), NULL},
    {"REVERB_APP_PING_INTERVAL", APP("ping_interval"), NULL},
    {"REVERB_APP_ACTIVITY_TIMEOUT", APP("activity_timeout"), NULL},
    {"REVERB_APP_MAX_CONNECTIONS", APP("max_connections"), NULL},
    {"REVERB_APP_MAX_MESSAGE_SIZE", APP("max_message_size"), NULL},
    {"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM", APP("accept_client_events_from"), NULL},
    {"REVERB_APP_RATE_LIMITING_ENABLED", APP("rate_limiting.enabled"), NULL},
    {"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS", APP("rate_limiting.max_attempts"), NULL},
    {"REVERB_APP_RATE_LIMIT_DECAY_SECONDS", APP("rate_limiting.decay_seconds"), NULL},
    {"REVERB_APP_RATE_LIMIT_TERMINATE", APP("rate_limiting.terminate_on_limit"), NULL},
    {"REVERB_HOST", NULL, FOR_OTHERS},
    {"REVERB_PORT", NULL, FOR_OTHERS},
    {"REVERB_SCHEME", NULL, FOR_OTHERS},
    {"VITE_REVERB_APP_KEY", NULL, FOR_OTHERS},
    {"VITE_REVERB_HOST", NULL, FOR_OTHERS},
    {"VITE_REVERB_PORT", NULL, FOR_OTHERS},
    {"VITE_REVERB_SCHEME", NULL, FOR_OTHERS},
};

/* What apps have and Curlew has once. */
struct reverb_totals {
    double activity_timeout_s; /* the smallest; 0: none yet */
    double message_bytes;      /* the largest */
    bool client_events;
};

void reverb_set_variables(struct conversion *conversion, const json_t *variables) {
    static const char *const prefixes[] = {"REVERB_", "VITE_REVERB_", NULL};

    laravel_set_variables(conversion, variables, reverb_variables, sizeof reverb_variables / sizeof reverb_variables[0],
                          prefixes);
}

/* Drops a map with one message, and without one if only a variable's name made it. */
static void drop_reverb_group(struct conversion *conversion, struct source *node, const char *reason) {
    if (!node->implied)
        conversion_dropped(conversion, node, "%s", reason);
    source_take(node);
}

/* A number of an app, or its default; 0 after an error. */
static double reverb_number(struct conversion *conversion, struct source *app, const char *key, double otherwise) {
    struct source *node = source_find(app, key, NULL);
    double number = otherwise;

    if (!source_is_set(node))
        return otherwise;
    if (!conversion_number(conversion, node, &number))
        return 0;
    if (number < 1 || number != round_number_up(number) || number > 4294967295) {
        conversion_error(conversion, node, "this must be a whole number from 1 to 4294967295");
        return 0;
    }
    return number;
}

/* Returns Reverb's limit of a connection's messages, or NULL if it is off. */
static json_t *convert_rate_limiting(struct conversion *conversion, struct source *app) {
    struct source *node = source_find(app, "rate_limiting", NULL), *enabled, *terminate;
    bool on = false, closes = false;
    json_t *limit;

    if (!source_is_set(node))
        return NULL;
    if (conversion_refuse_unread(conversion, node))
        return NULL;
    enabled = source_find(node, "enabled", NULL);
    terminate = source_find(node, "terminate_on_limit", NULL);
    if (source_is_set(enabled) && !conversion_flag(conversion, enabled, &on))
        return NULL;
    if (!on) {
        drop_reverb_group(conversion, node, "it is off");
        return NULL;
    }
    if (source_is_set(terminate) && !conversion_flag(conversion, terminate, &closes))
        return NULL;
    limit = json_object();
    json_object_set_new(limit, "enabled", json_true());
    json_object_set_new(limit, "max_attempts",
                        json_integer((json_int_t)reverb_number(conversion, node, "max_attempts", 60)));
    json_object_set_new(limit, "decay_seconds",
                        json_integer((json_int_t)reverb_number(conversion, node, "decay_seconds", 60)));
    json_object_set_new(limit, "terminate_on_limit", json_boolean(closes));
    return limit;
}

/* An app with a `policy` has all its values in there: what the policy lacks is not taken from beside it. */
static json_t *move_to_policy(json_t *record, json_t *limit) {
    static const char *const beside[] = {"id", "key", "secret", "enabled"};
    static const char *const limits[] = {"max_connections", "max_client_events_per_second"};
    static const char *const no_limits[] = {
        "max_read_requests_per_second",   "max_backend_events_per_second", "max_presence_members_per_channel",
        "max_presence_member_size_in_kb", "max_channel_name_length",       "max_event_channels_at_once",
        "max_event_name_length",          "max_event_payload_in_kb",       "max_event_batch_size"};
    json_t *outer = json_object(), *policy = json_object(), *inner = json_object(), *part;

    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++)
        if (json_object_get(record, beside[i]) != NULL)
            json_object_set(outer, beside[i], json_object_get(record, beside[i]));
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        json_object_set(inner, limits[i], json_object_get(record, limits[i]));
    for (size_t i = 0; i < sizeof no_limits / sizeof no_limits[0]; i++)
        json_object_set_new(inner, no_limits[i], json_integer(0));
    json_object_set_new(inner, "message_rate_limit", limit);
    json_object_set_new(policy, "limits", inner);
    part = json_object();
    json_object_set(part, "enable_client_messages", json_object_get(record, "enable_client_messages"));
    json_object_set_new(policy, "features", part);
    if (json_object_get(record, "allowed_origins") != NULL) {
        part = json_object();
        json_object_set(part, "allowed_origins", json_object_get(record, "allowed_origins"));
        json_object_set_new(policy, "channels", part);
    }
    json_object_set_new(outer, "policy", policy);
    json_decref(record);
    return outer;
}

/* Reverb takes client events if the value is all or members; without the key it is all. */
static bool takes_client_events(struct conversion *conversion, struct source *app) {
    struct source *node = source_find(app, "accept_client_events_from", NULL);
    struct slice from = {0};

    if (!source_is_set(node))
        return true;
    if (node->type == SOURCE_FLAG) {
        source_take(node);
        return false; /* neither of the words */
    }
    return conversion_text(conversion, node, &from) &&
           (slice_equal(from, SLICE("all")) || slice_equal(from, SLICE("members")));
}

static void note_app_totals(struct conversion *conversion, struct source *app, struct reverb_totals *totals) {
    struct source *ping = source_find(app, "ping_interval", NULL);
    double timeout = reverb_number(conversion, app, "activity_timeout", 30);
    double bytes = reverb_number(conversion, app, "max_message_size", 10000);

    if (totals->activity_timeout_s != 0 && totals->activity_timeout_s != timeout)
        conversion_changed(conversion, source_find(app, "activity_timeout", NULL),
                           "apps differ, and Curlew has one activity_timeout: the smallest is taken");
    if (totals->message_bytes != 0 && totals->message_bytes != bytes)
        conversion_changed(conversion, source_find(app, "max_message_size", NULL),
                           "apps differ, and Curlew has one websocket.max_message_size: the largest is taken");
    if (totals->activity_timeout_s == 0 || timeout < totals->activity_timeout_s)
        totals->activity_timeout_s = timeout;
    if (bytes > totals->message_bytes)
        totals->message_bytes = bytes;
    if (ping != NULL)
        conversion_drop(conversion, ping, "Curlew pings after 1.25 times activity_timeout without a message");
}

static void convert_reverb_app(struct conversion *conversion, struct source *app, struct reverb_totals *totals) {
    size_t errors = conversion->errors;
    struct source *options, *origins = source_find(app, "allowed_origins", NULL);
    json_t *record = json_object(), *list, *limit;
    bool client_events;

    laravel_app_text(conversion, app, "app_id", "id", record);
    laravel_app_text(conversion, app, "key", "key", record);
    laravel_app_text(conversion, app, "secret", "secret", record);
    client_events = takes_client_events(conversion, app);
    totals->client_events = totals->client_events || client_events;
    json_object_set_new(record, "enable_client_messages", json_boolean(client_events));
    laravel_app_connections(conversion, app, "max_connections", record);
    json_object_set_new(record, "max_client_events_per_second", json_integer(0));
    list = source_is_set(origins) ? laravel_origins(conversion, origins) : NULL;
    if (origins != NULL && !source_is_set(origins))
        conversion_changed(conversion, origins,
                           "null lets nobody in there, and every origin here; write the hosts out");
    if (list != NULL)
        json_object_set_new(record, "allowed_origins", list);
    note_app_totals(conversion, app, totals);
    limit = convert_rate_limiting(conversion, app);
    if (limit != NULL)
        record = move_to_policy(record, limit);
    options = source_find(app, "options", NULL);
    if (options != NULL)
        conversion_drop(conversion, options, FOR_OTHERS);
    conversion_drop_rest(conversion, app, "Curlew has no counterpart for it");
    app->taken = true;
    if (conversion->errors == errors)
        conversion_add_app(conversion, app, record);
    else
        json_decref(record);
}

static void convert_reverb_apps(struct conversion *conversion) {
    struct source *provider = source_find(conversion->root, "apps.provider", NULL),
                  *apps = conversion_section(conversion, conversion->root, "apps.apps");
    struct reverb_totals totals = {0};
    struct slice word;

    if (source_is_set(provider) && conversion_text(conversion, provider, &word) && !slice_equal(word, SLICE("config")))
        conversion_error(conversion, provider,
                         "the apps are not in this file but come from another provider: write them with "
                         "`curlew apps import`");
    if (apps == NULL || apps->first == NULL) {
        conversion_error(conversion, apps, "apps.apps has no app");
        return;
    }
    for (struct source *app = apps->first; app != NULL; app = app->next) {
        if (app->type == SOURCE_MAP)
            convert_reverb_app(conversion, app, &totals);
        else if (!conversion_refuse_unread(conversion, app))
            conversion_error(conversion, app, "an app must be an array with app_id, key and secret");
    }
    apps->taken = true;
    if (totals.activity_timeout_s > 0)
        conversion_put(conversion, apps, "activity_timeout", json_integer((json_int_t)totals.activity_timeout_s));
    if (totals.message_bytes > 0)
        laravel_put_message_size(conversion, apps, totals.message_bytes);
    if (totals.client_events)
        conversion_note(conversion, apps,
                        "Reverb also takes client events on public channels, Curlew only on private and presence "
                        "channels, from subscribers");
}

/* Several servers that share Redis. */
static void convert_reverb_scaling(struct conversion *conversion, struct source *scaling) {
    static const struct convert_row rows[] = {
        {"channel", NULL, CONVERT_TEXT, "adapter.redis.prefix", "\"reverb\""},
        {"server.url", NULL, CONVERT_SECRET, "adapter.redis.redis_pub_options.url"},
        {"server.url", NULL, CONVERT_SECRET, "adapter.redis.redis_sub_options.url"},
        {"server.host", NULL, CONVERT_TEXT, "database.redis.host", "\"127.0.0.1\""},
        {"server.port", NULL, CONVERT_NUMBER, "database.redis.port", "6379"},
        {"server.username", NULL, CONVERT_TEXT, "database.redis.username"},
        {"server.password", NULL, CONVERT_SECRET, "database.redis.password"},
        {"server.database", NULL, CONVERT_NUMBER, "database.redis.db"},
    };
    struct source *enabled = source_find(scaling, "enabled", NULL);
    bool on = false;

    if (source_is_set(enabled) && !conversion_flag(conversion, enabled, &on))
        return;
    if (!on) {
        drop_reverb_group(conversion, scaling, "it is off");
        return;
    }
    conversion_section(conversion, scaling, "server"); /* an error if it is not understood */
    conversion_put(conversion, enabled, "adapter.driver", json_string("redis"));
    conversion_apply(conversion, scaling, rows, sizeof rows / sizeof rows[0]);
    conversion_note(conversion, enabled,
                    "nodes of Reverb and of Curlew do not hear each other, so replace all at the same time");
}

static void convert_request_size(struct conversion *conversion, struct source *server) {
    struct source *node = source_find(server, "max_request_size", NULL);
    double bytes;

    if (!source_is_set(node) || !conversion_number(conversion, node, &bytes))
        return;
    if (bytes > 10 * 1024 * 1024) {
        conversion_put(conversion, node, "http_api.request_limit_in_mb",
                       json_integer((json_int_t)round_number_up(bytes / (1024 * 1024))));
        return;
    }
    node->taken = false;
    conversion_drop(conversion, node, "Curlew takes requests of up to http_api.request_limit_in_mb: 10 MB");
}

static void convert_reverb_server(struct conversion *conversion, struct source *server) {
    static const struct convert_row rows[] = {
        {"host", NULL, CONVERT_TEXT, "host"},
        {"port", NULL, CONVERT_NUMBER, "port", "8080"},
        {"hostname", NULL, CONVERT_DROP, .remark = FOR_OTHERS},
        {"pulse_ingest_interval", NULL, CONVERT_DROP, .remark = OWN_METRICS},
        {"telescope_ingest_interval", NULL, CONVERT_DROP, .remark = OWN_METRICS},
    };
    struct source *path = source_find(server, "path", NULL),
                  *scaling = conversion_section(conversion, server, "scaling");
    struct slice text;

    conversion_apply(conversion, server, rows, sizeof rows / sizeof rows[0]);
    if (source_is_set(path) && conversion_text(conversion, path, &text) && text.length > 0)
        conversion_put(conversion, path, "path_prefix", json_stringn(text.data, text.length));
    convert_request_size(conversion, server);
    laravel_put_tls(conversion, conversion_section(conversion, server, "options.tls"));
    if (scaling != NULL)
        convert_reverb_scaling(conversion, scaling);
    conversion_drop_rest(conversion, server, "Curlew has no counterpart for it");
    server->taken = true;
}

void reverb_convert(struct conversion *conversion) {
    struct source *name = source_find(conversion->root, "default", NULL),
                  *servers = conversion_section(conversion, conversion->root, "servers"), *server = NULL;
    struct slice word = SLICE("reverb");

    if (source_is_set(name))
        conversion_text(conversion, name, &word);
    for (struct source *node = servers != NULL ? servers->first : NULL; node != NULL; node = node->next)
        if (node->name != NULL && slice_equal(slice_of(node->name), word) && node->type == SOURCE_MAP)
            server = node;
    if (server != NULL)
        convert_reverb_server(conversion, server);
    else
        conversion_error(conversion, servers, "servers has no server named as `default` says");
    if (servers != NULL)
        conversion_drop_rest(conversion, servers, "only the server that `default` names is converted");
    laravel_put_no_limits(conversion);
    convert_reverb_apps(conversion);
    conversion_drop_rest(conversion, conversion->root, "Curlew has no counterpart for it");
}
