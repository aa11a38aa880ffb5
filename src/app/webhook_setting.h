/*
 * The webhooks of an app's record: where to send which events. They are parsed and validated here.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/webhook_filter.h"
#include "base/error.h"
#include "base/slice.h"

/* The events of webhooks; bits of app_webhook.event_types. */
enum app_webhook_event {
    WEBHOOK_CHANNEL_OCCUPIED = 1 << 0,
    WEBHOOK_CHANNEL_VACATED = 1 << 1,
    WEBHOOK_MEMBER_ADDED = 1 << 2,
    WEBHOOK_MEMBER_REMOVED = 1 << 3,
    WEBHOOK_CLIENT_EVENT = 1 << 4,
    WEBHOOK_CACHE_MISS = 1 << 5,
    WEBHOOK_SUBSCRIPTION_COUNT = 1 << 6,
};

/* The name of an event, as in `event_types`. */
const char *app_webhook_event_name(enum app_webhook_event event);

struct app_webhook_header {
    struct slice name;
    struct slice value;
};

/* Its slices point into webhooks_json of the record. Exactly one of `url` and `lambda_function` is set. */
struct app_webhook {
    struct slice url;             /* http or https; data is NULL for a Lambda function */
    struct slice lambda_function; /* name or ARN; data is NULL for a URL */
    struct slice lambda_region;   /* data is NULL when not given */
    unsigned event_types;         /* of enum app_webhook_event */
    struct webhook_filter filter; /* of channels */

    struct app_webhook_header *headers;
    size_t header_count;
};

/* Receives a note of something odd that is not an error; the text names the field. */
typedef void app_note_function(void *context, const char *text);

/*
 * Reads the list `json`. Returns the normalized list (headers not nested), a new reference that the parsed webhooks
 * point into, or NULL with an error that names the field. A header that the server itself sets is an error if `strict`,
 * else left out of the parsed webhook. Free the webhooks with app_webhooks_free before the list.
 */
json_t *app_webhooks_parse(const json_t *json, bool strict, struct app_webhook **webhooks, size_t *count,
                           app_note_function *note, void *context, struct error *error);

/* What stands for a hidden value. */
#define APP_HIDDEN "********"

/* Hides the values of headers, and user and password of URLs, in a list of webhooks that is to be shown. Anything else
 * than a list is left as it is. */
void app_webhooks_hide_secrets(json_t *list);

void app_webhooks_free(struct app_webhook *webhooks, size_t count);
