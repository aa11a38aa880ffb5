#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "app/origin.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "net/worker_loop.h"
#include "session/session_internal.h"

#define STEP_NS 4000000u     /* of 100,000 sessions that close in a second, a step closes 220 on each of two workers */
#define CHANGED_AT_ONCE 1000 /* sessions that may close at once, on all workers together */
#define CHANGED_SPREAD_NS 900000000u /* spread of larger numbers: the last session closes within a second */

/* The closing of a worker's sessions, spread over a time so that their clients do not all reconnect at once. */
struct closing {
    struct poll_target target;
    struct session_server *server;
    struct worker *worker;
    int timer_fd; /* -1: all sessions close at once */
    /* True: close all sessions. False: close sessions whose app is disabled or deleted, and judge those anew whose app
     * has changed in what it asks of them. */
    bool shutdown;
    void (*drained)(void *context); /* called after the last one; may be NULL */
    void *context;
    uint64_t began_ns, spread_ns;
    uint64_t total, closed; /* sessions; those that were judged and stay count as closed */
};

/* Returns the first session of an app's part, which must have one. */
static struct session *first_session(const struct app_part *part) {
    return container_of(part->sessions.next, struct session, link);
}

/* The record of a part's app, NULL if it was deleted. Another thread may replace it at any time: load it once for one
 * decision. */
static const struct app *app_of_part(const struct app_part *part) {
    return slot_app(first_session(part)->slot);
}

/* True if the sessions of an app must close. */
static bool has_to_close(const struct closing *closing, const struct app *app) {
    return closing->shutdown || app == NULL || !app->enabled;
}

static void close_for_reason(const struct closing *closing, struct session *session) {
    if (closing->shutdown)
        session_close_for_restart(session);
    else if (slot_app(session->slot) == NULL)
        session_close(session, 4001, "the app was deleted");
    else
        session_close(session, 4003, "the app was disabled");
}

static struct list *parts_of_worker(const struct closing *closing) {
    return &closing->server->parts[closing->worker->index];
}

static uint64_t count_to_close(const struct closing *closing) {
    struct list *parts = parts_of_worker(closing);
    uint64_t count = 0;

    for (struct list *link = parts->next; link != parts; link = link->next) {
        const struct app_part *part = container_of(link, struct app_part, link);
        count += has_to_close(closing, app_of_part(part)) ? part->session_count : part->to_review;
    }
    return count;
}

/* Notes what a changed record asks of open sessions. Whoever has to sign in from now on gets the full time. */
static void note_changed_record(const struct closing *closing, struct app_part *part, const struct app *app) {
    bool sign_in_begins = app->enable_user_authentication && !part->reviewed_sign_in;

    if (sign_in_begins)
        part->sign_in_from_ms = closing->worker->now_ms;
    if (sign_in_begins || part->reviewed_origins != app->origins_hash)
        part->to_review = part->session_count;
    part->reviewed_origins = app->origins_hash;
    part->reviewed_sign_in = app->enable_user_authentication;
}

static void note_changed_records(const struct closing *closing) {
    struct list *parts = parts_of_worker(closing);

    for (struct list *link = parts->next; link != parts; link = link->next) {
        struct app_part *part = container_of(link, struct app_part, link);
        const struct app *app = app_of_part(part);
        if (app != NULL)
            note_changed_record(closing, part, app);
    }
}

/* Closes a session that the changed record does not allow, or starts its time to sign in. */
static void review_session(struct session *session, const struct app *app) {
    if (app_allows_origin(app, origin_text(session->origin))) {
        session_schedule(session);
        return;
    }
    session_refused(session, REFUSED_ORIGIN);
    session_counted_error(session, CONNECTION_ERROR_ORIGIN_NOT_ALLOWED);
    session_close_for_origin(session);
}

/* Judges the sessions of a part that are still to be judged: takes each from the front of the list, and puts it to the
 * end if it stays. New sessions at the end were judged by the changed record. False if some are left. */
static bool review_sessions(struct closing *closing, struct app_part *part, const struct app *app, uint64_t due) {
    for (; part->to_review != 0 && !list_empty(&part->sessions); part->to_review--) {
        struct session *session = first_session(part);
        if (closing->closed >= due)
            return false;
        closing->closed++;
        list_remove(&session->link);
        list_append(&part->sessions, &session->link);
        review_session(session, app);
    }
    return true;
}

static void close_first_session(struct closing *closing, struct app_part *part) {
    close_for_reason(closing, first_session(part)); /* removes it from the list, and the part with its last session */
    closing->closed++;
}

/* Closes sessions of all apps in turn, so that each app's are spread over the whole time. False if some are left. */
static bool close_in_turn(struct closing *closing, uint64_t due) {
    struct list *parts = parts_of_worker(closing);

    while (!list_empty(parts)) {
        struct app_part *part = container_of(parts->next, struct app_part, link);
        if (closing->closed >= due)
            return false;
        close_first_session(closing, part);
        if (list_empty(&part->sessions))
            continue;
        list_remove(&part->link);
        list_append(parts, &part->link);
    }
    return true;
}

/* Closes sessions of apps that are disabled or gone, and those that may not stay, one app after the other. False if
 * some are left. */
static bool close_changed(struct closing *closing, uint64_t due) {
    struct list *parts = parts_of_worker(closing);
    struct list *next;

    for (struct list *link = parts->next; link != parts; link = next) {
        struct app_part *part = container_of(link, struct app_part, link);
        const struct app *app = app_of_part(part);
        next = link->next;
        if (!has_to_close(closing, app)) {
            if (!review_sessions(closing, part, app, due))
                return false;
            continue;
        }
        while (!list_empty(&part->sessions)) {
            if (closing->closed >= due)
                return false;
            close_first_session(closing, part);
        }
    }
    return true;
}

static void closing_destroy(struct closing *closing) {
    if (closing->timer_fd >= 0) {
        worker_unwatch(closing->worker, closing->timer_fd);
        worker_forget(closing->worker, &closing->target);
        close(closing->timer_fd);
    }
    if (closing->server->closing[closing->worker->index] == closing)
        closing->server->closing[closing->worker->index] = NULL;
    free(closing);
}

static void end_closing(struct closing *closing) {
    void (*drained)(void *context) = closing->drained;
    void *context = closing->context;

    closing_destroy(closing);
    if (drained != NULL)
        drained(context);
}

/* Closes the due share of the sessions, in proportion to the elapsed time. */
static void close_due(struct closing *closing) {
    uint64_t elapsed_ns = clock_monotonic_ns() - closing->began_ns, due = UINT64_MAX;

    if (elapsed_ns < closing->spread_ns)
        due = 1 + (uint64_t)((double)closing->total * (double)elapsed_ns / (double)closing->spread_ns);
    if (closing->shutdown ? close_in_turn(closing, due) : close_changed(closing, due))
        end_closing(closing);
}

static void on_closing_timer(struct poll_target *target, uint32_t events) {
    struct closing *closing = container_of(target, struct closing, target);
    uint64_t expirations;

    (void)events;
    (void)!read(closing->timer_fd, &expirations, sizeof expirations);
    close_due(closing);
}

/* Spreads the closing with a timerfd, because the worker's timers have a resolution of a second. Without a free
 * descriptor all sessions close at once. */
static void spread_closing(struct closing *closing, uint64_t over_ns) {
    const struct itimerspec every = {.it_interval.tv_nsec = STEP_NS, .it_value.tv_nsec = STEP_NS};

    closing->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (closing->timer_fd >= 0 && timerfd_settime(closing->timer_fd, 0, &every, NULL) == 0 &&
        worker_watch(closing->worker, closing->timer_fd, EPOLLIN, &closing->target))
        closing->spread_ns = over_ns;
}

static struct closing *closing_create(struct session_server *server, struct worker *worker, bool shutdown) {
    struct closing *closing = alloc_zero(sizeof *closing);

    closing->target.ready = on_closing_timer;
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
        return; /* all sessions close anyway */
    note_changed_records(closing);
    closing->total = closing->closed + count_to_close(closing);
    if (!under_way && closing->total > CHANGED_AT_ONCE / worker->all->count)
        spread_closing(closing, CHANGED_SPREAD_NS);
    close_due(closing);
}

void sessions_drain(struct session_server *server, struct worker *worker, uint64_t spread_ms,
                    void (*drained)(void *context), void *context) {
    struct closing *closing = server->closing[worker->index];

    if (closing != NULL) { /* finish the closing in progress at once */
        closing->spread_ns = 0;
        close_due(closing);
    }
    closing = closing_create(server, worker, true);
    closing->drained = drained;
    closing->context = context;
    closing->total = count_to_close(closing);
    if (spread_ms != 0 && closing->total != 0)
        spread_closing(closing, spread_ms * 1000000);
    close_due(closing);
}
