#include <stdlib.h>

#include "base/alloc.h"
#include "session/session_internal.h"

#define CLOSES_PER_TURN 1000

/* The session on a stream, or NULL if the stream speaks HTTP, or its session is closing or not established. */
static struct session *live_session(struct stream *stream) {
    struct websocket *websocket = websocket_of_stream(stream);
    struct session *session;

    if (websocket == NULL || websocket->closing || !stream_is_open(stream))
        return NULL;
    session = container_of(websocket, struct session, websocket);
    return session->slot != NULL ? session : NULL;
}

/* --- changes of apps --- */

/* Closes the sessions that may not go on, at most so many; true if there may be more. */
static bool close_changed(struct worker *worker, unsigned limit) {
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct session *session = live_session(container_of(link, struct stream, link));
        const struct app *app;

        if (session == NULL)
            continue;
        app = session_app(session);
        if (app != NULL && app->enabled)
            continue;
        if (limit-- == 0)
            return true;
        if (app == NULL)
            session_close(session, 4001, "the app was deleted");
        else
            session_close(session, 4003, "the app was disabled");
    }
    return false;
}

static void continue_closing(struct worker *worker, struct message *message, struct message **rest) {
    (void)rest;
    free(message);
    sessions_apply_app_changes(worker);
}

void sessions_apply_app_changes(struct worker *worker) {
    if (close_changed(worker, CLOSES_PER_TURN)) {
        struct message *message = alloc(sizeof *message);
        *message = (struct message){.handle = continue_closing};
        mailbox_post(&worker->mailbox, message); /* the next turn: what comes in between is not kept waiting */
    }
}

/* --- shutdown --- */

struct drain {
    struct timer timer;
    struct worker *worker;
    unsigned per_second;
    unsigned seconds_left;
};

static void drain_some(struct drain *drain) {
    struct worker *worker = drain->worker;
    unsigned left = drain->per_second;
    bool more = false;

    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct session *session = live_session(container_of(link, struct stream, link));
        if (session == NULL)
            continue;
        if (left == 0 && drain->seconds_left != 0) {
            more = true;
            break;
        }
        left -= left != 0 ? 1 : 0;
        session_close(session, 4200, "the server is shutting down");
    }
    if (more) {
        drain->seconds_left--;
        timer_set(&worker->timers, &drain->timer, worker->now_ms, 1000);
        return;
    }
    http_drain(worker);
    worker_stop(worker);
    free(drain);
}

static void drain_timer_fired(struct timer *timer) {
    drain_some(container_of(timer, struct drain, timer));
}

void sessions_drain(struct worker *worker, uint32_t grace_s) {
    struct drain *drain = alloc_zero(sizeof *drain);
    unsigned count = 0;

    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next)
        if (live_session(container_of(link, struct stream, link)) != NULL)
            count++;
    drain->timer.fire = drain_timer_fired;
    drain->worker = worker;
    drain->seconds_left = grace_s;
    drain->per_second = grace_s == 0 ? count : (count + grace_s - 1) / grace_s;
    drain_some(drain);
}
