/*
 * What the clients of fuzz_world.c may and must receive.
 *
 * A place is a client's subscription to a channel, or its sign-in as a user, whose channel it then has. For each place
 * there is a queue of the events that the client is still to receive. An event enters the queues when its publish was
 * handled, and leaves them when the client has received it:
 *
 *   must   the client was subscribed before the publish and has not asked to leave: it gets the event once, in order
 *   may    client and publisher acted in the same turn, or the client leaves or is being closed
 *   not in the queue   a client that gets such an event anyway is a failure
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "world_server.h"

#define CHANNELS 7
#define USERS 4
#define PLACES (CHANNELS + USERS)
#define CLIENTS 8
#define EVENTS_MAX 120 /* of an input */

#define WORLD_MUST(condition, ...)                                                                                     \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            world_fail(__VA_ARGS__);                                                                                   \
    } while (0)

/* Prints what is wrong, and aborts. */
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The names of channels and then of users' channels. */
extern const char *const place_names[PLACES];

enum place_kind { KIND_PUBLIC, KIND_PRIVATE, KIND_PRESENCE, KIND_USER };
enum place_kind place_kind(unsigned place);
bool place_caches(unsigned place);
/* The index of the name; PLACES: unknown. */
unsigned place_of(struct slice name);

struct expected {
    uint16_t number; /* of the event */
    bool may;
    bool filtered; /* the filter of the client holds it back */
};

/* The filters of subscriptions, and how many there are. */
enum world_filter { TAKES_ALL, TAKES_ONE, TAKES_NOT_ONE, TAKES_ONE_OR_TWO, WORLD_FILTERS };
/* The tag `t` of an event; 0: it has no tags. */
#define WORLD_TAGS 4

enum place_state { PLACE_OUT, PLACE_ASKED, PLACE_IN };

struct place {
    enum place_state state;
    bool busy;    /* a message about it is not handled yet */
    bool leaving; /* one of them is pusher:unsubscribe */
    bool wrong;   /* the last signature was wrong */
    bool again;   /* asked although it is in: one more success, with a snapshot */
    bool cache_due;
    bool was_in;                            /* the last success was one of a client that was in */
    enum world_filter filter, asked_filter; /* in force, and of the last request */
    unsigned user;                          /* in a presence channel */
    unsigned view;                          /* the members that the client knows: a bit for each user */
    unsigned first, count;
    struct expected queue[EVENTS_MAX];
};

struct client {
    bool used;
    struct memory_socket *socket;
    unsigned worker, app;
    bool upgraded;      /* the answer to the handshake was received */
    char socket_id[48]; /* empty until the connection is established */
    bool doomed;        /* the server may close it */
    bool must_close;    /* the server has to close it */
    bool reading;       /* false: what the server sends stays in its socket */
    bool lagged;        /* was not reading, and may be closed as a slow reader */
    bool closed;        /* a close frame was received */
    int user;           /* signed in, or asked to; -1: no */
    unsigned pongs;     /* pings of WebSocket without an answer */
    struct place places[PLACES];
};

struct kept_event {
    unsigned number;      /* 0: none */
    uint64_t turn, at_ms; /* when it was published */
    bool unsure;          /* it may be gone */
    bool none_before;     /* there was none before that turn */
    unsigned in_turn[4];  /* the one before, and those of that turn, which a client may have got as well */
    unsigned in_turn_count;
};

struct world_model {
    struct world_app apps[WORLD_APPS];
    struct client clients[CLIENTS];
    struct kept_event kept[WORLD_APPS][CHANNELS];
    unsigned events; /* published so far */
    struct {
        unsigned app, place, tag;
    } event[EVENTS_MAX + 1];
    uint64_t turn;
};

extern struct world_model model;

/* Forgets everything of an earlier input. */
void model_begin(void);

bool model_app_works(unsigned app);
unsigned model_new_event(unsigned app, unsigned place, unsigned tag);

/* A client has asked for the filter of a subscription that it may have already. */
void model_ask_filter(struct place *place, enum world_filter filter);

/* An event was published in a turn of `worker`; `except` (may be NULL) does not get it. `may`: it is not certain. */
void model_publish(unsigned number, unsigned worker, const struct client *except, bool may);
/* The event is one of the API: a cache channel keeps it. */
void model_keep(unsigned number);

/* What a client received. */
void model_received_event(struct client *client, unsigned place, unsigned number);
void model_received_success(struct client *client, unsigned place, struct slice data);
void model_received_error(struct client *client, unsigned place);
void model_received_cache_miss(struct client *client, unsigned place);
void model_received_member(struct client *client, unsigned place, struct slice data, bool added);

/* A turn of the client's worker has ended, in which the server has handled all that the client has sent. */
void model_end_turn(struct client *client);

/* When nothing is under way any more: every event has arrived, and member lists are right. */
void model_check_client(const struct client *client);
unsigned model_count(unsigned app, unsigned place);
unsigned model_members(unsigned app, unsigned place); /* a bit for each user */
