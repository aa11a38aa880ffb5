#include "channel/presence.h"
#include "session/session_internal.h"

static void refuse_client_event(struct session *session, enum refusal reason, const char *text) {
    session_refused(session, reason);
    session_error(session, 4301, "client event refused: %s", text);
}

static bool kind_takes_client_events(enum channel_kind kind) {
    return kind == CHANNEL_PRIVATE || kind == CHANNEL_PRESENCE;
}

/* Returns the size of an event's data in bytes, after decoding of escapes. */
static size_t data_size(struct json_value data) {
    return data.type == JSON_TYPE_STRING ? json_decoded_length(data) : data.token.length;
}

static bool event_within_limits(struct session *session, struct json_value event, struct json_value data) {
    const struct app *app = session->app;
    size_t name_length = json_decoded_length(event);

    if (limit_exceeded(app->max_event_name_length, name_length)) {
        session_refused(session, REFUSED_EVENT_NAME);
        session_error(session, 4301,
                      "client event refused: the name has %zu bytes, `max_event_name_length` of this app is %u",
                      name_length, app->max_event_name_length);
        return false;
    }
    if (app->max_event_payload_in_kb != 0 && data_size(data) > (size_t)app->max_event_payload_in_kb * 1024) {
        session_refused(session, REFUSED_EVENT_PAYLOAD);
        session_error(session, 4301,
                      "client event refused: `data` has %zu bytes, `max_event_payload_in_kb` of this app is %u KB",
                      data_size(data), app->max_event_payload_in_kb);
        return false;
    }
    return true;
}

static struct slice sender_of(const struct subscription *subscription) {
    return subscription->place != NULL ? presence_member_id(subscription->place->member) : (struct slice){0};
}

/* False if other nodes could not get the event: then nobody gets it. */
static bool client_event_fits_relay(struct session *session, const struct subscription *subscription,
                                    struct slice event, struct slice data) {
    size_t most = channel_relay_most_bytes(session->server->channels);
    size_t length;

    if (__builtin_expect(most == 0, true))
        return true;
    length = event.length + data.length + sender_of(subscription).length + CHANNEL_RELAY_BYTES;
    if (length <= most)
        return true;
    session_refused(session, REFUSED_EVENT_PAYLOAD);
    session_error(session, 4301,
                  "client event refused: it takes %zu bytes on its way to the other nodes, and the message system "
                  "between them takes no more than %zu",
                  length, most);
    return false;
}

/* Publishes an event that was accepted. `event` and `data` are JSON text. */
static void publish_client_event(struct session *session, const struct subscription *subscription, struct slice event,
                                 struct slice data) {
    struct slice name = channel_name(subscription->channel);
    struct slice user_id = sender_of(subscription);
    struct webhook_draft webhook = {0};
    char socket_id[SOCKET_ID_TEXT];

    if (app_wants_webhook(session->app, WEBHOOK_CLIENT_EVENT, name) && session->server->webhooks != NULL)
        webhook_draft_make(&webhook, session->server->webhooks, session->app, WEBHOOK_CLIENT_EVENT,
                           &(struct webhook_details){
                               .channel = name,
                               .user_id = user_id,
                               .event = event,
                               .data = data,
                               .socket_id = {socket_id, socket_id_format(&session->id, socket_id)},
                           });
    counter_add(&session_part(session)->counters.client_events, 1);
    channel_publish(session->server->channels, session->slot, session_worker(session), name,
                    &(struct channel_event){
                        .event = event,
                        .data = data,
                        .user_id = user_id,
                        .except_stream = session->websocket.stream,
                        .webhook = &webhook,
                    },
                    NULL);
    webhook_draft_end(&webhook);
}

void session_client_event(struct session *session, struct json_value event, struct json_value channel,
                          struct json_value data) {
    const struct app *app = session->app;
    struct buffer storage = {0};
    struct subscription *subscription;
    struct slice name;

    if (!app->enable_client_messages) {
        refuse_client_event(session, REFUSED_CLIENT_EVENTS_OFF, "`enable_client_messages` of this app is false");
        return;
    }
    if (channel.type != JSON_TYPE_STRING) {
        session_counted_error(session, CONNECTION_ERROR_INVALID_MESSAGE_FORMAT);
        session_refused(session, REFUSED_MESSAGE);
        session_error(session, 4300, "a client event needs `channel`, a string");
        return;
    }
    name = json_decode_string(channel, &storage);
    subscription = subscriptions_find_by_name(&session->subscriptions, session->slot, name);
    if (!kind_takes_client_events(channel_type_of(name).kind)) {
        refuse_client_event(session, REFUSED_CLIENT_EVENT_CHANNEL,
                            "only private and presence channels take client events");
    } else if (subscription == NULL || subscription->waiting) {
        refuse_client_event(session, REFUSED_CLIENT_EVENT_CHANNEL, "this connection is not subscribed to the channel");
    } else if (event_within_limits(session, event, data) &&
               client_event_fits_relay(session, subscription, event.token, data.token) &&
               session_takes_client_event(session)) {
        publish_client_event(session, subscription, event.token,
                             data.type != JSON_TYPE_ABSENT ? data.token : SLICE("null"));
    }
    buffer_dispose(&storage);
}
