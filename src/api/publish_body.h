/*
 * An event as the body of a publish describes it, checked against the app's limits. Nothing here is copied: names and
 * data are the exact bytes of the body.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "app/app.h"
#include "app/app_slot.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "channel/channel.h"

/* Bits: what is told about a channel. */
enum info { INFO_USER_COUNT = 1, INFO_SUBSCRIPTION_COUNT = 2, INFO_CACHE = 4 };

/* The bits of a list like "user_count,subscription_count"; names that are not known are ignored. */
unsigned info_parse(struct slice list);

/* Appends `"subscription_count":1,"user_count":1`, each if it is in `info`; no user_count off presence channels. */
void info_append_counts(struct buffer *out, unsigned info, struct channel_type type, struct channel_counts counts);

enum event_member {
    EVENT_NAME,
    EVENT_DATA,
    EVENT_CHANNEL,
    EVENT_CHANNELS,
    EVENT_SOCKET_ID,
    EVENT_INFO,
    EVENT_MEMBER_COUNT,
};

/* Why a body is refused. */
struct event_refusal {
    unsigned status; /* 400 or 413 */
    enum refusal reason;
    struct error error;
};

struct event {
    struct json_value members[EVENT_MEMBER_COUNT];
    unsigned info;
    bool has_socket_id;
    struct socket_id socket_id;
};

/* Validates `text` as a JSON object and finds the members of an event. Members that are not known are ignored. */
bool event_scan(struct slice text, struct event *event, struct event_refusal *refusal);

/* True if the member is there; null is not, since some clients always send all members. */
bool event_has(const struct event *event, enum event_member member);

/* 413 if its data is over the app's limit. An event without data passes: that is event_check's. */
bool event_fits(const struct app *app, const struct event *event, struct event_refusal *refusal);

/* Checks everything but its channels, and fills info and socket_id. `scratch` is for decoding and may be reused at
 * once. */
bool event_check(const struct app *app, struct event *event, struct buffer *scratch, struct event_refusal *refusal);

/*
 * Checks the name of a channel and decodes it: `name` points into the body or, if it was escaped, into `storage`, where
 * it is appended. `field` names the member for the text.
 */
bool event_check_channel(const struct app *app, struct json_value value, const char *field, struct buffer *storage,
                         struct slice *name, struct event_refusal *refusal);

/* The JSON text that subscribers get as `data`: the string as it came, or the source of an object or array as a string,
 * made in `storage`. */
struct slice event_data(const struct event *event, struct buffer *storage);

/* 400 with a text. */
bool event_refuse(struct event_refusal *refusal, enum refusal reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
