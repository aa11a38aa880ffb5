/*
 * A subscription that waits until other nodes were heard (channel/remote.h): what is needed to go on where it stopped.
 * Until then it is in the session's set like any other, so that it is found, counts towards the limits, and ends with
 * pusher:unsubscribe and with the session; but it is not in the channel.
 *
 *   subscribe.c:  create -> channel_subscribe -> CHANNEL_WAITS -> keep ... `ready` of the waiter -> take -> join
 *                                            \-> else: destroy
 *
 * For the thread of the session's worker.
 */
#pragma once

#include "session/session_internal.h"

/* A client that asks again for a channel that it waits for gets an answer for each request, up to so many. */
#define WAITING_ANSWERS_MAX 8

struct waiting_subscription {
    struct subscription subscription; /* in the session's set; the first member */
    struct channel_waiter waiter;
    struct session *session;
    struct filter *filter; /* a reference, or NULL */
    unsigned answers;
    /* The request, and its texts, which are owned. */
    struct slice channel_token, name, user_id, user_info;
    struct json_value delta;
    char *texts, *delta_text;
    size_t text_bytes;
};

/* Creates one with the function that goes on; the session has nothing of it yet. */
struct waiting_subscription *waiting_subscription_create(struct session *session,
                                                         void (*ready)(struct channel_waiter *waiter));

/* Keeps the request, and adds it to the session's set. False if there is no room for it: it is destroyed then. The
 * slices of the request are copied; the reference to the filter is taken over if it is kept. */
bool waiting_subscription_keep(struct waiting_subscription *waiting, const struct waiting_subscription *request);

/* Replaces what a second request for the same channel changes: the filter, whose reference it takes over, and the wish
 * for deltas, if it has one. */
void waiting_subscription_repeat(struct waiting_subscription *waiting, struct filter *filter, struct json_value delta);

/* Takes it out of the session's set, if it is in it: the caller destroys it. */
void waiting_subscription_take(struct waiting_subscription *waiting);

/* Ends the wait and frees it. It must not be in the set. */
void waiting_subscription_destroy(struct waiting_subscription *waiting);

/* The waiting one of a subscription whose `waiting` is true. */
static inline struct waiting_subscription *waiting_subscription_of(struct subscription *subscription) {
    return container_of(subscription, struct waiting_subscription, subscription);
}
