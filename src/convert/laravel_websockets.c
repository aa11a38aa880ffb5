#include <string.h>

#include "convert/laravel.h"
#include "convert/laravel_common.h"

#define APP(key) "apps.0." key
#define OF_LARAVEL "it belongs to the Laravel package"
#define DASHBOARD "Curlew has no dashboard in Laravel"
#define STATISTICS "Curlew serves metrics for Prometheus instead (docs/metrics.md)"
#define WHERE_TO "it says where back end and browsers connect: set it to Curlew's address"

static const struct laravel_variable websockets_variables[] = {
    {"PUSHER_APP_ID", APP("id"), NULL},
    {"PUSHER_APP_KEY", APP("key"), NULL},
    {"PUSHER_APP_SECRET", APP("secret"), NULL},
    {"LARAVEL_WEBSOCKETS_PORT", "dashboard.port", NULL},
    {"LARAVEL_WEBSOCKETS_SSL_LOCAL_CERT", "ssl.local_cert", NULL},
    {"LARAVEL_WEBSOCKETS_SSL_LOCAL_PK", "ssl.local_pk", NULL},
    {"LARAVEL_WEBSOCKETS_SSL_PASSPHRASE", "ssl.passphrase", NULL},
    {"WEBSOCKETS_REPLICATION_MODE", "replication.mode", NULL},
};

static const struct laravel_variable pusher_variables[] = {
    {"PUSHER_APP_ID", APP("id"), NULL},
    {"PUSHER_APP_KEY", APP("key"), NULL},
    {"PUSHER_APP_SECRET", APP("secret"), NULL},
    {"PUSHER_APP_CLUSTER", NULL, "Curlew has no clusters; clients need wsHost, wsPort and forceTLS instead"},
    {"PUSHER_HOST", NULL, WHERE_TO},
    {"PUSHER_PORT", NULL, WHERE_TO},
    {"PUSHER_SCHEME", NULL, WHERE_TO},
};

void laravel_websockets_set_variables(struct conversion *conversion, const json_t *variables) {
    static const char *const prefixes[] = {"LARAVEL_WEBSOCKETS_", NULL};

    laravel_set_variables(conversion, variables, websockets_variables,
                          sizeof websockets_variables / sizeof websockets_variables[0], prefixes);
}

void pusher_set_variables(struct conversion *conversion, const json_t *variables) {
    static const char *const prefixes[] = {NULL};

    laravel_set_variables(conversion, variables, pusher_variables, sizeof pusher_variables / sizeof pusher_variables[0],
                          prefixes);
}

/* `origins` (may be NULL) are those of all apps. */
static void convert_websockets_app(struct conversion *conversion, struct source *app, json_t *origins) {
    size_t errors = conversion->errors;
    struct source *client_messages = source_find(app, "enable_client_messages", NULL),
                  *own = source_find(app, "allowed_origins", NULL);
    json_t *record = json_object(), *list = json_incref(origins);
    static const struct convert_row rows[] = {
        {"enable_statistics", NULL, CONVERT_DROP, .remark = STATISTICS},
        {"name", NULL, CONVERT_DROP, .remark = "an app has no name here"},
        {"host", NULL, CONVERT_DROP, .remark = WHERE_TO},
        {"path", NULL, CONVERT_DROP, .remark = WHERE_TO},
        {"logo", NULL, CONVERT_DROP, .remark = DASHBOARD},
    };

    laravel_app_text(conversion, app, "id", "id", record);
    laravel_app_text(conversion, app, "key", "key", record);
    laravel_app_text(conversion, app, "secret", "secret", record);
    if (source_is_set(client_messages))
        json_object_set_new(record, "enable_client_messages",
                            conversion_value(conversion, client_messages, CONVERT_FLAG));
    laravel_app_connections(conversion, app, "capacity", record);
    json_object_set_new(record, "max_client_events_per_second", json_integer(0));
    if (own != NULL && own->first != NULL) {
        json_decref(list);
        list = laravel_origins(conversion, own);
    } else if (own != NULL && !conversion_refuse_unread(conversion, own)) {
        source_take(own);
    }
    if (list != NULL)
        json_object_set_new(record, "allowed_origins", list);
    conversion_apply(conversion, app, rows, sizeof rows / sizeof rows[0]);
    conversion_drop_rest(conversion, app, "Curlew has no counterpart for it");
    app->taken = true;
    if (conversion->errors == errors)
        conversion_add_app(conversion, app, record);
    else
        json_decref(record);
}

/* The list of apps; NULL after an error. */
static struct source *find_websockets_apps(struct conversion *conversion) {
    struct source *apps = conversion_section(conversion, conversion->root, "apps");

    if (apps == NULL || apps->first == NULL) {
        conversion_error(conversion, apps, "apps has no app");
        return NULL;
    }
    return apps;
}

static void convert_websockets_apps(struct conversion *conversion) {
    struct source *apps = find_websockets_apps(conversion),
                  *hosts = source_find(conversion->root, "allowed_origins", NULL);
    json_t *origins = NULL;

    if (hosts != NULL && hosts->first != NULL)
        origins = laravel_origins(conversion, hosts);
    else if (hosts != NULL && !conversion_refuse_unread(conversion, hosts))
        source_take(hosts); /* empty: every origin */
    for (struct source *app = apps != NULL ? apps->first : NULL; app != NULL; app = app->next) {
        if (app->type == SOURCE_MAP)
            convert_websockets_app(conversion, app, origins);
        else if (!conversion_refuse_unread(conversion, app))
            conversion_error(conversion, app, "an app must be an array with id, key and secret");
    }
    if (apps != NULL)
        apps->taken = true;
    json_decref(origins);
}

static void convert_replication(struct conversion *conversion) {
    struct source *node = source_find(conversion->root, "replication.mode", NULL);
    struct slice mode;

    if (!source_is_set(node) || !conversion_text(conversion, node, &mode) || slice_equal(mode, SLICE("local")))
        return;
    if (!slice_equal(mode, SLICE("redis"))) {
        conversion_error(conversion, node, "this must be local or redis");
        return;
    }
    conversion_put(conversion, node, "adapter.driver", json_string("redis"));
    conversion_note(
        conversion, node,
        "write Laravel's Redis connection into database.redis; nodes of laravel-websockets and of Curlew do "
        "not hear each other, so replace all at the same time");
}

void laravel_websockets_convert(struct conversion *conversion) {
    static const struct convert_row rows[] = {
        {"dashboard.port", NULL, CONVERT_NUMBER, "port"},
        {"dashboard", NULL, CONVERT_DROP, .remark = DASHBOARD},
        {"path", NULL, CONVERT_DROP, .remark = DASHBOARD},
        {"middleware", NULL, CONVERT_DROP, .remark = DASHBOARD},
        {"statistics", NULL, CONVERT_DROP, .remark = STATISTICS},
        {"app_provider", NULL, CONVERT_DROP, .remark = "the apps are in the output"},
        {"managers", NULL, CONVERT_DROP, .remark = "the apps are in the output"},
        {"channel_manager", NULL, CONVERT_DROP, .remark = OF_LARAVEL},
        {"handlers", NULL, CONVERT_DROP, .remark = OF_LARAVEL},
        {"promise_resolver", NULL, CONVERT_DROP, .remark = OF_LARAVEL},
        {"max_request_size_in_kb", NULL, CONVERT_DROP,
         .remark = "Curlew takes requests of up to http_api.request_limit_in_mb: 10 MB"},
        {"replication.modes", NULL, CONVERT_DROP, .remark = OF_LARAVEL},
    };

    conversion_put(conversion, NULL, "activity_timeout", json_integer(30)); /* fixed there */
    conversion_section(conversion, conversion->root, "dashboard");          /* an error if it is not understood */
    conversion_section(conversion, conversion->root, "replication");
    conversion_apply(conversion, conversion->root, rows, sizeof rows / sizeof rows[0]);
    laravel_put_tls(conversion, conversion_section(conversion, conversion->root, "ssl"));
    convert_replication(conversion);
    laravel_put_no_limits(conversion);
    convert_websockets_apps(conversion);
    conversion_drop_rest(conversion, conversion->root, "Curlew has no counterpart for it");
}

/* Pusher's limits, as fields of the app. */
void pusher_convert(struct conversion *conversion) {
    static const struct {
        const char *field;
        json_int_t limit;
    } limits[] = {{"max_connections", 0},
                  {"max_client_events_per_second", 10},
                  {"max_read_requests_per_second", 0},
                  {"max_backend_events_per_second", 0},
                  {"max_presence_members_per_channel", 100},
                  {"max_channel_name_length", 200},
                  {"max_event_name_length", 200},
                  {"max_event_payload_in_kb", 10},
                  {"max_event_batch_size", 10}};
    size_t errors = conversion->errors;
    struct source *apps = find_websockets_apps(conversion), *app = apps != NULL ? apps->first : NULL;
    json_t *record = json_object();

    if (app != NULL) {
        laravel_app_text(conversion, app, "id", "id", record);
        laravel_app_text(conversion, app, "key", "key", record);
        laravel_app_text(conversion, app, "secret", "secret", record);
        for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
            json_object_set_new(record, limits[i].field, json_integer(limits[i].limit));
    }
    if (conversion->errors == errors)
        conversion_add_app(conversion, app, record);
    else
        json_decref(record);
    conversion_note(
        conversion, NULL,
        "what Pusher's dashboard holds is not in the file: client events (enable_client_messages), webhooks "
        "and the number of connections (no limit here)");
    conversion_note(conversion, NULL,
                    "in the application set PUSHER_HOST, PUSHER_PORT and PUSHER_SCHEME, and in clients wsHost, wsPort, "
                    "wssPort and forceTLS");
}
