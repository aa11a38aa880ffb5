#include <stdlib.h>

#include "base/alloc.h"
#include "channel/presence.h"
#include "session/session_internal.h"
#include "session/waiting_subscription.h"

enum { CHANNEL, AUTH, CHANNEL_DATA, DELTA, FILTER, TAGS_FILTER, SUBSCRIBE_MEMBERS };

/* A pusher:subscribe request while it is handled. */
struct subscribe_request {
    struct session *session;
    struct slice channel_token; /* JSON string from the client's message, for replies */
    struct slice name;
    struct channel_type type;
    struct json_value auth, channel_data, delta;
    struct filter *filter; /* a reference, until the subscription takes it over; NULL: none */
    struct channel_join join;
    struct buffer user_id, user_info;
};

static void refuse_auth(struct subscribe_request *request, const char *why) {
    session_counted_error(request->session, CONNECTION_ERROR_AUTHENTICATION_FAILED);
    session_refused(request->session, REFUSED_SIGNATURE);
    session_subscription_error(request->session, request->channel_token, "AuthError", 401, "%s", why);
}

static const char *name_problem(const struct subscribe_request *request) {
    if (request->name.length == 0)
        return "the channel's name is empty";
    if (request->type.kind == CHANNEL_USER)
        return "the user's id in " USER_CHANNEL_PREFIX "{id} has 1 to 255 bytes";
    return "a channel's name consists of letters, digits and _ - = @ , . ; : #";
}

static bool name_acceptable(struct subscribe_request *request) {
    struct session *session = request->session;
    const struct app *app = session->app;

    if (!channel_name_valid(request->name)) {
        session_refused(session, REFUSED_MESSAGE);
        session_subscription_error(session, request->channel_token, "InvalidChannel", 400, "%s", name_problem(request));
        return false;
    }
    if (request->type.kind != CHANNEL_USER && limit_exceeded(app->max_channel_name_length, request->name.length)) {
        session_refused(session, REFUSED_CHANNEL_NAME);
        session_subscription_error(session, request->channel_token, "LimitReached", 4009,
                                   "the channel's name has %zu bytes, `max_channel_name_length` of this app is %u",
                                   request->name.length, app->max_channel_name_length);
        return false;
    }
    return true;
}

/* Answers a subscription to a user's channel. Only pusher:signin subscribes to it, so this changes nothing; that user
 * gets a success, others an error. */
static void answer_user_channel(struct subscribe_request *request) {
    const struct session_user *user = request->session->user;
    struct slice id = slice_skip(request->name, sizeof USER_CHANNEL_PREFIX - 1);

    if (user == NULL || !slice_equal((struct slice){user->id, user->id_length}, id)) {
        refuse_auth(request, "this connection is not signed in as the user of the channel");
        return;
    }
    session_send(request->session,
                 (struct slice[]){SLICE("{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":"),
                                  request->channel_token, SLICE(",\"data\":\"{}\"}")},
                 3);
}

/* True if `text` is a JSON object. */
static bool is_object(struct slice text) {
    return json_scan_object(text, NULL, NULL, 0, NULL);
}

/*
 * Checks the signature of socket_id:channel[:channel_data]. A colon may be part of a channel's name, so a signature of
 * private-team:42 would fit private-team with the channel_data 42 as well. No name holds a brace: channel_data counts
 * only if it is an object, as in presence channels.
 */
static bool check_channel_auth(struct subscribe_request *request, struct slice channel_data) {
    struct session *session = request->session;
    struct buffer storage = {0};
    char socket_id[SOCKET_ID_TEXT];
    struct slice parts[5];
    size_t count = 0;
    const char *why = "a private or presence channel needs `auth`, a string";
    bool has_data = request->channel_data.type == JSON_TYPE_STRING;
    bool valid;

    if (has_data && !is_object(channel_data)) {
        refuse_auth(request, "`channel_data` must be a JSON object in a string");
        return false;
    }
    parts[count++] = (struct slice){socket_id, socket_id_format(&session->id, socket_id)};
    parts[count++] = SLICE(":");
    parts[count++] = request->name;
    if (has_data) {
        parts[count++] = SLICE(":");
        parts[count++] = channel_data;
    }
    valid = request->auth.type == JSON_TYPE_STRING &&
            signature_valid(session, json_decode_string(request->auth, &storage), parts, count, &why);
    buffer_dispose(&storage);
    if (!valid)
        refuse_auth(request, why);
    return valid;
}

/* Reads the user of a presence channel from channel_data: `{"user_id":...,"user_info":...}`. Returns NULL or the reason
 * of the failure. */
static const char *read_channel_data(struct subscribe_request *request, struct slice text) {
    static const struct slice names[] = {SLICE_INIT("user_id"), SLICE_INIT("user_info")};
    struct json_value values[2];

    if (!json_scan_object(text, names, values, 2, NULL))
        return "`channel_data` must be a JSON object in a string";
    if (!user_id_read(values[0], &request->user_id))
        return "`user_id` in `channel_data` must be a string of 1 to 255 bytes or an integer";
    buffer_append(&request->user_info, values[1].type == JSON_TYPE_ABSENT ? SLICE("{}") : values[1].token);
    return NULL;
}

/* Reads the member that joins a presence channel and checks the app's limits; false if the request was refused. */
static bool member_acceptable(struct subscribe_request *request, struct slice channel_data) {
    struct session *session = request->session;
    const struct app *app = session->app;
    const char *why = NULL;

    if (request->channel_data.type == JSON_TYPE_STRING) {
        why = read_channel_data(request, channel_data);
    } else if (session->user != NULL) {
        buffer_append(&request->user_id, (struct slice){session->user->id, session->user->id_length});
        buffer_append(&request->user_info, (struct slice){session->user->info, session->user->info_length});
    } else {
        why = "a presence channel needs `channel_data`, a string, or a connection that is signed in";
    }
    if (why != NULL) {
        refuse_auth(request, why);
        return false;
    }
    if (app->max_presence_member_size_in_kb != 0 &&
        request->user_info.length > (size_t)app->max_presence_member_size_in_kb * 1024) {
        session_refused(session, REFUSED_PRESENCE_MEMBER_SIZE);
        session_subscription_error(session, request->channel_token, "LimitReached", 4301,
                                   "`user_info` has %zu bytes, `max_presence_member_size_in_kb` of this app is %u KB",
                                   request->user_info.length, app->max_presence_member_size_in_kb);
        return false;
    }
    request->join.user_id = buffer_slice(&request->user_id);
    request->join.user_info = buffer_slice(&request->user_info);
    request->join.max_members = app->max_presence_members_per_channel;
    return true;
}

static void send_succeeded(struct subscribe_request *request) {
    struct session *session = request->session;
    struct buffer members = {0};

    if (request->type.kind == CHANNEL_PRESENCE)
        member_list_append_escaped(request->join.members, &members);
    else
        buffer_append(&members, SLICE("{}"));
    session_send(session,
                 (struct slice[]){SLICE("{\"event\":\"pusher_internal:subscription_succeeded\",\"channel\":"),
                                  request->channel_token, SLICE(",\"data\":\""), buffer_slice(&members), SLICE("\"}")},
                 5);
    buffer_dispose(&members);
    member_list_unref(request->join.members);
}

static void send_cache_miss(struct subscribe_request *request) {
    struct session *session = request->session;
    struct webhook_draft webhook = {0};

    session_send(session,
                 (struct slice[]){SLICE("{\"event\":\"pusher:cache_miss\",\"channel\":"), request->channel_token,
                                  SLICE(",\"data\":\"{}\"}")},
                 3);
    webhook_draft_begin(&webhook, session->server->webhooks, session->app, WEBHOOK_CACHE_MISS,
                        &(struct webhook_details){.channel = request->name});
    webhook_draft_post(&webhook, 0);
    webhook_draft_end(&webhook);
}

static void send_cached(struct subscribe_request *request) {
    struct session *session = request->session;

    if (request->join.cached != NULL) {
        struct chunk *chunk = chunk_of_frame(request->join.cached);
        ssize_t queued;
        chunk->droppable = false;
        queued = stream_send(session->websocket.stream, chunk);
        if (queued >= 0) {
            counter_add(&session_part(session)->counters.messages_sent, 1);
            counter_add(&session_part(session)->counters.bytes_sent, (uint64_t)queued);
        }
        chunk_unref(chunk);
        frame_unref(request->join.cached);
    } else if (request->type.caches) {
        send_cache_miss(request);
    }
}

static void refuse_channel_without_room(struct subscribe_request *request) {
    session_refused(request->session, REFUSED_MEMORY_LIMIT);
    session_subscription_error(request->session, request->channel_token, "LimitReached", 4100,
                               "there is no room for another subscription now: see `memory.limit_mb`");
}

/* Takes the memory of one more subscription of the session; false if there is no room for it. */
static bool take_subscription(struct session *session, size_t bytes) {
    if (session->subscriptions.count >= SUBSCRIPTIONS_ASSURED)
        return budget_take(BUDGET_CHANNELS, session->slot->budget, bytes);
    budget_add(BUDGET_CHANNELS, session->slot->budget, bytes);
    return true;
}

static void refuse_filter(struct subscribe_request *request) {
    session_refused(request->session, REFUSED_FILTERS);
    session_subscription_error(request->session, request->channel_token, "LimitReached", 4004,
                               "the channel's subscribers have too many different filters");
}

static void refuse_join(struct subscribe_request *request, enum channel_joined joined) {
    const struct app *app = request->session->app;

    if (joined == CHANNEL_NO_MEMORY) {
        refuse_channel_without_room(request);
        return;
    }
    if (joined == CHANNEL_FILTERS_FULL) {
        refuse_filter(request);
        return;
    }
    session_refused(request->session, REFUSED_PRESENCE_MEMBERS);
    session_subscription_error(request->session, request->channel_token, "LimitReached", 4004,
                               "the channel is full: `max_presence_members_per_channel` of this app is %u",
                               app->max_presence_members_per_channel);
}

static void resume_subscription(struct channel_waiter *waiter);

/* Subscribes, or keeps the request until other nodes were heard. */
static enum channel_joined try_channel(struct subscribe_request *request, struct subscription *subscription) {
    struct session *session = request->session;
    struct channel_hub *channels = session->server->channels;
    struct waiting_subscription *waiting = NULL;
    enum channel_joined joined;

    if (channel_hub_waits(channels))
        waiting = waiting_subscription_create(session, resume_subscription);
    request->join.waiter = waiting != NULL ? &waiting->waiter : NULL;
    joined = channel_subscribe(channels, session->slot, session->websocket.stream, request->name, subscription,
                               &request->join);
    if (joined != CHANNEL_WAITS) {
        if (waiting != NULL)
            waiting_subscription_destroy(waiting);
        return joined;
    }
    if (!waiting_subscription_keep(waiting, &(struct waiting_subscription){.channel_token = request->channel_token,
                                                                           .name = request->name,
                                                                           .user_id = request->join.user_id,
                                                                           .user_info = request->join.user_info,
                                                                           .delta = request->delta,
                                                                           .filter = request->filter}))
        return CHANNEL_NO_MEMORY;
    request->filter = NULL;
    return CHANNEL_WAITS;
}

/* Subscribes to a channel to which the session is not subscribed. NULL: it was refused, or waits. */
static struct subscription *join_new(struct subscribe_request *request) {
    struct session *session = request->session;
    size_t bytes = subscriptions_bytes_of_next(&session->subscriptions);
    struct subscription *subscription;
    enum channel_joined joined;

    if (!take_subscription(session, bytes)) {
        refuse_channel_without_room(request);
        return NULL;
    }
    subscription = alloc(sizeof *subscription);
    request->join.app = session->app;
    request->join.filter = request->filter;
    joined = try_channel(request, subscription);
    session->authorized |= joined == CHANNEL_WAITS && request->type.kind != CHANNEL_PUBLIC;
    if (joined == CHANNEL_WAITS) { /* what it has taken is the waiting one's */
        free(subscription);
        return NULL;
    }
    if (joined != CHANNEL_JOINED) {
        budget_give(BUDGET_CHANNELS, session->slot->budget, bytes);
        free(subscription);
        refuse_join(request, joined);
        return NULL;
    }
    subscriptions_add(&session->subscriptions, subscription);
    session->authorized |= request->type.kind != CHANNEL_PUBLIC;
    counter_add(&session_part(session)->counters.subscriptions[channel_label_of(request->type)], 1);
    return subscription;
}

static void answer_joined(struct subscribe_request *request, struct subscription *subscription, bool is_new) {
    bool confirm = session_subscription_deltas(request->session, subscription, request->delta, is_new);

    channel_set_filter(request->session->server->channels, subscription, request->filter);
    request->filter = NULL;
    send_succeeded(request);
    if (confirm)
        session_confirm_deltas(request->session, subscription, request->channel_token);
    if (request->type.caches)
        send_cached(request);
}

static void join_requested(struct subscribe_request *request) {
    struct session *session = request->session;
    uint32_t max = session->server->config->websocket.max_subscriptions_per_connection;
    struct subscription *subscription =
        subscriptions_find_by_name(&session->subscriptions, session->slot, request->name);

    if (subscription != NULL && subscription->waiting) {
        waiting_subscription_repeat(waiting_subscription_of(subscription), request->filter, request->delta);
        request->filter = NULL;
        return;
    }
    if (subscription != NULL && !channel_takes_filter(subscription, request->filter)) {
        refuse_filter(request);
        return;
    }
    if (subscription != NULL) {
        channel_snapshot(subscription, &request->join);
        answer_joined(request, subscription, false);
        return;
    }
    if (max != 0 && session->subscriptions.count >= max) {
        session_refused(session, REFUSED_SUBSCRIPTIONS);
        session_subscription_error(session, request->channel_token, "LimitReached", 4004,
                                   "a connection holds at most %u subscriptions: see "
                                   "`websocket.max_subscriptions_per_connection`",
                                   max);
        return;
    }
    subscription = join_new(request);
    if (subscription != NULL)
        answer_joined(request, subscription, true);
}

/* Answers the requests for the same channel that came while the first one waited. */
static void answer_repeated(struct subscribe_request *request, unsigned answers) {
    struct subscription *subscription =
        subscriptions_find_by_name(&request->session->subscriptions, request->session->slot, request->name);

    if (subscription != NULL && subscription->waiting) /* once more */
        waiting_subscription_of(subscription)->answers = answers;
    for (; answers > 1 && subscription != NULL && !subscription->waiting; answers--) {
        channel_snapshot(subscription, &request->join);
        send_succeeded(request);
        send_cached(request);
    }
}

/* Goes on with a subscription for which other nodes were heard. */
static void resume_subscription(struct channel_waiter *waiter) {
    struct waiting_subscription *waiting = container_of(waiter, struct waiting_subscription, waiter);
    struct session *session = waiting->session;
    struct subscribe_request request = {
        .session = session,
        .channel_token = waiting->channel_token,
        .name = waiting->name,
        .type = channel_type_of(waiting->name),
        .delta = waiting->delta,
        .filter = waiting->filter,
        .join = {.user_id = waiting->user_id, .user_info = waiting->user_info},
    };

    waiting->filter = NULL;
    waiting_subscription_take(waiting);
    session->app = slot_app(session->slot);
    if (session->app != NULL) { /* else sessions_apply_app_changes will close the session */
        request.join.max_members = session->app->max_presence_members_per_channel;
        join_requested(&request);
        answer_repeated(&request, waiting->answers);
    }
    session_drop_filter(session, request.filter);
    waiting_subscription_destroy(waiting);
    if (session->junk)
        session_count_junk(session);
}

static void handle_subscribe(struct subscribe_request *request) {
    struct buffer storage = {0};
    struct slice channel_data = {0};

    if (!name_acceptable(request))
        return;
    if (request->type.kind == CHANNEL_USER) {
        answer_user_channel(request);
        return;
    }
    if (request->channel_data.type == JSON_TYPE_STRING)
        channel_data = json_decode_string(request->channel_data, &storage);
    if ((request->type.kind == CHANNEL_PUBLIC || check_channel_auth(request, channel_data)) &&
        (request->type.kind != CHANNEL_PRESENCE || member_acceptable(request, channel_data)))
        join_requested(request);
    buffer_dispose(&storage);
}

static void refuse_without_channel(struct session *session, const char *event) {
    session_counted_error(session, CONNECTION_ERROR_INVALID_MESSAGE_FORMAT);
    session_refused(session, REFUSED_MESSAGE);
    session_error(session, 4300, "%s needs `data` with `channel`, a string", event);
}

void session_subscribe(struct session *session, struct json_value data) {
    static const struct slice names[SUBSCRIBE_MEMBERS] = {
        [CHANNEL] = SLICE_INIT("channel"), [AUTH] = SLICE_INIT("auth"),     [CHANNEL_DATA] = SLICE_INIT("channel_data"),
        [DELTA] = SLICE_INIT("delta"),     [FILTER] = SLICE_INIT("filter"), [TAGS_FILTER] = SLICE_INIT("tags_filter"),
    };
    struct json_value values[SUBSCRIBE_MEMBERS];
    struct buffer data_storage = {0}, name_storage = {0};
    struct subscribe_request request = {.session = session};
    enum filter_result result;

    if (!message_data(data, &data_storage, names, values, SUBSCRIBE_MEMBERS) ||
        values[CHANNEL].type != JSON_TYPE_STRING) {
        refuse_without_channel(session, "pusher:subscribe");
    } else {
        request.channel_token = values[CHANNEL].token;
        request.name = json_decode_string(values[CHANNEL], &name_storage);
        request.type = channel_type_of(request.name);
        request.auth = values[AUTH];
        request.channel_data = values[CHANNEL_DATA];
        request.delta = values[DELTA];
        result = session_read_filter(session, request.name, values[FILTER], values[TAGS_FILTER], &request.filter);
        if (result == FILTER_READY)
            handle_subscribe(&request);
        else if (result == FILTER_NO_MEMORY)
            refuse_channel_without_room(&request);
    }
    session_drop_filter(session, request.filter);
    buffer_dispose(&data_storage);
    buffer_dispose(&name_storage);
    buffer_dispose(&request.user_id);
    buffer_dispose(&request.user_info);
}

void session_unsubscribe(struct session *session, struct json_value data) {
    static const struct slice names[] = {SLICE_INIT("channel")};
    struct buffer data_storage = {0}, name_storage = {0};
    struct json_value value;

    if (!message_data(data, &data_storage, names, &value, 1) || value.type != JSON_TYPE_STRING) {
        refuse_without_channel(session, "pusher:unsubscribe");
    } else {
        struct slice name = json_decode_string(value, &name_storage);
        struct subscription *subscription = subscriptions_find_by_name(&session->subscriptions, session->slot, name);
        if (subscription != NULL && subscription->waiting) {
            struct waiting_subscription *waiting = waiting_subscription_of(subscription);
            waiting_subscription_take(waiting);
            waiting_subscription_destroy(waiting);
        } else if (subscription != NULL) {
            enum channel_label label = channel_label_of(channel_type(subscription->channel));
            size_t bytes = subscriptions_bytes(&session->subscriptions);
            subscriptions_remove(&session->subscriptions, subscription);
            budget_give(BUDGET_CHANNELS, session->slot->budget, bytes - subscriptions_bytes(&session->subscriptions));
            channel_leave(session->server->channels, subscription, session->app);
            free(subscription);
            counter_add(&session_part(session)->counters.unsubscriptions[label], 1);
        } else {
            session->junk = true;
        }
    }
    buffer_dispose(&data_storage);
    buffer_dispose(&name_storage);
}
