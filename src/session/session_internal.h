/*
 * What the files of session/ share.
 *
 *   subscription_set.c  the subscriptions of a session
 *   session_list.c      the sessions of a worker, by app
 *   signature.c         checking `auth`
 *   replies.c           messages from the server to one session
 *   message_data.c      the `data` of a client's message
 *   subscribe.c         pusher:subscribe and pusher:unsubscribe
 *   signin.c            pusher:signin, the user, the watchlist
 *   client_event.c      client- events
 *   messages.c          the table of events that a client may send
 *   lifecycle.c         activity, ping and pong, slow readers, closing
 *   handshake.c         the handshake, finding the app, admission
 *   drain.c             closing sessions at shutdown and when apps change
 */
#pragma once

#include "base/crypto.h"
#include "base/json.h"
#include "session/session.h"
#include "session/subscription_set.h"

#define SUBSCRIPTIONS_MAX 10000
#define WATCHLIST_MAX 100

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

/* A lookup that the session waits for. */
struct session_lookup {
    struct app_lookup lookup;
    struct session *session;
};

struct session {
    struct websocket websocket; /* first: the handler's pointer is the session's */
    struct session_server *server;
    struct app_slot *slot; /* NULL until established, and again once it is closing */
    const struct app *app; /* the record in force while a message is handled; valid in this turn */
    struct socket_id id;
    struct list link; /* in the sessions of the app's part for this worker */
    struct subscription_set subscriptions;
    struct session_user *user; /* NULL: not signed in */
    struct session_lookup *lookup;
    uint64_t active_ms; /* when bytes last arrived */
    bool pinged;        /* pusher:ping was sent, and nothing arrived since */
};

static inline struct worker *session_worker(const struct session *session) {
    return session->websocket.stream->worker;
}

static inline struct app_part *session_part(const struct session *session) {
    return slot_part(session->slot, session_worker(session));
}

/* --- session_list.c --- */

/* Adds an established session to the list of its app and worker, and removes it when it closes. */
void session_list_add(struct session *session);
void session_list_remove(struct session *session);

/* --- signature.c --- */

/*
 * Whether `auth` ("key:hex") is the app's signature of the concatenated parts. If not, `*why` says what is wrong
 * without telling the right value.
 */
bool signature_valid(const struct app *app, struct slice auth, const struct slice *parts, size_t count,
                     const char **why);

/* --- replies.c --- */

/* Sends a text message: the parts, concatenated. */
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

/* Counts a refusal, and an error of the connection, in the app's metrics. */
void session_refused(struct session *session, enum refusal reason);
void session_counted_error(struct session *session, enum connection_error type);

/* --- message_data.c --- */

/* Reads the members `names` of a message's `data`, which is an object or a string that holds one. False: it is none. */
bool message_data(struct json_value data, struct buffer *storage, const struct slice *names, struct json_value *values,
                  size_t count);

/* --- subscribe.c, signin.c, client_event.c --- */

/* Handlers of the table of events. `data` is the message's data. */
void session_subscribe(struct session *session, struct json_value data);
void session_unsubscribe(struct session *session, struct json_value data);
void session_signin(struct session *session, struct json_value data);

/* A message whose event begins with `client-`. `event` and `channel` are tokens. */
void session_client_event(struct session *session, struct json_value event, struct json_value channel,
                          struct json_value data);

/* Signs the user out: leaves the user's channel and the watchlist, and frees the user. */
void session_user_dispose(struct session *session);

/* --- messages.c --- */

/* Handles a text message from the client. */
void session_message(struct session *session, struct slice text);

/* --- lifecycle.c --- */

extern const struct websocket_handler session_websocket_handler;

/* How long a client may be silent before it is pinged. */
uint64_t session_activity_limit_ms(const struct session *session);
