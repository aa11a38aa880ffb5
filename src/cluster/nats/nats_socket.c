#include "cluster/nats/nats_socket.h"

#include <fcntl.h>
#include <unistd.h>

#include "cluster/nats/nats_arrivals.h"
#include "cluster/nats/nats_connect.h"
#include "cluster/nats/nats_notice.h"
#include "cluster/nats/nats_output.h"

static _Thread_local bool is_io_thread;

static void unwatch_link(struct nats_link *link) {
    if (link->watched)
        loop_unwatch(link->threads->io, link->fd, &link->target);
    link->watched = false;
}

/* After each call of the library that may have found the connection to be at its end. */
static bool link_has_ended(struct nats_link *link) {
    const char *text = NULL;
    struct nats_notice *notice;

    if (!atomic_load(&link->ended))
        return false;
    unwatch_link(link);
    if (!link->told) {
        link->told = true;
        notice = nats_notice_create(link->threads, NATS_NOTICE_LOST);
        notice->id = link->id;
        natsConnection_GetLastError(link->connection, &text);
        nats_explain(link->threads->settings, link->server, text != NULL ? text : "closed", &notice->error);
        nats_notice_post(notice);
    }
    return true;
}

/* An end or an error of the connection is told by the loop in any case. */
static void rewatch_link(struct nats_link *link) {
    uint32_t events =
        (atomic_load(&link->wants_write) ? EPOLLOUT : 0) | (atomic_load(&link->threads->reading_stopped) ? 0 : EPOLLIN);

    if (events != link->events)
        loop_rewatch(link->threads->io, link->fd, events, &link->target);
    link->events = events;
}

static void write_link(struct nats_link *link) {
    if (!link->watched || link_has_ended(link))
        return;
    if (atomic_load(&link->wants_write))
        natsConnection_ProcessWriteEvent(link->connection);
    if (link_has_ended(link))
        return;
    if (!atomic_load(&link->wants_write))
        nats_output_written(link);
    rewatch_link(link);
}

static void on_nats_ready(struct loop_target *target, uint32_t events) {
    struct nats_link *link = container_of(target, struct nats_link, target);
    struct nats_threads *threads = link->threads;

    if (events & EPOLLOUT)
        write_link(link);
    if (!link->watched)
        return;
    if (events & (EPOLLERR | EPOLLHUP) || !atomic_load(&threads->reading_stopped))
        natsConnection_ProcessReadEvent(link->connection);
    if (!link_has_ended(link) && nats_arrivals_are_full(threads))
        rewatch_link(link);
}

static void write_open_link(void *context) {
    struct nats_threads *threads = context;
    struct nats_link *link = threads->open;

    if (link != NULL && atomic_load(&link->wants_write) && !(link->events & EPOLLOUT))
        write_link(link);
}

static void handle_nats_resume(struct loop *loop, struct loop_message *message) {
    struct nats_threads *threads = container_of(message, struct nats_threads, resume);

    (void)loop;
    atomic_store(&threads->resume_posted, false);
    atomic_store(&threads->reading_stopped, false);
    if (threads->open != NULL && threads->open->watched)
        rewatch_link(threads->open);
}

static void handle_link_wake(struct loop *loop, struct loop_message *message) {
    struct nats_link *link = container_of(message, struct nats_link, wake);

    (void)loop;
    atomic_store(&link->wake_posted, false); /* the end of the turn writes */
}

void nats_socket_init_threads(struct nats_threads *threads) {
    threads->resume.handle = handle_nats_resume;
    loop_set_end_of_turn(threads->io, write_open_link, threads);
}

void nats_socket_init(struct nats_link *link) {
    link->target.ready = on_nats_ready;
    link->wake.handle = handle_link_wake;
    list_init(&link->unsent);
}

void nats_socket_open(struct nats_link *link) {
    is_io_thread = true;
    link->threads->open = link;
    if (atomic_load(&link->ended))
        return;
    link->events = EPOLLIN;
    link->watched = loop_watch(link->threads->io, link->fd, EPOLLIN, &link->target);
    atomic_store(&link->threads->reading_stopped, false);
}

void nats_socket_close(struct nats_link *link) {
    unwatch_link(link);
    link->threads->open = NULL;
    nats_output_drop(link);
}

/* --- the library's calls to its event loop --- */

static natsStatus attach_link(void **data, void *loop, natsConnection *connection, natsSock fd) {
    struct nats_link *link = loop;

    (void)connection;
    *data = link;
    link->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return link->fd >= 0 ? NATS_OK : NATS_SYS_ERROR;
}

static natsStatus read_wanted(void *data, bool add) {
    struct nats_link *link = data;

    if (!add)
        atomic_store(&link->ended, true);
    return NATS_OK;
}

static natsStatus write_wanted(void *data, bool add) {
    struct nats_link *link = data;

    atomic_store(&link->wants_write, add);
    if (add && !is_io_thread && !atomic_exchange(&link->wake_posted, true)) {
        loop_post(link->threads->io, &link->wake);
        loop_wake(link->threads->io);
    }
    return NATS_OK;
}

static natsStatus detach_link(void *data) {
    (void)data;
    return NATS_OK;
}

natsStatus nats_socket_set_options(struct nats_link *link, natsOptions *options) {
    return natsOptions_SetEventLoop(options, link, attach_link, read_wanted, write_wanted, detach_link);
}
