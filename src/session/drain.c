#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/workers.h"
#include "session/session_internal.h"

#define STEP_NS 20000000u
#define CHANGED_AT_ONCE 1000         /* sessions, on all workers together */
#define CHANGED_SPREAD_NS 900000000u /* of more of them: the last one, too, within a second */

/* Sessions that are being closed on a worker, spread over a time so that their clients do not all come back at once. */
struct closing {
    struct poll_target target;
    struct session_server *server;
    struct worker *worker;
    int timer_fd;  /* -1: all are closed at once */
    bool shutdown; /* every session, and then the worker stops; else those whose app is disabled or gone */
    uint64_t began_ns, spread_ns;
    uint64_t total, closed;
};

/* The session on a stream, or NULL if the stream speaks HTTP, or its session is closing or not established. */
static struct session *live_session(struct stream *stream) {
    struct websocket *websocket = websocket_of_stream(stream);
    struct session *session;

    if (websocket == NULL || websocket->closing || !stream_is_open(stream))
        return NULL;
    session = container_of(websocket, struct session, websocket);
    return session->slot != NULL ? session : NULL;
}

/* The session on a stream if it has to go. */
static struct session *doomed_session(const struct closing *closing, struct stream *stream) {
    struct session *session = live_session(stream);
    const struct app *app;

    if (session == NULL || closing->shutdown)
        return session;
    app = slot_app(session->slot);
    return app == NULL || !app->enabled ? session : NULL;
}

static void close_doomed(const struct closing *closing, struct session *session) {
    if (closing->shutdown)
        session_close(session, 4200, "the server is shutting down");
    else if (slot_app(session->slot) == NULL)
        session_close(session, 4001, "the app was deleted");
    else
        session_close(session, 4003, "the app was disabled");
}

static uint64_t count_doomed(const struct closing *closing) {
    uint64_t count = 0;

    for (struct list *link = closing->worker->streams.next; link != &closing->worker->streams; link = link->next)
        count += doomed_session(closing, container_of(link, struct stream, link)) != NULL;
    return count;
}

static void forget(struct closing *closing) {
    if (closing->timer_fd >= 0) {
        worker_unwatch(closing->worker, closing->timer_fd);
        close(closing->timer_fd);
    }
    if (closing->server->closing[closing->worker->index] == closing)
        closing->server->closing[closing->worker->index] = NULL;
    free(closing);
}

static void end(struct closing *closing) {
    struct worker *worker = closing->worker;
    bool shutdown = closing->shutdown;

    forget(closing);
    if (shutdown) {
        http_drain(worker, true);
        worker_stop(worker);
    }
}

/* Closes what is due by now: the same part of the sessions as of the time. */
static void step(struct closing *closing) {
    uint64_t elapsed_ns = clock_monotonic_ns() - closing->began_ns, due = UINT64_MAX;

    if (elapsed_ns < closing->spread_ns)
        due = 1 + (uint64_t)((double)closing->total * (double)elapsed_ns / (double)closing->spread_ns);
    for (struct list *link = closing->worker->streams.next; link != &closing->worker->streams; link = link->next) {
        struct session *session = doomed_session(closing, container_of(link, struct stream, link));
        if (session == NULL)
            continue;
        if (closing->closed >= due)
            return;
        close_doomed(closing, session);
        closing->closed++;
    }
    end(closing);
}

static void timer_ready(struct poll_target *target, uint32_t events) {
    struct closing *closing = container_of(target, struct closing, target);
    uint64_t expirations;

    (void)events;
    (void)!read(closing->timer_fd, &expirations, sizeof expirations);
    step(closing);
}

/* The worker's own timers go by the second. Without a file to be had for one, all are closed at once. */
static void spread(struct closing *closing, uint64_t over_ns) {
    const struct itimerspec every = {.it_interval.tv_nsec = STEP_NS, .it_value.tv_nsec = STEP_NS};

    closing->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (closing->timer_fd >= 0 && timerfd_settime(closing->timer_fd, 0, &every, NULL) == 0 &&
        worker_watch(closing->worker, closing->timer_fd, EPOLLIN, &closing->target))
        closing->spread_ns = over_ns;
}

static struct closing *closing_create(struct session_server *server, struct worker *worker, bool shutdown) {
    struct closing *closing = alloc_zero(sizeof *closing);

    closing->target.ready = timer_ready;
    closing->server = server;
    closing->worker = worker;
    closing->timer_fd = -1;
    closing->shutdown = shutdown;
    closing->began_ns = clock_monotonic_ns();
    server->closing[worker->index] = closing;
    return closing;
}

void sessions_apply_app_changes(struct session_server *server, struct worker *worker) {
    struct closing *closing = server->closing[worker->index];
    bool under_way = closing != NULL;

    if (!under_way)
        closing = closing_create(server, worker, false);
    else if (closing->shutdown)
        return; /* nobody stays */
    closing->total = closing->closed + count_doomed(closing);
    if (!under_way && closing->total > CHANGED_AT_ONCE / worker->all->count)
        spread(closing, CHANGED_SPREAD_NS);
    step(closing);
}

void sessions_drain(struct session_server *server, struct worker *worker, uint32_t grace_s) {
    struct closing *closing = server->closing[worker->index];

    if (closing != NULL) { /* whoever waits for another word has it now */
        closing->spread_ns = 0;
        step(closing);
    }
    closing = closing_create(server, worker, true);
    closing->total = count_doomed(closing);
    http_drain(worker, false);
    if (grace_s != 0 && closing->total != 0)
        spread(closing, grace_s * UINT64_C(1000000000));
    step(closing);
}
