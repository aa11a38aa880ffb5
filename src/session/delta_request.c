#include "app/delta_pattern.h"
#include "session/session_internal.h"

/* The work of looking at a subscription; see worker_spend. */
#define SUBSCRIPTION_WORK 4

static const struct slice algorithm_names[] = {
    [TAKES_FOSSIL] = SLICE_INIT("fossil"),
    [TAKES_XDELTA3] = SLICE_INIT("xdelta3"),
};

/* Returns TAKES_DEFAULT for a name that is none of an algorithm. */
static enum delta_takes algorithm_by_name(struct slice name) {
    if (slice_equal_ignoring_case(name, SLICE("fossil")))
        return TAKES_FOSSIL;
    if (slice_equal_ignoring_case(name, SLICE("xdelta3")) || slice_equal_ignoring_case(name, SLICE("vcdiff")))
        return TAKES_XDELTA3;
    return TAKES_DEFAULT;
}

static enum delta_takes server_algorithm(const struct session *session) {
    return session->server->config->delta_compression.algorithm == CONFIG_DELTA_XDELTA3 ? TAKES_XDELTA3 : TAKES_FOSSIL;
}

static bool server_has_deltas(const struct session *session) {
    return session->server->config->delta_compression.enabled;
}

/* --- the member `delta` of a subscription --- */

/* What a subscription asks for. */
struct delta_wish {
    bool given;             /* it decides for itself */
    enum delta_takes takes; /* TAKES_WHOLE: no deltas */
};

static struct delta_wish read_wish_word(struct json_value word) {
    static const struct slice off[] = {SLICE_INIT("disabled"), SLICE_INIT("false"), SLICE_INIT("none")};
    struct buffer storage = {0};
    struct slice name = json_decode_string(word, &storage);
    struct delta_wish wish = {true, algorithm_by_name(name)};

    for (size_t i = 0; i < sizeof off / sizeof off[0]; i++)
        if (slice_equal_ignoring_case(name, off[i]))
            wish.takes = TAKES_WHOLE;
    buffer_dispose(&storage);
    return wish;
}

static struct delta_wish read_wish_object(struct json_value object) {
    static const struct slice names[] = {SLICE_INIT("enabled"), SLICE_INIT("algorithm")};
    struct delta_wish wish = {true, TAKES_DEFAULT};
    struct buffer storage = {0};
    struct json_value values[2];

    if (!json_scan_object(object.token, names, values, 2, NULL))
        return (struct delta_wish){0};
    if (values[0].type == JSON_TYPE_FALSE)
        wish.takes = TAKES_WHOLE;
    else if (values[1].type == JSON_TYPE_STRING)
        wish.takes = algorithm_by_name(json_decode_string(values[1], &storage));
    buffer_dispose(&storage);
    return wish;
}

static struct delta_wish read_wish(struct json_value delta) {
    switch (delta.type) {
    case JSON_TYPE_TRUE:
        return (struct delta_wish){true, TAKES_DEFAULT};
    case JSON_TYPE_FALSE:
        return (struct delta_wish){true, TAKES_WHOLE};
    case JSON_TYPE_STRING:
        return read_wish_word(delta);
    case JSON_TYPE_OBJECT:
        return read_wish_object(delta);
    default:
        return (struct delta_wish){0};
    }
}

#define FOSSIL_BIT (1u << TAKES_FOSSIL)
#define XDELTA3_BIT (1u << TAKES_XDELTA3)

/* What is left of a wish if the client's list in pusher:enable_delta_compression leaves the algorithms `barred` out. */
static enum delta_takes among_client_algorithms(enum delta_takes wish, unsigned barred) {
    if (wish == TAKES_WHOLE || barred == 0)
        return wish;
    if (barred == (FOSSIL_BIT | XDELTA3_BIT))
        return TAKES_WHOLE;
    return barred == XDELTA3_BIT ? TAKES_FOSSIL : TAKES_XDELTA3;
}

bool session_subscription_deltas(struct session *session, struct subscription *subscription, struct json_value delta,
                                 bool is_new) {
    struct delta_wish wish = read_wish(delta);
    enum delta_takes takes = session->takes;

    if (!server_has_deltas(session) || !channel_type_has_deltas(channel_type(subscription->channel)))
        return false;
    if (wish.given)
        takes = among_client_algorithms(wish.takes, session->barred);
    else if (!is_new || takes == TAKES_WHOLE)
        return false;
    if (!channel_set_deltas(session->server->channels, subscription, takes, wish.given))
        return false;
    subscription->wanted = (uint8_t)wish.takes;
    return wish.given && takes != TAKES_WHOLE && session->takes == TAKES_WHOLE;
}

/* The algorithm that a subscription gets now. */
static enum delta_takes algorithm_in_force(const struct session *session, const struct subscription *subscription) {
    enum delta_takes takes = channel_deltas(subscription, NULL);
    const struct app_delta_setting *setting;

    if (takes != TAKES_DEFAULT)
        return takes;
    setting = app_delta_find(session->app, channel_name(subscription->channel));
    if (!app_delta_has_settings(setting))
        return server_algorithm(session);
    return setting->algorithm == APP_DELTA_XDELTA3 ? TAKES_XDELTA3 : TAKES_FOSSIL;
}

/* The name of an algorithm, for a client that is told of it. */
static struct slice told_algorithm(struct session *session, enum delta_takes algorithm) {
    if (algorithm == TAKES_XDELTA3)
        channel_hub_told_xdelta3(session->server->channels);
    return algorithm_names[algorithm];
}

void session_confirm_deltas(struct session *session, const struct subscription *subscription,
                            struct slice channel_token) {
    session_send(session,
                 (struct slice[]){SLICE("{\"event\":\"pusher:delta_compression_enabled\",\"channel\":"), channel_token,
                                  SLICE(",\"data\":{\"enabled\":true,\"algorithm\":\""),
                                  told_algorithm(session, algorithm_in_force(session, subscription)),
                                  SLICE("\",\"channel\":"), channel_token, SLICE("}}")},
                 7);
}

/* --- pusher:enable_delta_compression --- */

/* The bits 1 << TAKES_... of what the client names; an unknown name is TAKES_DEFAULT. */
static unsigned algorithms_of_list(struct json_value list) {
    struct json_iterator iterator = json_iterate(list);
    struct json_value element;
    unsigned named = 0;

    while (json_next(&iterator, NULL, &element)) {
        struct buffer storage = {0};

        named |= 1u << algorithm_by_name(json_decode_string(element, &storage));
        buffer_dispose(&storage);
    }
    return named;
}

/* Returns the algorithms that the client does not take, as bits 1 << TAKES_... A client that names none takes each. */
static unsigned read_barred_algorithms(struct json_value data) {
    static const struct slice names[] = {SLICE_INIT("algorithms")};
    struct buffer storage = {0};
    struct json_value list;
    unsigned named = 0;

    if (message_data(data, &storage, names, &list, 1) && list.type == JSON_TYPE_ARRAY)
        named = algorithms_of_list(list);
    buffer_dispose(&storage);
    return named == 0 ? 0 : (FOSSIL_BIT | XDELTA3_BIT) & ~named;
}

/* Subscriptions that have decided for themselves keep that, as far as the client's list has the algorithm. Without room
 * in the account of memory a subscription goes on getting whole messages. */
static void update_subscriptions(struct session *session) {
    const struct subscription_set *set = &session->subscriptions;

    worker_spend(session_worker(session), (size_t)set->capacity * SUBSCRIPTION_WORK);
    for (uint32_t i = 0; i < set->capacity; i++) {
        struct subscription *subscription = set->slots[i];
        enum delta_takes before, after;
        bool asked;

        if (subscription == NULL || subscription->waiting ||
            !channel_type_has_deltas(channel_type(subscription->channel)))
            continue;
        before = channel_deltas(subscription, &asked);
        after = asked ? among_client_algorithms((enum delta_takes)subscription->wanted, session->barred)
                      : (enum delta_takes)session->takes;
        if (after != before)
            channel_set_deltas(session->server->channels, subscription, after, asked);
    }
}

void session_enable_deltas(struct session *session, struct json_value data) {
    unsigned barred = read_barred_algorithms(data);
    enum delta_takes takes = server_has_deltas(session) ? among_client_algorithms(TAKES_DEFAULT, barred) : TAKES_WHOLE;
    enum delta_takes answer = takes == TAKES_FOSSIL || takes == TAKES_XDELTA3 ? takes : server_algorithm(session);
    bool differs = session->takes != takes || session->barred != barred;

    /* One is enough, so each of them counts. */
    session->junk = true;
    session->takes = (uint8_t)takes;
    session->barred = (uint8_t)barred;
    if (differs) {
        session_count_walk(session);
        update_subscriptions(session);
    }
    session_send(session,
                 (struct slice[]){SLICE("{\"event\":\"pusher:delta_compression_enabled\",\"data\":{\"enabled\":"),
                                  takes != TAKES_WHOLE ? SLICE("true") : SLICE("false"), SLICE(",\"algorithm\":\""),
                                  told_algorithm(session, answer), SLICE("\"}}")},
                 5);
}

/* --- pusher:delta_sync_error --- */

void session_delta_sync_error(struct session *session, struct json_value data) {
    static const struct slice names[] = {SLICE_INIT("channel")};
    struct buffer data_storage = {0}, name_storage = {0};
    struct subscription *subscription = NULL;
    struct json_value channel;

    session->junk = true; /* each one makes the next message longer */
    if (message_data(data, &data_storage, names, &channel, 1) && channel.type == JSON_TYPE_STRING)
        subscription = subscriptions_find_by_name(&session->subscriptions, session->slot,
                                                  json_decode_string(channel, &name_storage));
    if (subscription != NULL && !subscription->waiting)
        channel_forget_base(subscription);
    buffer_dispose(&data_storage);
    buffer_dispose(&name_storage);
}
