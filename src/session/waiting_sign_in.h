/*
 * A sign-in that waits until other nodes were heard about the user, and about the users on the watchlist: then it is
 * known who is online. It goes on in one step when the last of them was heard.
 *
 * For the thread of the session's worker.
 */
#pragma once

#include "session/session_internal.h"

/* A client that signs in again meanwhile gets an answer for each request, up to so many. */
#define SIGN_IN_ANSWERS_MAX 8

struct waiting_sign_in;

struct waited_user {
    struct channel_waiter waiter;
    struct waiting_sign_in *sign_in;
};

struct waiting_sign_in {
    struct session *session;
    struct app_slot *slot; /* the session may close before this is destroyed */
    void (*ready)(struct waiting_sign_in *sign_in);
    unsigned answers;
    struct slice token;     /* `user_data` as the client sent it; owned */
    struct slice user_data; /* decoded; owned */
    uint32_t capacity, count, left;
    struct waited_user users[];
};

/* Begins a sign-in with room for `capacity` users; NULL if there is no room in the account of memory. The texts are
 * copied. `ready` is called when all users were heard, and may destroy it; not from within waiting_sign_in_add. */
struct waiting_sign_in *waiting_sign_in_create(struct session *session, struct slice token, struct slice user_data,
                                               uint32_t capacity, void (*ready)(struct waiting_sign_in *sign_in));

/* Waits for a user, if other nodes were not heard yet. False if there is no room for the user's channel. */
bool waiting_sign_in_add(struct waiting_sign_in *sign_in, struct slice user_id);

/* Ends all waits and frees it. */
void waiting_sign_in_destroy(struct waiting_sign_in *sign_in);
