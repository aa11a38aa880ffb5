/*
 * A thread that makes long lists of one app's channels or users: a worker would keep others waiting for them. A worker
 * answers short ones by itself.
 *
 * Requests wait in a queue, of which one app has a part. Lists of several apps take turns, and the thread rests as long
 * as it has worked, so it takes at most half of a CPU.
 */
#pragma once

#include "api/api_call.h"
#include "base/buffer.h"
#include "base/error.h"

struct list_thread;

struct list_request {
    struct slice text; /* what the list is about; copied */
    unsigned info;
    uint64_t count; /* about how many entries it has, at most */
    /* Appends the answer, on the thread; `slot` is NULL if the app has gone. */
    void (*append)(struct buffer *answer, struct app_slot *slot, const struct list_request *request);
    struct buffer others; /* what other nodes have answered; list_answer_later takes it over */
    bool incomplete;      /* not all have */
};

/* Starts the thread. `apps` outlives it. NULL with an error. */
struct list_thread *list_thread_start(struct app_manager *apps, struct error *error);
/* Ends and frees it, when the workers have ended and before their messages are settled; may be NULL. */
void list_thread_stop(struct list_thread *lists);

/* Lets the call wait for the list. Then it begins again, with the answer in call->listed. On the call's worker. */
void list_answer_later(struct list_thread *lists, struct api_call *call, const struct list_request *request);
