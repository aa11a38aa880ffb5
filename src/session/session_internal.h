/*
 * Types and functions that the files of session/ share. All functions are for the thread of the session's worker.
 *
 *   subscription_set.c  the subscriptions of a session
 *   session_list.c      the sessions of a worker, by app
 *   signature.c         verification of `auth`
 *   session_log.c       lines of the log at level debug
 *   replies.c           messages from the server to one session
 *   session_rates.c     limits of what a session may send in a second
 *   message_data.c      parsing the `data` of a client's message, and user ids in it
 *   delta_request.c     what a client asks for: deltas or whole messages
 *   filter_request.c    which events of a channel a client asks for
 *   subscribe.c         pusher:subscribe and pusher:unsubscribe
 *   waiting_subscription.c  subscriptions that wait until other nodes were heard
 *   signin.c            pusher:signin, users, watchlists
 *   waiting_sign_in.c   sign-ins that wait until other nodes were heard
 *   client_event.c      client- events
 *   messages.c          the table of events that a client may send
 *   lifecycle.c         activity, ping and pong, slow readers, closing
 *   handshake.c         the handshake, finding the app, admission
 *   origin_set.c        the Origin headers of a worker's sessions
 *   drain.c             closing sessions at shutdown and when apps change
 */
#pragma once

#include "base/alloc.h"
#include "base/crypto.h"
#include "base/json.h"
#include "channel/filter/filter_set.h"
#include "session/session.h"
#include "session/subscription_set.h"

/* So many subscriptions of a connection, to channels that are there, are never refused for want of memory: what they
 * take is little beside the connection itself. */
#define SUBSCRIPTIONS_ASSURED 3
#define WATCHLIST_MAX 100

/* The unit in which a session remembers when it was made: four bytes are enough for a system that is up for 13 years.
 * Times are rounded up. */
#define SESSION_TICK_MS UINT64_C(100)

/* A signed-in user. */
struct session_user {
    char *id; /* decoded; owned */
    size_t id_length;
    char *info; /* exact JSON text of user_info, "{}" if it is missing; owned */
    size_t info_length;
    struct subscription own;         /* subscription to the user's own channel */
    struct waiting_sign_in *waiting; /* not signed in yet: it waits; NULL: it is, and `own` is a subscription */
    struct subscription *watching;   /* watched users' channels; owned */
    uint32_t watching_count;
    uint32_t watching_capacity; /* of the array */
};

/* A pending app lookup; freed when it is done or the session closes. */
struct session_lookup {
    struct app_lookup lookup;
    struct session *session;
};

struct session {
    struct websocket websocket;
    struct session_server *server;
    /* NULL before the session is established and while it is closing. */
    struct app_slot *slot;
    /* The current record while a message is handled; valid in this turn only. */
    const struct app *app;
    struct socket_id id;
    union {
        struct list link;              /* established: in app_part.sessions */
        struct session_lookup *lookup; /* before: a pending lookup of the app, or NULL */
    };
    struct subscription_set subscriptions;
    struct session_user *user;   /* NULL: not signed in */
    char *address;               /* the client's, for the log; NULL: the socket tells it; owned */
    uint64_t active_ms;          /* time of the last received bytes, or of the pings */
    bool pinged;                 /* pings were sent, and nothing has arrived since */
    bool junk;                   /* the message in hand was refused, ignored, or is a ping or pong */
    uint16_t junk_count;         /* of such messages since junk_from_ms */
    uint32_t junk_from_ms;       /* low bits of the time */
    struct session_rates *rates; /* NULL: no message was counted yet; owned */
    struct origin *origin;       /* NULL: the handshake had no Origin header; a reference in the worker's set */
    uint32_t connected_ticks;    /* monotonic, of SESSION_TICK_MS */
    bool authorized;             /* signed in, or was in a private or presence channel, even if it left it again */
    uint8_t takes;               /* enum delta_takes: of subscriptions that do not decide for themselves */
    uint8_t barred;              /* bits 1 << TAKES_...: algorithms that the client's list leaves out */
};

/* The memory of a new connection in the account, without what its TLS, channels and messages take. */
static inline size_t session_bytes(void) {
    return alloc_footprint(sizeof(struct session)) + alloc_footprint(sizeof(struct stream));
}

/* The memory of a session's token buckets once it has some; in session_rates.c. */
size_t session_rates_footprint(void);

/* The memory of the session's token buckets. */
static inline size_t session_rates_bytes(const struct session *session) {
    return session->rates != NULL ? session_rates_footprint() : 0;
}

/* What the session holds for its app beside its channels, messages and window. */
static inline size_t session_held_bytes(const struct session *session) {
    return alloc_footprint(sizeof *session) + session_rates_bytes(session) +
           stream_held_bytes(session->websocket.stream);
}

/* The worker of a session. */
static inline struct worker *session_worker(const struct session *session) {
    return session->websocket.stream->worker;
}

/* The part of the session's app for the session's worker. The session must be established. */
static inline struct app_part *session_part(const struct session *session) {
    return slot_part(session->slot, session_worker(session));
}

/* --- session_list.c --- */

/* Add an established session, which was judged by this record, to the list of its app and worker, and remove it when it
 * closes. */
void session_list_add(struct session *session, const struct app *app);
void session_list_remove(struct session *session);

/* --- signature.c --- */

/*
 * True if `auth` ("key:hex") is the app's signature of the concatenated parts. If not, `*why` gets the reason, a static
 * text that does not contain the expected value.
 */
bool signature_valid(struct session *session, struct slice auth, const struct slice *parts, size_t count,
                     const char **why);

/* --- session_log.c --- */

/* Notes the client's address if a proxy tells it, or debug lines are written. Call it while the handshake's request is
 * there. */
void session_log_accept(struct session *session, struct http_connection *connection,
                        const struct http_request *request);

/* The client's address, see client_address; 0 if it has none. */
uint64_t session_client_address(const struct session *session);

/* Writes a debug line about the session: the client's address, and if the session is established, socket id and app. */
void session_log(const struct session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Logs the address of the refused client, once a minute. */
void session_log_refusal(const struct session *session, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- replies.c --- */

/* Sends a text message: the parts, concatenated. */
void session_send(struct session *session, const struct slice *parts, size_t count);
/* Sends `pusher:error` and keeps the connection open. */
void session_error(struct session *session, unsigned code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sends `pusher:error` and closes the connection with the same code and text. */
void session_close(struct session *session, unsigned code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Closes because the process shuts down: with 4200 if another one accepts the client at once, else with 4100, after
 * which clients wait a second. */
void session_close_for_restart(struct session *session);
/* Closes with 4009 because the app does not allow the session's origin. */
void session_close_for_origin(struct session *session);
/* Sends `pusher:subscription_error`; `channel` is the JSON string from the client's message. */
void session_subscription_error(struct session *session, struct slice channel, const char *type, unsigned status,
                                const char *format, ...) __attribute__((format(printf, 5, 6)));
/* Appends `{"event":"pusher:error","data":{"code":n,"message":"..."}}`. */
void error_message_append(struct buffer *out, unsigned code, struct slice text);

/* Count a refusal and a connection error in the app's metrics. */
void session_refused(struct session *session, enum refusal reason);
void session_counted_error(struct session *session, enum connection_error type);

/* --- session_rates.c --- */

/* True if the client may send one more event, by `max_client_events_per_second`; otherwise refuses it or closes. */
bool session_takes_client_event(struct session *session);

/* True if the client may send one more message of any kind, by `message_rate_limit` of the policy; otherwise refuses it
 * or closes. */
bool session_takes_message(struct session *session);

/* Counts a message that was refused, ignored, or is a ping or pong, and closes the connection after too many. */
void session_count_junk(struct session *session);

/* Counts a message that made the server visit all subscriptions of the session, as several of those. */
void session_count_walk(struct session *session);

/* Counts a ping or pong frame; false if a ping must not be answered. */
bool session_takes_control_frame(struct session *session, bool ping);

/* --- message_data.c --- */

/* Reads the members `names` of a message's `data`: a JSON object, or a string that contains one. False if it is
 * neither. The values point into `data` or `storage`. */
bool message_data(struct json_value data, struct buffer *storage, const struct slice *names, struct json_value *values,
                  size_t count);

/* Reads a user id, a string of 1 to 255 bytes or an integer, which is the same user as its decimal string. Appends it
 * to `id`; false if it is none. */
bool user_id_read(struct json_value value, struct buffer *id);

/* --- delta_request.c --- */

/*
 * Sets how a subscription takes events, when the client subscribes: by the member `delta` of its request, else by what
 * was asked for the whole connection. An older subscription (`is_new` false) without `delta` keeps what it has. True if
 * the client waits for a confirmation. Without room in the account of memory the subscription gets whole messages.
 */
bool session_subscription_deltas(struct session *session, struct subscription *subscription, struct json_value delta,
                                 bool is_new);

/* Sends the confirmation; `channel_token` as in session_subscription_error. */
void session_confirm_deltas(struct session *session, const struct subscription *subscription,
                            struct slice channel_token);

/* Handlers in the table of events. */
void session_enable_deltas(struct session *session, struct json_value data);
void session_delta_sync_error(struct session *session, struct json_value data);

/* --- filter_request.c --- */

/*
 * Reads the filter of a request to subscribe to a channel: the member `filter`, else `tags_filter`; each may be absent.
 * FILTER_READY:
 * `*filter` gets a reference, or NULL if there is none, or filtering is switched off. FILTER_REFUSED: the client was
 * told what is wrong with it. FILTER_NO_MEMORY: there is no room for it, which the caller tells the client.
 */
enum filter_result session_read_filter(struct session *session, struct slice channel, struct json_value given,
                                       struct json_value tags_filter, struct filter **filter);

/* Releases a filter that no subscription has taken over; NULL is ignored. */
void session_drop_filter(struct session *session, struct filter *filter);

/* --- subscribe.c, signin.c, client_event.c --- */

/* Handlers in the table of events. `data` is the message's `data`. */
void session_subscribe(struct session *session, struct json_value data);
void session_unsubscribe(struct session *session, struct json_value data);
void session_signin(struct session *session, struct json_value data);

/* Handles a message whose event begins with `client-`. `event` and `channel` are tokens. */
void session_client_event(struct session *session, struct json_value event, struct json_value channel,
                          struct json_value data);

/* Signs the user out: leaves the user's channel, stops watching and frees the user. Does nothing without a user. */
void session_user_dispose(struct session *session);

/* --- messages.c --- */

/* Handles a text message from the client. */
void session_message(struct session *session, struct slice text);

/* --- lifecycle.c --- */

extern const struct websocket_handler session_websocket_handler;

/* Sets the session's timer to what is due first: the ping, the pong, or the end of the time to sign in. Call it when
 * the session is established, and when its app begins to ask for a sign-in. */
void session_schedule(struct session *session);
