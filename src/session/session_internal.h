/*
 * What the files of session/ share.
 *
 *   session.c        handshake, lookup, establishment, activity, closing
 *   messages.c       the table of events that a client may send
 *   subscribe.c      pusher:subscribe and pusher:unsubscribe
 *   signin.c         pusher:signin, the user, the watchlist
 *   client_event.c   client- events
 *   answers.c        what the server says to one session
 *   subscriptions.c  the set of a session's subscriptions
 *   drain.c          shutdown, and changes of apps
 */
#pragma once

#include "base/crypto.h"
#include "base/json.h"
#include "session/session.h"

#define SUBSCRIPTIONS_MAX 10000
#define WATCHLIST_MAX 100
#define SOCKET_ID_TEXT 48

/* A session's subscriptions by channel: open addressing over pointers; one small array for the usual handful. */
struct subscription_set {
    struct subscription **slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t count;
};

struct subscription *subscriptions_find(const struct subscription_set *set, const struct channel *channel);
void subscriptions_add(struct subscription_set *set, struct subscription *subscription);
void subscriptions_remove(struct subscription_set *set, struct subscription *subscription);

/* A signed-in user. */
struct session_user {
    char *id; /* decoded */
    size_t id_length;
    char *info; /* exact JSON text of user_info, "{}" when absent */
    size_t info_length;
    struct subscription own; /* of the user's channel */
    struct subscription *watching;
    uint32_t watching_count;
};

/* The connection is waiting for the app store. */
struct session_lookup {
    struct app_lookup lookup;
    struct session *session;
};

struct session {
    struct websocket websocket; /* first: the handler's pointer is the session's */
    struct session_server *server;
    struct app_slot *slot; /* NULL until established, and again once it is closing */
    const struct app *app; /* what holds for the message that is being handled; good for this turn */
    struct socket_id id;
    struct list link; /* on the sessions of the app's part for this worker */
    struct subscription_set subscriptions;
    struct session_user *user; /* NULL: not signed in */
    struct session_lookup *lookup;
    uint64_t active_ms; /* when bytes last came */
    bool pinged;        /* pusher:ping was sent and nothing came since */
};

static inline struct worker *session_worker(const struct session *session) {
    return session->websocket.stream->worker;
}

static inline struct app_part *session_part(const struct session *session) {
    return slot_part(session->slot, session_worker(session));
}

/* --- messages.c --- */

void session_message(struct session *session, struct slice text);

/* The members `names` of a message's `data`, which may be an object or a string that holds one. False: no object. */
bool message_data(struct json_value data, struct buffer *storage, const struct slice *names, struct json_value *values,
                  size_t count);

/* The handlers of the table's rows. `data` is the message's data. */
void session_subscribe(struct session *session, struct json_value data);
void session_unsubscribe(struct session *session, struct json_value data);
void session_signin(struct session *session, struct json_value data);

/* A message whose event begins with `client-`. `event` and `channel` are tokens. */
void session_client_event(struct session *session, struct json_value event, struct json_value channel,
                          struct json_value data);

/* Leaves the user's channel and its watchlist, and frees the user. */
void session_user_dispose(struct session *session);

/* --- session.c --- */

/* Writes "123.456" and returns its length. */
size_t socket_id_format(const struct socket_id *id, char text[SOCKET_ID_TEXT]);

/* --- answers.c --- */

/* Sends one text message made of parts. */
void session_send(struct session *session, const struct slice *parts, size_t count);
/* Sends `pusher:error`; the connection stays. */
void session_error(struct session *session, unsigned code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sends `pusher:error` and closes with the same code and text. */
void session_close(struct session *session, unsigned code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sends `pusher:subscription_error`; `channel` is the JSON string that the client sent. */
void session_subscription_error(struct session *session, struct slice channel, const char *type, unsigned status,
                                const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Appends `{"event":"pusher:error","data":{"code":n,"message":"..."}}`. */
void error_message_append(struct buffer *out, unsigned code, struct slice text);

void session_refused(struct session *session, enum refusal reason);
void session_counted_error(struct session *session, enum connection_error type);

/*
 * Whether `auth` ("key:hex") is the app's signature of the parts one after another. If not, `*why` says what is wrong,
 * without saying what would be right.
 */
bool signature_valid(const struct app *app, struct slice auth, const struct slice *parts, size_t count,
                     const char **why);
