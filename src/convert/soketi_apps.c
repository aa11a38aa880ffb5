/* The apps of soketi. Their fields have three spellings: of the file, of DynamoDB and of SQL tables. */
#include <string.h>

#include "base/alloc.h"
#include "convert/soketi.h"

#define APP(field) "appManager.array.apps.0." field

/* What a missing number means. */
enum missing_limit { MISSING_IS_SERVERS, MISSING_IS_NONE };

static const struct soketi_field {
    const char *names[3];
    const char *ours;
    enum convert_kind kind;
    enum missing_limit missing;
    const char *fallback; /* JSON; for a missing text */
} soketi_fields[] = {
    {{"id", "AppId"}, "id", CONVERT_TEXT, .fallback = "\"app-id\""},
    {{"key", "AppKey"}, "key", CONVERT_TEXT, .fallback = "\"app-key\""},
    {{"secret", "AppSecret"}, "secret", CONVERT_SECRET, .fallback = "\"app-secret\""},
    {{"enabled", "Enabled"}, "enabled", CONVERT_FLAG},
    {{"enableClientMessages", "EnableClientMessages", "enable_client_messages"},
     "enable_client_messages",
     CONVERT_FLAG},
    {{"enableUserAuthentication", "EnableUserAuthentication", "enable_user_authentication"},
     "enable_user_authentication",
     CONVERT_FLAG},
    {{"maxConnections", "MaxConnections", "max_connections"}, "max_connections", CONVERT_LIMIT, MISSING_IS_NONE},
    {{"maxClientEventsPerSecond", "MaxClientEventsPerSecond", "max_client_events_per_sec"},
     "max_client_events_per_second",
     CONVERT_LIMIT,
     MISSING_IS_NONE},
    {{"maxReadRequestsPerSecond", "MaxReadRequestsPerSecond", "max_read_req_per_sec"},
     "max_read_requests_per_second",
     CONVERT_LIMIT,
     MISSING_IS_NONE},
    {{"maxBackendEventsPerSecond", "MaxBackendEventsPerSecond", "max_backend_events_per_sec"},
     "max_backend_events_per_second",
     CONVERT_LIMIT,
     MISSING_IS_NONE},
    {{"maxPresenceMembersPerChannel", "MaxPresenceMembersPerChannel", "max_presence_members_per_channel"},
     "max_presence_members_per_channel",
     CONVERT_LIMIT},
    {{"maxPresenceMemberSizeInKb", "MaxPresenceMemberSizeInKb", "max_presence_member_size_in_kb"},
     "max_presence_member_size_in_kb",
     CONVERT_LIMIT},
    {{"maxChannelNameLength", "MaxChannelNameLength", "max_channel_name_length"},
     "max_channel_name_length",
     CONVERT_LIMIT},
    {{"maxEventChannelsAtOnce", "MaxEventChannelsAtOnce", "max_event_channels_at_once"},
     "max_event_channels_at_once",
     CONVERT_LIMIT},
    {{"maxEventNameLength", "MaxEventNameLength", "max_event_name_length"}, "max_event_name_length", CONVERT_LIMIT},
    {{"maxEventPayloadInKb", "MaxEventPayloadInKb", "max_event_payload_in_kb"},
     "max_event_payload_in_kb",
     CONVERT_LIMIT},
    {{"maxEventBatchSize", "MaxEventBatchSize", "max_event_batch_size"}, "max_event_batch_size", CONVERT_LIMIT},
    {{"webhooks", "Webhooks"}, "webhooks", CONVERT_CODE},
};

static const struct {
    const char *variable, *path;
} soketi_app_variables[] = {
    {"SOKETI_DEFAULT_APP_ID", APP("id")},
    {"SOKETI_DEFAULT_APP_KEY", APP("key")},
    {"SOKETI_DEFAULT_APP_SECRET", APP("secret")},
    {"SOKETI_DEFAULT_APP_MAX_CONNS", APP("maxConnections")},
    {"SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES", APP("enableClientMessages")},
    {"SOKETI_DEFAULT_APP_ENABLED", APP("enabled")},
    {"SOKETI_DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC", APP("maxBackendEventsPerSecond")},
    {"SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC", APP("maxClientEventsPerSecond")},
    {"SOKETI_DEFAULT_APP_MAX_READ_REQ_PER_SEC", APP("maxReadRequestsPerSecond")},
    {"SOKETI_DEFAULT_APP_USER_AUTHENTICATION", APP("enableUserAuthentication")},
    {"SOKETI_DEFAULT_APP_WEBHOOKS", APP("webhooks")},
};

const char *soketi_app_path(struct slice variable) {
    for (size_t i = 0; i < sizeof soketi_app_variables / sizeof soketi_app_variables[0]; i++)
        if (slice_equal(variable, slice_of(soketi_app_variables[i].variable)))
            return soketi_app_variables[i].path;
    return NULL;
}

/* soketi takes the last spelling that has a value; null and the empty text are none. */
static struct source *find_soketi_field(struct source *app, const struct soketi_field *field) {
    struct source *found = NULL;

    for (size_t i = 0; i < 3 && field->names[i] != NULL; i++) {
        struct source *node = source_find(app, field->names[i], NULL);

        if (!source_is_set(node) || (node->type == SOURCE_TEXT && node->length == 0)) {
            if (node != NULL)
                source_take(node);
            continue;
        }
        found = node;
    }
    return found;
}

/* 0 lets nobody in: the two fields for which Curlew can say that in another way. True if the value is done. */
static bool convert_closed(struct conversion *conversion, struct source *node, const struct soketi_field *field,
                           json_t *record) {
    const char *flag = strcmp(field->ours, "max_connections") == 0                ? "enabled"
                       : strcmp(field->ours, "max_client_events_per_second") == 0 ? "enable_client_messages"
                                                                                  : NULL;
    double number;

    if (flag == NULL || (node->type != SOURCE_NUMBER && node->type != SOURCE_TEXT) ||
        !conversion_number(conversion, node, &number) || number != 0)
        return false;
    json_object_set_new(record, flag, json_false());
    json_object_set_new(record, field->ours, json_integer(0));
    conversion_changed(conversion, node, "0 lets nothing through there, and means no limit here; %s is false instead",
                       flag);
    return true;
}

/* The filter's members have other names. */
static json_t *convert_filter(struct conversion *conversion, struct source *filter) {
    json_t *json = json_object();

    for (struct source *member = filter->first; member != NULL; member = member->next) {
        const char *name = strcmp(member->name, "channel_name_starts_with") == 0 ? "channel_prefix"
                           : strcmp(member->name, "channel_name_ends_with") == 0 ? "channel_suffix"
                                                                                 : NULL;

        if (name != NULL)
            json_object_set_new(json, name, conversion_value(conversion, member, CONVERT_TEXT));
        else
            conversion_drop(conversion, member, "soketi has no such filter");
    }
    filter->taken = true;
    return json;
}

static json_t *convert_lambda(struct conversion *conversion, struct source *lambda) {
    json_t *json = json_object();

    for (struct source *member = lambda->first; member != NULL; member = member->next) {
        if (strcmp(member->name, "region") == 0)
            json_object_set_new(json, "region", conversion_value(conversion, member, CONVERT_TEXT));
        else
            conversion_drop(conversion, member, "Curlew has no such option of a Lambda function");
    }
    lambda->taken = true;
    return json;
}

/* Of an address and a Lambda function soketi uses the address. */
static void drop_unused_lambda(struct conversion *conversion, struct source *webhook) {
    static const char *const names[] = {"lambda_function", "lambda"};
    struct source *url = source_find(webhook, "url", NULL);

    if (url != NULL && url->type == SOURCE_TEXT && url->length == 0)
        source_take(url);
    if (url == NULL || !source_is_set(url) || url->taken)
        return;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct source *unused = source_find(webhook, names[i], NULL);

        if (unused != NULL)
            conversion_drop(conversion, unused, "soketi does not use it in a webhook that has a url");
    }
}

static json_t *convert_webhook(struct conversion *conversion, struct source *webhook) {
    static const char *const same[] = {"url", "lambda_function", "event_types", "headers"};
    json_t *json = json_object();

    webhook->taken = true;
    drop_unused_lambda(conversion, webhook);
    for (struct source *member = webhook->first; member != NULL; member = member->next) {
        bool copied = false;

        for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
            copied = copied || strcmp(member->name, same[i]) == 0;
        if (!source_is_set(member))
            source_take(member);
        else if (member->taken)
            continue;
        else if (copied)
            json_object_set_new(json, member->name, conversion_value(conversion, member, CONVERT_JSON));
        else if (strcmp(member->name, "filter") == 0 && member->type == SOURCE_MAP)
            json_object_set_new(json, "filter", convert_filter(conversion, member));
        else if (strcmp(member->name, "lambda") == 0 && member->type == SOURCE_MAP)
            json_object_set_new(json, "lambda", convert_lambda(conversion, member));
        else
            conversion_drop(conversion, member, "soketi has no such member of a webhook");
    }
    if (json_object_size(json_object_get(json, "lambda")) == 0)
        json_object_del(json, "lambda");
    return json;
}

/* A list, or a text that holds one as JSON, as in tables. */
static json_t *convert_webhooks(struct conversion *conversion, struct source *node) {
    json_t *list = json_array(), *parsed = NULL;
    struct source *webhooks = node;

    node->taken = true;
    if (node->type == SOURCE_TEXT) {
        parsed = json_loadb(node->text, node->length, 0, NULL);
        webhooks = parsed != NULL ? source_from_json(parsed) : NULL;
        json_decref(parsed);
        if (webhooks != NULL) { /* for messages */
            webhooks->parent = node->parent;
            webhooks->name = alloc_copy(node->name, strlen(node->name));
        }
    }
    if (webhooks == NULL || webhooks->type != SOURCE_LIST)
        conversion_error(conversion, node, "this must be a list of webhooks");
    for (struct source *webhook = webhooks != NULL ? webhooks->first : NULL; webhook != NULL; webhook = webhook->next) {
        if (webhook->type == SOURCE_MAP)
            json_array_append_new(list, convert_webhook(conversion, webhook));
        else
            conversion_error(conversion, node, "a webhook must be an object");
    }
    if (webhooks != node)
        source_destroy(webhooks);
    return list;
}

static void convert_soketi_field(struct conversion *conversion, struct source *app, const struct soketi_field *field,
                                 json_t *record) {
    struct source *node = find_soketi_field(app, field);

    if (node == NULL && field->fallback != NULL) {
        json_object_set_new(record, field->ours, json_loads(field->fallback, JSON_DECODE_ANY, NULL));
        conversion_note(conversion, app, "%s is missing; soketi's own, which everyone knows, is written",
                        field->names[0]);
        conversion->secrets += field->kind == CONVERT_SECRET;
    } else if (node == NULL && field->missing == MISSING_IS_NONE) {
        json_object_set_new(record, field->ours, json_integer(0));
    } else if (node != NULL && field->kind == CONVERT_CODE) {
        json_object_set_new(record, field->ours, convert_webhooks(conversion, node));
    } else if (node != NULL && !convert_closed(conversion, node, field, record)) {
        json_object_set_new(record, field->ours, conversion_value(conversion, node, field->kind));
    }
}

static void convert_soketi_app(struct conversion *conversion, struct source *app) {
    size_t errors = conversion->errors;
    json_t *record = json_object();

    if (app->type != SOURCE_MAP) {
        conversion_error(conversion, app, "an app must be an object");
        source_take(app);
        json_decref(record);
        return;
    }
    for (size_t i = 0; i < sizeof soketi_fields / sizeof soketi_fields[0]; i++)
        convert_soketi_field(conversion, app, &soketi_fields[i], record);
    conversion_drop_rest(conversion, app, "soketi has no such field of an app");
    app->taken = true;
    if (conversion->errors == errors)
        conversion_add_app(conversion, app, record);
    else
        json_decref(record);
}

void soketi_convert_apps(struct conversion *conversion, struct source *list) {
    if (list->type != SOURCE_LIST && list->type != SOURCE_MAP) {
        conversion_error(conversion, list, "this must be a list of apps");
        source_take(list);
        return;
    }
    for (struct source *app = list->first; app != NULL; app = app->next)
        convert_soketi_app(conversion, app);
    list->taken = true;
}

void soketi_convert_default_app(struct conversion *conversion) {
    struct source *app = source_create(SOURCE_MAP, (struct slice){0});

    source_set(conversion->root, "appManager.array.apps", source_create(SOURCE_LIST, (struct slice){0}));
    source_add(source_find(conversion->root, "appManager.array.apps", NULL), (struct slice){0}, app);
    soketi_convert_apps(conversion, app->parent);
}
