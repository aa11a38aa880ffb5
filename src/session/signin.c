#include <stdlib.h>

#include "base/alloc.h"
#include "session/session_internal.h"
#include "session/waiting_sign_in.h"

enum { AUTH, USER_DATA, SIGNIN_MEMBERS };
enum { ID, USER_INFO, WATCHLIST, USER_MEMBERS };

static void fail_signin(struct session *session, const char *why) {
    session_counted_error(session, CONNECTION_ERROR_AUTHENTICATION_FAILED);
    session_refused(session, REFUSED_SIGNATURE);
    session_close(session, 4009, "sign-in refused: %s", why);
}

static bool check_user_auth(struct session *session, struct json_value auth, struct slice user_data, const char **why) {
    struct buffer storage = {0};
    char socket_id[SOCKET_ID_TEXT];
    const struct slice parts[] = {{socket_id, socket_id_format(&session->id, socket_id)}, SLICE("::user::"), user_data};
    bool valid = signature_valid(session, json_decode_string(auth, &storage), parts, 3, why);

    buffer_dispose(&storage);
    return valid;
}

/* Parses `{"id":...,"user_info":...,"watchlist":[...]}`; returns NULL or the reason of the failure. `id` gets the
 * user's id. A wrong watchlist is no failure: see start_watching. */
static const char *read_user_data(struct slice text, struct json_value *values, struct buffer *id) {
    static const struct slice names[USER_MEMBERS] = {
        [ID] = SLICE_INIT("id"), [USER_INFO] = SLICE_INIT("user_info"), [WATCHLIST] = SLICE_INIT("watchlist")};

    if (!json_scan_object(text, names, values, USER_MEMBERS, NULL))
        return "`user_data` must be a JSON object in a string";
    if (!user_id_read(values[ID], id))
        return "`id` in `user_data` must be a string of 1 to 255 bytes or an integer";
    return NULL;
}

/* The memory of a user in the account. */
static size_t user_bytes(size_t id_length, size_t info_length) {
    return alloc_footprint(sizeof(struct session_user)) + alloc_footprint(id_length + 1) +
           alloc_footprint(info_length + 1);
}

static size_t watching_bytes(uint32_t capacity) {
    return capacity != 0 ? alloc_footprint(capacity * sizeof(struct subscription)) : 0;
}

static void free_user(const struct session *session, struct session_user *user) {
    budget_give(BUDGET_PRESENCE, session->slot->budget,
                user_bytes(user->id_length, user->info_length) + watching_bytes(user->watching_capacity));
    free(user->watching);
    free(user->id);
    free(user->info);
    free(user);
}

/* Makes the session's user, who has not joined the own channel yet; NULL if there is no room for it. */
static struct session_user *create_user(struct session *session, struct slice id, const struct json_value *values) {
    struct slice info = values[USER_INFO].type != JSON_TYPE_ABSENT ? values[USER_INFO].token : SLICE("{}");
    struct session_user *user;

    if (!budget_take(BUDGET_PRESENCE, session->slot->budget, user_bytes(id.length, info.length)))
        return NULL;
    user = alloc_zero(sizeof *user);
    user->id = alloc_copy(id.data, id.length);
    user->id_length = id.length;
    user->info = alloc_copy(info.data, info.length);
    user->info_length = info.length;
    return user;
}

/* Subscribes to the user's own channel; the user is the session's then. False, and the user is freed, if there is no
 * room for it. */
static bool join_own_channel(struct session *session, struct session_user *user) {
    struct buffer name = {0};
    struct channel_join join = {0};
    enum channel_joined joined;

    buffer_append(&name, SLICE(USER_CHANNEL_PREFIX));
    buffer_append_bytes(&name, user->id, user->id_length);
    joined = channel_subscribe(session->server->channels, session->slot, session->websocket.stream, buffer_slice(&name),
                               &user->own, &join);
    buffer_dispose(&name);
    session->user = joined == CHANNEL_JOINED ? user : NULL;
    if (joined != CHANNEL_JOINED)
        free_user(session, user);
    return joined == CHANNEL_JOINED;
}

/* --- the watchlist --- */

static bool watched_already(const struct session_user *user, struct slice id) {
    for (uint32_t i = 0; i < user->watching_count; i++) {
        struct slice name = channel_name(user->watching[i].channel);
        if (slice_equal(slice_skip(name, sizeof USER_CHANNEL_PREFIX - 1), id))
            return true;
    }
    return false;
}

static void append_watch_event(struct buffer *events, const char *name, struct slice ids) {
    if (ids.length == 0)
        return;
    if (events->length != 0)
        buffer_append_byte(events, ',');
    buffer_appendf(events, "{\"name\":\"%s\",\"user_ids\":[%.*s]}", name, SLICE_ARGS(ids));
}

static void refuse_watching(struct session *session) {
    session_refused(session, REFUSED_MEMORY_LIMIT);
    session_error(session, 4302, "there is no room to watch more users now than the first %u: see `memory.limit_mb`",
                  session->user->watching_count);
}

/* Starts to watch the first `count` users of the watchlist and sends which of them are online now. Their channels send
 * later changes. */
static void watch_listed_users(struct session *session, struct json_value watchlist, uint32_t count) {
    struct session_user *user = session->user;
    struct json_iterator iterator = json_iterate(watchlist);
    struct buffer id = {0}, online_ids = {0}, offline_ids = {0}, events = {0}, data = {0};
    struct json_value token;

    if (!budget_take(BUDGET_PRESENCE, session->slot->budget, watching_bytes(count))) {
        refuse_watching(session);
        return;
    }
    /* Allocated in full size at once: channels keep pointers to the entries. */
    user->watching = alloc_zero(count * sizeof user->watching[0]);
    user->watching_capacity = count;
    for (uint32_t i = 0; i < count && json_next(&iterator, NULL, &token); i++) {
        bool online = false;

        id.length = 0;
        if (user_id_read(token, &id) && !watched_already(user, buffer_slice(&id))) {
            struct buffer *ids;
            if (!channel_watch_user(session->server->channels, session->slot, session->websocket.stream,
                                    buffer_slice(&id), &user->watching[user->watching_count], &online)) {
                refuse_watching(session);
                break;
            }
            user->watching_count++;
            ids = online ? &online_ids : &offline_ids;
            if (ids->length != 0)
                buffer_append_byte(ids, ',');
            json_append_string(ids, buffer_slice(&id));
        }
    }
    append_watch_event(&events, "online", buffer_slice(&online_ids));
    append_watch_event(&events, "offline", buffer_slice(&offline_ids));
    if (events.length != 0) {
        struct buffer text = {0};
        buffer_appendf(&text, "{\"events\":[%.*s]}", SLICE_ARGS(buffer_slice(&events)));
        json_append_string(&data, buffer_slice(&text));
        session_send(session,
                     (struct slice[]){SLICE("{\"event\":\"pusher_internal:watchlist_events\",\"data\":"),
                                      buffer_slice(&data), SLICE("}")},
                     3);
        buffer_dispose(&text);
    }
    buffer_dispose(&id);
    buffer_dispose(&online_ids);
    buffer_dispose(&offline_ids);
    buffer_dispose(&events);
    buffer_dispose(&data);
}

/* Returns the number of entries of the watchlist; -1 if it is not an array of user ids. */
static ssize_t watchlist_length(struct json_value watchlist) {
    struct json_iterator iterator;
    struct buffer id = {0};
    struct json_value user;
    ssize_t count = 0;

    if (watchlist.type != JSON_TYPE_ARRAY)
        return watchlist.type == JSON_TYPE_ABSENT || watchlist.type == JSON_TYPE_NULL ? 0 : -1;
    iterator = json_iterate(watchlist);
    for (; count >= 0 && json_next(&iterator, NULL, &user); id.length = 0)
        count = user_id_read(user, &id) ? count + 1 : -1;
    buffer_dispose(&id);
    return count;
}

/* Watches the users of the watchlist. A wrong list is only reported: the user stays signed in. */
static void start_watching(struct session *session, struct json_value watchlist) {
    ssize_t count;

    if (!session->app->enable_watchlist_events)
        return;
    count = watchlist_length(watchlist);
    if (count < 0) {
        session_refused(session, REFUSED_WATCHLIST);
        session_error(session, 4302,
                      "`watchlist` must be an array of user ids, strings of 1 to 255 bytes or integers; it is ignored");
    } else if (count > WATCHLIST_MAX) {
        session_refused(session, REFUSED_WATCHLIST);
        session_error(session, 4302, "the watchlist has %zd users; only the first %d are watched", count,
                      WATCHLIST_MAX);
        count = WATCHLIST_MAX;
    }
    if (count > 0)
        watch_listed_users(session, watchlist, (uint32_t)count);
}

/* --- the event --- */

static void send_success(struct session *session, struct slice user_data_token) {
    session_send(session,
                 (struct slice[]){SLICE("{\"event\":\"pusher:signin_success\",\"data\":{\"user_data\":"),
                                  user_data_token, SLICE("}}")},
                 3);
}

static void refuse_sign_in(struct session *session) {
    session_refused(session, REFUSED_MEMORY_LIMIT);
    session_close(session, 4100, "there is no room to sign in another user now: see `memory.limit_mb`");
}

/* Signs a user in and answers, so many times as there were requests. */
static void complete_sign_in(struct session *session, struct session_user *user, struct json_value watchlist,
                             struct slice user_data_token, unsigned answers) {
    if (!join_own_channel(session, user)) {
        refuse_sign_in(session);
        return;
    }
    session->authorized = true;
    for (; answers != 0; answers--)
        send_success(session, user_data_token);
    start_watching(session, watchlist);
}

/* Other nodes were heard about all users. */
static void resume_sign_in(struct waiting_sign_in *sign_in) {
    struct session *session = sign_in->session;
    struct session_user *user = session->user;
    struct json_value values[USER_MEMBERS] = {0};
    struct buffer id = {0};

    session->app = slot_app(session->slot);
    if (session->app == NULL)
        return; /* sessions_apply_app_changes will close the session */
    read_user_data(sign_in->user_data, values, &id);
    user->waiting = NULL;
    session->user = NULL;
    complete_sign_in(session, user, values[WATCHLIST], sign_in->token, sign_in->answers);
    waiting_sign_in_destroy(sign_in);
    buffer_dispose(&id);
    if (session->junk)
        session_count_junk(session);
}

enum sign_in_wait { SIGN_IN_NOW, SIGN_IN_LATER, SIGN_IN_NO_MEMORY };

/* Waits for what other nodes know of the user, and of the users on the watchlist. */
static enum sign_in_wait wait_for_users(struct session *session, struct session_user *user, struct json_value watchlist,
                                        struct waiting_sign_in **waiting, struct slice token, struct slice text) {
    bool watches = session->app->enable_watchlist_events && watchlist.type == JSON_TYPE_ARRAY;
    struct json_iterator iterator =
        json_iterate(watches ? watchlist : (struct json_value){JSON_TYPE_ARRAY, false, SLICE("[]")});
    struct waiting_sign_in *sign_in;
    struct buffer id = {0};
    struct json_value entry;
    bool fits;

    sign_in = waiting_sign_in_create(session, token, text, 1 + (watches ? WATCHLIST_MAX : 0), resume_sign_in);
    if (sign_in == NULL)
        return SIGN_IN_NO_MEMORY;
    fits = waiting_sign_in_add(sign_in, (struct slice){user->id, user->id_length});
    for (unsigned i = 0; i < WATCHLIST_MAX && fits && json_next(&iterator, NULL, &entry); i++, id.length = 0)
        fits = !user_id_read(entry, &id) || waiting_sign_in_add(sign_in, buffer_slice(&id));
    buffer_dispose(&id);
    if (fits && sign_in->left != 0) {
        *waiting = sign_in;
        return SIGN_IN_LATER;
    }
    waiting_sign_in_destroy(sign_in);
    return fits ? SIGN_IN_NOW : SIGN_IN_NO_MEMORY;
}

/* Signs in a user for the first time on this connection. */
static void begin_sign_in(struct session *session, struct slice id, const struct json_value *values, struct slice token,
                          struct slice text) {
    struct session_user *user = create_user(session, id, values);
    enum sign_in_wait wait = user == NULL ? SIGN_IN_NO_MEMORY : SIGN_IN_NOW;

    if (user != NULL && channel_hub_waits(session->server->channels))
        wait = wait_for_users(session, user, values[WATCHLIST], &user->waiting, token, text);
    switch (wait) {
    case SIGN_IN_NOW:
        complete_sign_in(session, user, values[WATCHLIST], token, 1);
        break;
    case SIGN_IN_LATER:
        session->user = user;
        session->authorized = true;
        break;
    case SIGN_IN_NO_MEMORY:
        if (user != NULL)
            free_user(session, user);
        refuse_sign_in(session);
    }
}

static void sign_in_user(struct session *session, struct json_value auth, struct json_value user_data) {
    struct json_value values[USER_MEMBERS] = {0};
    struct buffer storage = {0}, id = {0};
    struct slice text = json_decode_string(user_data, &storage);
    struct session_user *user = session->user;
    const char *why = NULL;

    if (check_user_auth(session, auth, text, &why))
        why = read_user_data(text, values, &id);
    if (why == NULL && user != NULL && !slice_equal((struct slice){user->id, user->id_length}, buffer_slice(&id)))
        why = "this connection is signed in as another user";
    if (why != NULL) {
        fail_signin(session, why);
    } else if (user == NULL) {
        begin_sign_in(session, buffer_slice(&id), values, user_data.token, text);
    } else if (user->waiting == NULL) {
        send_success(session, user_data.token);
    } else if (user->waiting->answers < SIGN_IN_ANSWERS_MAX) {
        user->waiting->answers++;
    }
    buffer_dispose(&storage);
    buffer_dispose(&id);
}

void session_signin(struct session *session, struct json_value data) {
    static const struct slice names[SIGNIN_MEMBERS] = {
        [AUTH] = SLICE_INIT("auth"), [USER_DATA] = SLICE_INIT("user_data")};
    struct json_value values[SIGNIN_MEMBERS];
    struct buffer storage = {0};

    if (!message_data(data, &storage, names, values, SIGNIN_MEMBERS))
        fail_signin(session, "pusher:signin needs `data`, an object");
    else if (values[AUTH].type != JSON_TYPE_STRING || values[USER_DATA].type != JSON_TYPE_STRING)
        fail_signin(session, "pusher:signin needs `auth` and `user_data`, both strings");
    else
        sign_in_user(session, values[AUTH], values[USER_DATA]);
    buffer_dispose(&storage);
}

void session_user_dispose(struct session *session) {
    struct session_user *user = session->user;

    if (user == NULL)
        return;
    session->user = NULL;
    for (uint32_t i = 0; i < user->watching_count; i++)
        channel_leave(session->server->channels, &user->watching[i], NULL);
    if (user->waiting != NULL)
        waiting_sign_in_destroy(user->waiting);
    else
        channel_leave(session->server->channels, &user->own, NULL);
    free_user(session, user);
}
