/*
 * An event of webhooks, on its way from the worker on which it happened to the webhook thread.
 *
 *   worker:  draft_begin -> [the channel's mutex] draft_post -> [released] draft_end
 *                                                     |
 *                                                     v
 *                                          outlet: mailbox of the webhook thread
 *
 * An event is made before the channel's mutex is taken, since making it allocates. It is posted under the mutex, if it
 * has happened, so that the webhook thread gets the events of a channel in their order. For an app without a webhook
 * that wants the event, nothing is made: that costs one load.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/app.h"
#include "base/list.h"
#include "base/slice.h"
#include "net/mailbox.h"

struct webhook_thread;

/* A message to the webhook thread. Embed it in memory that `handle` frees. */
struct webhook_message {
    struct message message; /* its own `handle` is not used */
    void (*handle)(struct webhook_thread *thread, struct webhook_message *message);
};

/* What an event says. Slices without data are left out. */
struct webhook_details {
    struct slice channel;
    struct slice user_id;   /* JSON string, with its quotes */
    struct slice event;     /* JSON string: the name of a client event */
    struct slice data;      /* JSON text: the data of a client event */
    struct slice socket_id; /* of the sender of a client event */
    bool graced;            /* its grace is over, on whichever node: it is sent at once */
};

struct webhook_event {
    struct webhook_message message;
    enum app_webhook_event kind;
    uint32_t count;                 /* of WEBHOOK_SUBSCRIPTION_COUNT */
    struct app *app;                /* a reference: the record in force when it happened */
    struct webhook_outlet *outlet;  /* that it was posted to */
    uint64_t time_ms;               /* when it happened, on the wall clock */
    struct webhook_details details; /* points into `texts` */
    size_t bytes;                   /* the memory of this structure with its texts */
    bool counted;                   /* in the account of memory */
    struct list link;               /* for the webhook thread, like those below */
    struct list app_link;
    struct grace_app *held_app;
    struct webhook_event *next;
    uint64_t due_ms, hash;
    char texts[];
};

/*
 * Where events are posted. What waits in the mailbox is bounded, since the webhook thread may be slower than all
 * workers together for a moment: an event over a bound is dropped and counted. The bounds in bytes are smaller if
 * memory.limit_mb is small (webhook_bytes_max). The smaller bounds for one app keep room
 * for the others: clients of an app that join and leave channels all the time lose events of that app only. An app
 * whose record changes meanwhile starts anew.
 */
struct webhook_outlet {
    struct webhook_thread *thread;
    void (*post)(struct webhook_thread *thread, struct webhook_message *message);
    void (*wake)(struct webhook_thread *thread);
    /* Handles an event on the webhook thread, which calls webhook_event_taken first. */
    void (*handle)(struct webhook_thread *thread, struct webhook_message *message);
    size_t max_events, max_bytes;
    size_t max_app_events, max_app_bytes;
    atomic_size_t events, bytes; /* that wait */
    atomic_uint_fast64_t dropped;
    atomic_bool used; /* an event was posted since the start, or left by an earlier process */
};

/* A bound in bytes, which is smaller if these eighths of the share of webhooks in the account of memory are less. The
 * mailbox has one, of which an app may fill an eighth; the grace has three, and the queues four. Any thread. */
size_t webhook_bytes_max(size_t bytes, unsigned eighths);

/* The event has left the mailbox, so it counts no more for the bounds. On the webhook thread. */
void webhook_event_taken(struct webhook_event *event);

/* Frees the event. Any thread. */
void webhook_event_free(struct webhook_event *event);

/* An event that may happen, while its maker is about to find out. {0}: none. */
struct webhook_draft {
    struct webhook_outlet *outlet;
    struct webhook_event *event; /* NULL: nobody wants it, or it was posted */
    bool posted;
};

/* Begins a draft with an event that somebody wants. `details` are copied. On a worker's thread, without a mutex. */
void webhook_draft_make(struct webhook_draft *draft, struct webhook_outlet *outlet, const struct app *app,
                        enum app_webhook_event kind, const struct webhook_details *details);

/* The same, if a webhook of the record takes the event. `outlet` NULL: no webhooks are sent. */
static inline void webhook_draft_begin(struct webhook_draft *draft, struct webhook_outlet *outlet,
                                       const struct app *app, enum app_webhook_event kind,
                                       const struct webhook_details *details) {
    if (outlet != NULL && app_wants_webhook(app, kind, details->channel))
        webhook_draft_make(draft, outlet, app, kind, details);
}

/* The two below for a draft that has an event. */
void webhook_draft_send(struct webhook_draft *draft, uint32_t count);
void webhook_draft_close(struct webhook_draft *draft);

/* Posts the event, if there is one: it has happened. `count` is that of a subscription_count. It allocates nothing and
 * takes no lock, so it may be called under a mutex. */
static inline void webhook_draft_post(struct webhook_draft *draft, uint32_t count) {
    if (draft->event != NULL)
        webhook_draft_send(draft, count);
}

/* Wakes the webhook thread if the event was posted, and else frees it. Without a mutex. */
static inline void webhook_draft_end(struct webhook_draft *draft) {
    if (draft->outlet != NULL)
        webhook_draft_close(draft);
}
