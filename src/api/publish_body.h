/*
 * The event in the body of a publish, checked against the limits of the app. Nothing is copied: names and data are the
 * exact bytes of the body.
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
#include "channel/filter/tags.h"

/* Bits: the attributes of a channel that an answer can have. */
enum info { INFO_USER_COUNT = 1, INFO_SUBSCRIPTION_COUNT = 2, INFO_CACHE = 4 };

/* The bits of a list like "user_count,subscription_count"; unknown names are ignored. */
unsigned info_parse(struct slice list);

/* Appends `"subscription_count":1,"user_count":1`, each if it is in `info`; user_count only for presence channels. */
void info_append_counts(struct buffer *out, unsigned info, struct channel_type type, struct channel_counts counts);

/* Appends that the counts lack those of a node, if they do. */
void info_append_incomplete(struct buffer *out, bool incomplete);

enum event_member {
    EVENT_NAME,
    EVENT_DATA,
    EVENT_CHANNEL,
    EVENT_CHANNELS,
    EVENT_SOCKET_ID,
    EVENT_INFO,
    EVENT_IDEMPOTENCY_KEY,
    EVENT_TAGS,
    EVENT_DELTA,
    EVENT_MEMBER_COUNT,
};

/* The answer to a body that is refused. */
struct event_refusal {
    unsigned status; /* 400 or 413 */
    enum refusal reason;
    struct error error;
};

struct event {
    struct json_value members[EVENT_MEMBER_COUNT];
    unsigned info;
    bool has_socket_id;
    bool whole; /* no delta is to be made of it */
    struct socket_id socket_id;
    struct tags *tags; /* a reference; NULL: none */
};

/* Validates `text` as a JSON object and finds the members of an event. Unknown members are ignored. */
bool event_scan(struct slice text, struct event *event, struct event_refusal *refusal);

/* True if the member is present and not null: some clients always send all members. */
bool event_has(const struct event *event, enum event_member member);

/* Refuses data above the app's limit, and an event that is over `most_bytes` on its way to another process (0: there is
 * no such limit), with 413. An event without data passes; event_check refuses it. */
bool event_fits(const struct app *app, size_t most_bytes, const struct event *event, struct event_refusal *refusal);

/* Checks all but the channels, and fills the rest of the event. `scratch` is for decoding, and free afterwards. */
bool event_check(const struct app *app, struct event *event, struct buffer *scratch, struct event_refusal *refusal);

/*
 * Checks the name of a channel and decodes it: `name` points into the body or, if it was escaped, into `storage`, where
 * it is appended. `field` is the member's name for the error text.
 */
bool event_check_channel(const struct app *app, struct json_value value, const char *field, struct buffer *storage,
                         struct slice *name, struct event_refusal *refusal);

/* The JSON text that subscribers get as `data`: the string as it was sent, or an object or array as a string of its
 * source, made in `storage`. */
struct slice event_data(const struct event *event, struct buffer *storage);

/* Releases what event_check has made; for every event that event_scan has accepted. */
static inline void event_dispose(struct event *event) {
    tags_unref(event->tags);
}

/* Sets 400 and a text; returns false. */
bool event_refuse(struct event_refusal *refusal, enum refusal reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
