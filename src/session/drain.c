#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
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
        app = slot_app(session->slot);
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

#define DRAIN_STEP_NS 20000000u

struct drain {
    struct poll_target target;
    struct worker *worker;
    int timer_fd;
    uint64_t began_ns, grace_ns;
    uint64_t total, closed;
};

static void drain_end(struct drain *drain) {
    if (drain->timer_fd >= 0) {
        worker_unwatch(drain->worker, drain->timer_fd);
        close(drain->timer_fd);
    }
    http_drain(drain->worker, true);
    worker_stop(drain->worker);
    free(drain);
}

/* Closes what is due by now: the same part of the sessions as of the time. */
static void drain_step(struct drain *drain) {
    struct worker *worker = drain->worker;
    uint64_t elapsed_ns = clock_monotonic_ns() - drain->began_ns, due = UINT64_MAX;

    if (elapsed_ns < drain->grace_ns)
        due = 1 + (uint64_t)((double)drain->total * (double)elapsed_ns / (double)drain->grace_ns);
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next) {
        struct session *session = live_session(container_of(link, struct stream, link));
        if (session == NULL)
            continue;
        if (drain->closed >= due)
            return;
        session_close(session, 4200, "the server is shutting down");
        drain->closed++;
    }
    drain_end(drain);
}

static void drain_ready(struct poll_target *target, uint32_t events) {
    struct drain *drain = container_of(target, struct drain, target);
    uint64_t expirations;

    (void)events;
    (void)!read(drain->timer_fd, &expirations, sizeof expirations);
    drain_step(drain);
}

/* The worker's own timers go by the second. False if there is no file to be had for one. */
static bool drain_watch_clock(struct drain *drain) {
    const struct itimerspec every = {.it_interval.tv_nsec = DRAIN_STEP_NS, .it_value.tv_nsec = DRAIN_STEP_NS};

    drain->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return drain->timer_fd >= 0 && timerfd_settime(drain->timer_fd, 0, &every, NULL) == 0 &&
           worker_watch(drain->worker, drain->timer_fd, EPOLLIN, &drain->target);
}

void sessions_drain(struct worker *worker, uint32_t grace_s) {
    struct drain *drain = alloc_zero(sizeof *drain);

    drain->target.ready = drain_ready;
    drain->worker = worker;
    drain->timer_fd = -1;
    drain->began_ns = clock_monotonic_ns();
    for (struct list *link = worker->streams.next; link != &worker->streams; link = link->next)
        if (live_session(container_of(link, struct stream, link)) != NULL)
            drain->total++;
    http_drain(worker, false);
    if (grace_s != 0 && drain->total != 0 && drain_watch_clock(drain))
        drain->grace_ns = grace_s * UINT64_C(1000000000);
    drain_step(drain);
}
