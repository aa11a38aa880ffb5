#include "app/webhook_setting.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/record_json.h"
#include "base/alloc.h"

static const struct {
    const char *name;
    enum app_webhook_event event;
} events[] = {
    {"channel_occupied", WEBHOOK_CHANNEL_OCCUPIED},
    {"channel_vacated", WEBHOOK_CHANNEL_VACATED},
    {"member_added", WEBHOOK_MEMBER_ADDED},
    {"member_removed", WEBHOOK_MEMBER_REMOVED},
    {"client_event", WEBHOOK_CLIENT_EVENT},
    {"cache_miss", WEBHOOK_CACHE_MISS},
    {"subscription_count", WEBHOOK_SUBSCRIPTION_COUNT},
};

#define EVENT_COUNT (sizeof events / sizeof events[0])

const char *app_webhook_event_name(enum app_webhook_event event) {
    for (size_t i = 0; i < EVENT_COUNT; i++)
        if (events[i].event == event)
            return events[i].name;
    return "";
}

/* The known fields of each object; others are kept and noted. */
static const char *const webhook_fields[] = {"url",     "lambda", "lambda_function", "event_types", "filter",
                                             "headers", NULL};
static const char *const lambda_fields[] = {"function_name", "region", NULL};
static const char *const filter_fields[] = {"channel_prefix", "channel_suffix", "channel_pattern", NULL};

/* The webhook that is parsed, for errors and notes. */
struct webhook_parser {
    size_t index; /* in the list */
    bool strict;
    app_note_function *note;
    void *context;
};

static void note_unknown_fields(const struct webhook_parser *parser, const json_t *object, const char *inside,
                                const char *const *known) {
    const char *key;
    json_t *value;

    /* Jansson's iteration needs a pointer that is not const, but changes nothing. */
    json_object_foreach((json_t *)object, key, value) {
        struct near_miss miss = near_miss_of(slice_of(key));
        char text[240];
        size_t i = 0;

        for (; known[i] != NULL && strcmp(known[i], key) != 0; i++)
            near_miss_offer(&miss, slice_of(known[i]));
        if (known[i] != NULL || parser->note == NULL)
            continue;
        snprintf(text, sizeof text, "webhooks[%zu]%s.%.80s is not a field that this server knows; it is kept",
                 parser->index, inside, key);
        record_append_meant(text, sizeof text, "", &miss);
        parser->note(parser->context, text);
    }
}

/* `authority` is the part of a URL between // and the path: user@host:port. */
static bool valid_authority(struct slice authority) {
    const char *at = memrchr(authority.data, '@', authority.length), *colon;
    unsigned long long port;
    struct slice host = at != NULL ? slice_skip(authority, (size_t)(at + 1 - authority.data)) : authority;

    if (slice_starts_with(host, SLICE("["))) {
        const char *end = memchr(host.data, ']', host.length);

        if (end == NULL || end == host.data + 1)
            return false;
        host = slice_skip(host, (size_t)(end + 1 - host.data));
        if (host.length == 0)
            return true;
        return host.data[0] == ':' && slice_to_number(slice_skip(host, 1), 65535, &port);
    }
    colon = memchr(host.data, ':', host.length);
    if (colon == NULL)
        return host.length > 0;
    return colon != host.data && slice_to_number(slice_skip(host, (size_t)(colon + 1 - host.data)), 65535, &port);
}

static bool valid_url(struct slice url) {
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < url.length; i++)
        if ((unsigned char)url.data[i] <= ' ' || url.data[i] == 0x7f)
            return false;
    for (size_t i = 0; i < 2; i++) {
        struct slice scheme = slice_of(schemes[i]), rest;

        if (url.length < scheme.length || !slice_equal_ignoring_case((struct slice){url.data, scheme.length}, scheme))
            continue;
        rest = slice_skip(url, scheme.length);
        rest.length = strcspn(rest.data, "/?#"); /* texts of Jansson end with their only zero byte */
        return rest.length > 0 && valid_authority(rest);
    }
    return false;
}

static bool parse_lambda(const struct webhook_parser *parser, const json_t *json, struct app_webhook *webhook,
                         struct error *error) {
    const json_t *lambda = json_object_get(json, "lambda"), *function = json_object_get(json, "lambda_function");
    char field[80];

    snprintf(field, sizeof field, "webhooks[%zu].lambda_function", parser->index);
    if (!record_text(function, field, &webhook->lambda_function, error))
        return false;
    if (record_unset(lambda))
        return true;
    if (!json_is_object(lambda))
        return error_set(error, "webhooks[%zu].lambda must be an object with function_name and region", parser->index);
    note_unknown_fields(parser, lambda, ".lambda", lambda_fields);
    snprintf(field, sizeof field, "webhooks[%zu].lambda.function_name", parser->index);
    /* soketi has the name beside the object: {"lambda_function": NAME, "lambda": {"region": ...}} */
    if (record_unset(json_object_get(lambda, "function_name")) && webhook->lambda_function.data == NULL)
        return error_set(error, "%s is missing", field);
    if (!record_text(json_object_get(lambda, "function_name"), field, &webhook->lambda_function, error))
        return false;
    snprintf(field, sizeof field, "webhooks[%zu].lambda.region", parser->index);
    return record_text(json_object_get(lambda, "region"), field, &webhook->lambda_region, error);
}

/* Reads the target: exactly one of a URL and a Lambda function. */
static bool parse_target(const struct webhook_parser *parser, const json_t *json, struct app_webhook *webhook,
                         struct error *error) {
    char field[80];

    snprintf(field, sizeof field, "webhooks[%zu].url", parser->index);
    if (!record_text(json_object_get(json, "url"), field, &webhook->url, error) ||
        !parse_lambda(parser, json, webhook, error))
        return false;
    if (webhook->url.data != NULL && webhook->lambda_function.data != NULL)
        return error_set(error, "webhooks[%zu] has both a url and a Lambda function; it takes one of them",
                         parser->index);
    if (webhook->url.data == NULL && webhook->lambda_function.data == NULL)
        return error_set(error, "webhooks[%zu] needs a url or a lambda with a function_name", parser->index);
    if (webhook->url.data != NULL && !valid_url(webhook->url))
        return error_set(error, "%s must be an http or https URL with a host", field);
    if (parser->strict && webhook->url.data != NULL &&
        memmem(webhook->url.data, webhook->url.length, "//" APP_HIDDEN "@", 11) != NULL)
        return error_set(error, "%s: \"" APP_HIDDEN "\" stands for a hidden user and password; give them", field);
    if (webhook->url.data == NULL && webhook->lambda_function.length == 0)
        return error_set(error, "webhooks[%zu]: the name of the Lambda function is empty", parser->index);
    return true;
}

static bool parse_event_types(const struct webhook_parser *parser, const json_t *list, struct app_webhook *webhook,
                              struct error *error) {
    if (!json_is_array(list))
        return error_set(error, "webhooks[%zu].event_types must be a list of texts", parser->index);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        unsigned before = webhook->event_types;
        struct near_miss miss;
        bool known = false;

        if (!json_is_string(item))
            return error_set(error, "webhooks[%zu].event_types[%zu] must be a text", parser->index, i);
        miss = near_miss_of(record_slice(item));
        for (size_t j = 0; j < EVENT_COUNT; j++) {
            near_miss_offer(&miss, slice_of(events[j].name));
            if (strcmp(events[j].name, json_string_value(item)) == 0) {
                webhook->event_types = before | events[j].event;
                known = true;
            }
        }
        if (!known && parser->note != NULL) {
            char text[200];

            snprintf(text, sizeof text,
                     "webhooks[%zu].event_types[%zu]: \"%.60s\" is not an event that this server sends", parser->index,
                     i, json_string_value(item));
            record_append_meant(text, sizeof text, "", &miss);
            parser->note(parser->context, text);
        }
    }
    return true;
}

static bool parse_filter(const struct webhook_parser *parser, const json_t *filter, struct app_webhook *webhook,
                         struct error *error) {
    struct webhook_filter *into = &webhook->filter;
    struct slice *const values[] = {&into->prefix, &into->suffix, &into->pattern_text};
    char field[80];

    if (record_unset(filter))
        return true;
    if (!json_is_object(filter))
        return error_set(error, "webhooks[%zu].filter must be an object", parser->index);
    note_unknown_fields(parser, filter, ".filter", filter_fields);
    for (size_t i = 0; i < 3; i++) {
        snprintf(field, sizeof field, "webhooks[%zu].filter.%s", parser->index, filter_fields[i]);
        if (!record_text(json_object_get(filter, filter_fields[i]), field, values[i], error))
            return false;
    }
    return webhook_filter_compile(into, field, error); /* the last one */
}

/* RFC 9110 section 5.1: the name of a field is a token. */
static bool valid_header_name(const char *name) {
    if (*name == '\0')
        return false;
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char)*name) && strchr("!#$%&'*+-.^_`|~", *name) == NULL)
            return false;
    return true;
}

/* RFC 9110 section 5.5: no control characters but the tab. A line break in a value could add headers. */
static bool valid_header_value(struct slice value) {
    for (size_t i = 0; i < value.length; i++)
        if (((unsigned char)value.data[i] < ' ' && value.data[i] != '\t') || value.data[i] == 0x7f)
            return false;
    return true;
}

/* Headers that belong to the server: the key and the signature, and what HTTP needs to frame the request. */
static bool header_reserved(struct slice name) {
    static const char *const reserved[] = {"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection"};
    const struct slice prefix = SLICE("X-Pusher-");

    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (slice_equal_ignoring_case(name, slice_of(reserved[i])))
            return true;
    return name.length >= prefix.length && slice_equal_ignoring_case((struct slice){name.data, prefix.length}, prefix);
}

/* A reserved header: an error if the record is written, left out with a note if it is read. */
static bool refuse_reserved_header(const struct webhook_parser *parser, const char *name, struct error *error) {
    char text[200];

    if (parser->strict)
        return error_set(error, "webhooks[%zu].headers: %s is set by the server and cannot be configured",
                         parser->index, name);
    snprintf(text, sizeof text, "webhooks[%zu].headers: %.60s is set by the server; this one is left out",
             parser->index, name);
    if (parser->note != NULL)
        parser->note(parser->context, text);
    return true;
}

/* Other servers of the protocol family nest the headers: {"headers": {"headers": ...}}. */
static json_t *unnest_headers(json_t *webhook) {
    json_t *headers = json_object_get(webhook, "headers");

    while (json_object_size(headers) == 1 && json_is_object(json_object_get(headers, "headers"))) {
        json_object_set(webhook, "headers", json_object_get(headers, "headers"));
        headers = json_object_get(webhook, "headers");
    }
    return headers;
}

static bool parse_headers(const struct webhook_parser *parser, json_t *json, struct app_webhook *webhook,
                          struct error *error) {
    json_t *headers = unnest_headers(json), *value;
    const char *name;

    if (record_unset(headers))
        return true;
    if (!json_is_object(headers))
        return error_set(error, "webhooks[%zu].headers must be an object of texts", parser->index);
    if (json_object_size(headers) > 0)
        webhook->headers = alloc_array(NULL, json_object_size(headers), sizeof *webhook->headers);
    json_object_foreach(headers, name, value) {
        if (!valid_header_name(name))
            return error_set(error, "webhooks[%zu].headers: \"%.60s\" cannot be the name of an HTTP header",
                             parser->index, name);
        if (!json_is_string(value) || !valid_header_value(record_slice(value)))
            return error_set(error, "webhooks[%zu].headers.%.60s must be a text without control characters",
                             parser->index, name);
        if (parser->strict && slice_equal(record_slice(value), SLICE(APP_HIDDEN)))
            return error_set(error,
                             "webhooks[%zu].headers.%.60s: \"" APP_HIDDEN
                             "\" stands for a hidden value; give "
                             "the value itself",
                             parser->index, name);
        if (header_reserved(slice_of(name))) {
            if (!refuse_reserved_header(parser, name, error))
                return false;
            continue;
        }
        webhook->headers[webhook->header_count++] = (struct app_webhook_header){slice_of(name), record_slice(value)};
    }
    return true;
}

static bool parse_webhook(const struct webhook_parser *parser, json_t *json, struct app_webhook *webhook,
                          struct error *error) {
    if (!json_is_object(json))
        return error_set(error, "webhooks[%zu] must be an object", parser->index);
    note_unknown_fields(parser, json, "", webhook_fields);
    return parse_target(parser, json, webhook, error) &&
           parse_event_types(parser, json_object_get(json, "event_types"), webhook, error) &&
           parse_filter(parser, json_object_get(json, "filter"), webhook, error) &&
           parse_headers(parser, json, webhook, error);
}

json_t *app_webhooks_parse(const json_t *json, bool strict, struct app_webhook **webhooks, size_t *count,
                           app_note_function *note, void *context, struct error *error) {
    json_t *list;

    *webhooks = NULL;
    *count = 0;
    if (!json_is_array(json)) {
        error_set(error, "webhooks must be a list of objects");
        return NULL;
    }
    list = json_deep_copy(json);
    if (json_array_size(list) > 0)
        *webhooks = alloc_zero(json_array_size(list) * sizeof **webhooks);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct webhook_parser parser = {i, strict, note, context};
        bool good = parse_webhook(&parser, json_array_get(list, i), &(*webhooks)[i], error);

        (*count)++; /* a broken webhook may have headers already */
        if (!good) {
            app_webhooks_free(*webhooks, *count);
            *webhooks = NULL;
            *count = 0;
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

/* The end of user and password in a URL, and their beginning; false: there are none. */
static bool find_user_info(const char *url, size_t *start, size_t *end) {
    const char *authority = strstr(url, "//"), *at;

    if (authority == NULL)
        return false;
    authority += 2;
    at = memrchr(authority, '@', strcspn(authority, "/?#"));
    *start = (size_t)(authority - url);
    *end = at != NULL ? (size_t)(at - url) : *start;
    return at != NULL;
}

static void hide_user_info(json_t *webhook) {
    const char *url = json_string_value(json_object_get(webhook, "url"));
    size_t start, end;

    if (url != NULL && find_user_info(url, &start, &end))
        json_object_set_new(webhook, "url", json_sprintf("%.*s" APP_HIDDEN "%s", (int)start, url, url + end));
}

void app_webhooks_hide_secrets(json_t *list) {
    size_t i;
    json_t *webhook, *value;
    const char *name;

    json_array_foreach(list, i, webhook) {
        json_t *headers = unnest_headers(webhook);

        hide_user_info(webhook);
        json_object_foreach(headers, name, value) {
            json_object_set_new(headers, name, json_string(APP_HIDDEN));
        }
    }
}

void app_webhooks_free(struct app_webhook *webhooks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(webhooks[i].headers);
        webhook_filter_dispose(&webhooks[i].filter);
    }
    free(webhooks);
}
