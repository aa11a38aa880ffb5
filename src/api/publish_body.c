#include "api/publish_body.h"

#include <stdarg.h>
#include <stdio.h>

static const struct slice member_names[EVENT_MEMBER_COUNT] = {
    [EVENT_NAME] = SLICE_INIT("name"),
    [EVENT_DATA] = SLICE_INIT("data"),
    [EVENT_CHANNEL] = SLICE_INIT("channel"),
    [EVENT_CHANNELS] = SLICE_INIT("channels"),
    [EVENT_SOCKET_ID] = SLICE_INIT("socket_id"),
    [EVENT_INFO] = SLICE_INIT("info"),
    [EVENT_IDEMPOTENCY_KEY] = SLICE_INIT("idempotency_key"),
    [EVENT_TAGS] = SLICE_INIT("tags"),
    [EVENT_DELTA] = SLICE_INIT("delta"),
};

bool event_refuse(struct event_refusal *refusal, enum refusal reason, const char *format, ...) {
    va_list arguments;

    refusal->status = 400;
    refusal->reason = reason;
    va_start(arguments, format);
    error_set_list(&refusal->error, format, arguments);
    va_end(arguments);
    return false;
}

unsigned info_parse(struct slice list) {
    static const struct {
        struct slice name;
        unsigned bit;
    } names[] = {
        {SLICE_INIT("user_count"), INFO_USER_COUNT},
        {SLICE_INIT("subscription_count"), INFO_SUBSCRIPTION_COUNT},
        {SLICE_INIT("cache"), INFO_CACHE},
    };
    unsigned info = 0;

    while (list.length != 0) {
        const char *comma = memchr(list.data, ',', list.length);
        struct slice word = {list.data, comma != NULL ? (size_t)(comma - list.data) : list.length};
        list = slice_skip(list, comma != NULL ? word.length + 1 : word.length);
        while (word.length != 0 && word.data[0] == ' ')
            word = slice_skip(word, 1);
        while (word.length != 0 && word.data[word.length - 1] == ' ')
            word.length--;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
            if (slice_equal(word, names[i].name))
                info |= names[i].bit;
    }
    return info;
}

void info_append_counts(struct buffer *out, unsigned info, struct channel_type type, struct channel_counts counts) {
    if (info & INFO_SUBSCRIPTION_COUNT) {
        buffer_append(out, SLICE("\"subscription_count\":"));
        buffer_append_number(out, counts.subscriptions);
    }
    if ((info & INFO_USER_COUNT) && type.kind == CHANNEL_PRESENCE) {
        buffer_append(out, info & INFO_SUBSCRIPTION_COUNT ? SLICE(",\"user_count\":") : SLICE("\"user_count\":"));
        buffer_append_number(out, counts.users);
    }
}

void info_append_incomplete(struct buffer *out, bool incomplete) {
    if (incomplete)
        buffer_append(out, SLICE(",\"subscription_count_complete\":false"));
}

bool event_scan(struct slice text, struct event *event, struct event_refusal *refusal) {
    struct error error;

    event->info = 0;
    event->has_socket_id = false;
    event->whole = false;
    event->tags = NULL;
    if (json_scan_object(text, member_names, event->members, EVENT_MEMBER_COUNT, &error))
        return true;
    return event_refuse(refusal, REFUSED_REQUEST, "the event must be a JSON object: %s", error.text);
}

static bool event_fits_relay(size_t most_bytes, const struct event *event, struct event_refusal *refusal) {
    const struct json_value *data = &event->members[EVENT_DATA];
    size_t length =
        event->members[EVENT_NAME].token.length + event->members[EVENT_TAGS].token.length + CHANNEL_RELAY_BYTES;

    if (length + data->token.length <= most_bytes)
        return true;
    length += data->type == JSON_TYPE_STRING ? json_decoded_length(*data) : data->token.length;
    if (length <= most_bytes)
        return true;
    event_refuse(
        refusal, REFUSED_EVENT_PAYLOAD,
        "the event takes %zu bytes on its way to the other nodes, and the message system between them takes no "
        "more than %zu",
        length, most_bytes);
    refusal->status = 413;
    return false;
}

bool event_fits(const struct app *app, size_t most_bytes, const struct event *event, struct event_refusal *refusal) {
    const struct json_value *data = &event->members[EVENT_DATA];
    uint64_t limit = (uint64_t)app->max_event_payload_in_kb * 1024;
    size_t length = data->token.length;

    /* Decoding never makes a string longer: a short token needs no count. */
    if (limit == 0 || length <= limit)
        return most_bytes == 0 || event_fits_relay(most_bytes, event, refusal);
    if (data->type == JSON_TYPE_STRING)
        length = json_decoded_length(*data);
    if (length <= limit ||
        (data->type != JSON_TYPE_STRING && data->type != JSON_TYPE_OBJECT && data->type != JSON_TYPE_ARRAY))
        return most_bytes == 0 || event_fits_relay(most_bytes, event, refusal);
    event_refuse(refusal, REFUSED_EVENT_PAYLOAD,
                 "The data content of this event exceeds the allowed maximum (%llu bytes): `data` is %zu bytes, and "
                 "max_event_payload_in_kb is %u",
                 (unsigned long long)limit, length, app->max_event_payload_in_kb);
    refusal->status = 413;
    return false;
}

bool event_has(const struct event *event, enum event_member member) {
    return event->members[member].type != JSON_TYPE_ABSENT && event->members[member].type != JSON_TYPE_NULL;
}

static bool check_name(const struct app *app, const struct event *event, struct event_refusal *refusal) {
    const struct json_value *name = &event->members[EVENT_NAME];
    size_t length;

    if (name->type != JSON_TYPE_STRING)
        return event_refuse(refusal, REFUSED_REQUEST, "`name` must be a string: the event's name");
    length = name->escaped ? json_decoded_length(*name) : name->token.length - 2;
    if (length == 0)
        return event_refuse(refusal, REFUSED_REQUEST, "`name` must not be empty");
    if (limit_exceeded(app->max_event_name_length, length))
        return event_refuse(refusal, REFUSED_EVENT_NAME,
                            "`name` is %zu bytes, which is over max_event_name_length = %u", length,
                            app->max_event_name_length);
    return true;
}

static bool check_data(const struct event *event, struct event_refusal *refusal) {
    switch (event->members[EVENT_DATA].type) {
    case JSON_TYPE_STRING:
    case JSON_TYPE_OBJECT:
    case JSON_TYPE_ARRAY:
        return true;
    default:
        return event_refuse(refusal, REFUSED_REQUEST, "`data` must be a string, an object or an array");
    }
}

static bool check_socket_id(struct event *event, struct buffer *scratch, struct event_refusal *refusal) {
    const struct json_value *value = &event->members[EVENT_SOCKET_ID];

    if (!event_has(event, EVENT_SOCKET_ID))
        return true;
    scratch->length = 0;
    if (value->type != JSON_TYPE_STRING || !socket_id_parse(json_decode_string(*value, scratch), &event->socket_id))
        return event_refuse(refusal, REFUSED_REQUEST,
                            "`socket_id` must be a string of two numbers like \"123.456\", as the client was given it");
    event->has_socket_id = true;
    return true;
}

static bool check_info(struct event *event, struct buffer *scratch, struct event_refusal *refusal) {
    const struct json_value *value = &event->members[EVENT_INFO];

    if (!event_has(event, EVENT_INFO))
        return true;
    if (value->type != JSON_TYPE_STRING)
        return event_refuse(refusal, REFUSED_REQUEST, "`info` must be a string like \"user_count,subscription_count\"");
    scratch->length = 0;
    event->info = info_parse(json_decode_string(*value, scratch)) & (INFO_USER_COUNT | INFO_SUBSCRIPTION_COUNT);
    return true;
}

static bool check_tags(struct event *event, struct event_refusal *refusal) {
    struct error error;

    if (!event_has(event, EVENT_TAGS))
        return true;
    event->tags = tags_read(event->members[EVENT_TAGS], &error);
    return event->tags != NULL || event_refuse(refusal, REFUSED_REQUEST, "`tags`: %s", error.text);
}

static bool check_delta(struct event *event, struct event_refusal *refusal) {
    enum json_type type = event->members[EVENT_DELTA].type;

    event->whole = type == JSON_TYPE_FALSE;
    return type == JSON_TYPE_FALSE || type == JSON_TYPE_TRUE || !event_has(event, EVENT_DELTA) ||
           event_refuse(refusal, REFUSED_REQUEST, "`delta` must be true or false");
}

bool event_check(const struct app *app, struct event *event, struct buffer *scratch, struct event_refusal *refusal) {
    return check_name(app, event, refusal) && check_data(event, refusal) && check_socket_id(event, scratch, refusal) &&
           check_info(event, scratch, refusal) && check_delta(event, refusal) && check_tags(event, refusal);
}

bool event_check_channel(const struct app *app, struct json_value value, const char *field, struct buffer *storage,
                         struct slice *name, struct event_refusal *refusal) {
    if (value.type != JSON_TYPE_STRING)
        return event_refuse(refusal, REFUSED_REQUEST, "`%s`: the name of a channel must be a string", field);
    *name = json_decode_string(value, storage);
    if (!channel_name_valid(*name))
        return event_refuse(refusal, REFUSED_REQUEST,
                            "`%s` holds a name that no channel can have: letters, digits and _-=@,.;:# are allowed, "
                            "or " USER_CHANNEL_PREFIX " and a user's id of 1 to %d bytes",
                            field, USER_ID_MAX);
    if (channel_type_of(*name).kind != CHANNEL_USER && limit_exceeded(app->max_channel_name_length, name->length))
        return event_refuse(refusal, REFUSED_CHANNEL_NAME,
                            "`%s` holds a name of %zu bytes, which is over max_channel_name_length = %u", field,
                            name->length, app->max_channel_name_length);
    return true;
}

struct slice event_data(const struct event *event, struct buffer *storage) {
    const struct json_value *data = &event->members[EVENT_DATA];

    if (data->type == JSON_TYPE_STRING)
        return data->token;
    storage->length = 0;
    json_append_string(storage, data->token);
    return buffer_slice(storage);
}
