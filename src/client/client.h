/*
 * A client of the Pusher protocol for the command line: one connection of one app. Blocking, on one thread.
 */
#pragma once

#include <stdbool.h>

#include "base/buffer.h"
#include "base/crypto.h"
#include "base/error.h"
#include "base/slice.h"
#include "client/server_address.h"

struct client;

/* Why a connection ended, or did not begin. */
struct client_end {
    enum {
        CLIENT_END_STOPPED,     /* `stop_fd` became readable */
        CLIENT_END_UNREACHABLE, /* no connection to a server that speaks the protocol */
        CLIENT_END_CLOSED,      /* the server closed it */
    } kind;
    unsigned code; /* the server's code, such as 4001; 0: none */
    struct error error;
};

/* Any event from the server. The slices are valid until the next call. */
struct client_event {
    struct slice text;    /* the message as received */
    struct slice name;    /* decoded; empty if it is missing */
    struct slice channel; /* decoded; empty if it is missing */
    struct slice data;    /* a string is decoded, another value is its JSON */
};

/*
 * Connects to the app with `key` and waits until the connection is established. `origin` is sent as a browser does;
 * NULL: none. `stop_fd` is readable when everything has to end. NULL with the reason. Close it with client_close.
 */
struct client *client_open(const struct server_address *address, const char *key, const char *origin, int stop_fd,
                           struct client_end *end);

/* Says goodbye and closes; `client` may be NULL. */
void client_close(struct client *client);

/*
 * Subscribes to a channel; the answer is an event. Signs if the channel's kind requires it, with `hmac` (NULL: there is
 * no secret, and the server refuses). `user_id` is that of a presence member.
 */
bool client_subscribe(struct client *client, const char *channel, const struct hmac_key *hmac, const char *user_id,
                      struct client_end *end);

/*
 * Waits for the next event. Answers pings, and sends one if the server is silent for as long as it asked for. False
 * with the reason when the connection is over.
 */
bool client_next(struct client *client, struct client_event *event, struct client_end *end);
