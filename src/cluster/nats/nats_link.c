#include "cluster/nats/nats_link.h"

#include <errno.h>
#include <fcntl.h>
#include <nats/nats.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "base/log.h"
#include "cluster/nats/nats_connect.h"

/* The library's buffer for reading, and the size from which it asks for a write. */
#define NATS_IO_BYTES 65536

/* What is handed to the library before the socket has taken what was handed over earlier: the library moves its whole
 * buffer after each partial write. */
#define NATS_HANDED_MAX_BYTES (512 * 1024)

/* Reading stops while messages of this size wait for the cluster's thread. The server then keeps them, and when it has
 * kept too many it ends the connection. */
#define NATS_UNREAD_MAX_BYTES (16 * 1024 * 1024)

/* Messages that are handed on in one turn of the cluster's thread. */
#define NATS_MESSAGES_PER_TURN 128

/* How long the thread that waits does so for the answer to a flush. The bus gives up earlier. */
#define NATS_FLUSH_TIMEOUT_MS 15000

struct nats_threads {
    struct loop *cluster, *io, *waiting;
    const struct nats_settings *settings;
    struct nats_callbacks callbacks;
    int cancel_fd;
    atomic_size_t unsent_bytes, unread_bytes;
    atomic_bool reading_stopped;
    atomic_uint references; /* of the bus, and of each notice on its way */
    atomic_uint_fast64_t links;
    bool ended; /* written when the cluster's thread has ended */

    /* Messages that have arrived, under the mutex of the receivers, and those that this thread has taken of them. */
    struct nats_message *arrived, **arrived_end;
    struct nats_message *taken;
    struct loop_message take;
    bool take_posted; /* under the mutex */

    struct nats_link *open;                /* I/O thread */
    _Atomic(struct nats_link *) delivered; /* connected; the notice is on its way */
};

struct nats_link {
    struct nats_threads *threads;
    uint64_t id;
    struct list place; /* in the list of links that get messages */
    natsOptions *options;
    natsConnection *connection;
    struct nats_info info;
    char server[256];
    int fd; /* a duplicate of the library's, which closes its own at any time */

    /* I/O thread */
    struct loop_target target;
    bool watched;
    uint32_t events; /* that are watched, EPOLL* bits */
    struct list unsent;
    size_t handed_bytes;

    /* Set by the library on the thread that calls it. */
    atomic_bool wants_write, ended;
    atomic_bool wake_posted;
    struct loop_message wake;
    bool told; /* that it has ended */
};

static _Thread_local bool is_io_thread;

/*
 * The links that get messages, of all buses of the process. The library's delivery thread holds a number of the link
 * only: a callback may run after the link is gone.
 */
static pthread_mutex_t receivers_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list receivers = {&receivers, &receivers};
static atomic_uint_fast64_t next_link = 1;

/* --- notices to the cluster's thread --- */

enum notice_kind { NOTICE_CONNECTED, NOTICE_LOST, NOTICE_FLUSHED, NOTICE_CLOSED, NOTICE_WARNING };

struct nats_notice {
    struct loop_message message;
    struct nats_threads *threads;
    enum notice_kind kind;
    struct nats_link *link;
    uint64_t id, number;
    struct error error;
};

static void unref_threads(struct nats_threads *threads) {
    if (atomic_fetch_sub(&threads->references, 1) == 1) {
        nats_threads_drop_messages(threads);
        close(threads->cancel_fd);
        free(threads);
    }
}

static void handle_nats_notice(struct loop *loop, struct loop_message *message) {
    struct nats_notice *notice = container_of(message, struct nats_notice, message);
    struct nats_threads *threads = notice->threads;
    const struct nats_callbacks *callbacks = &threads->callbacks;

    (void)loop;
    if (!threads->ended)
        switch (notice->kind) {
        case NOTICE_CONNECTED:
            atomic_store(&threads->delivered, NULL);
            callbacks->connected(callbacks->context, notice->link, &notice->error);
            break;
        case NOTICE_LOST:
            callbacks->lost(callbacks->context, notice->id, notice->error.text);
            break;
        case NOTICE_FLUSHED:
            callbacks->flushed(callbacks->context, notice->id, notice->number);
            break;
        case NOTICE_CLOSED:
            callbacks->closed(callbacks->context);
            break;
        case NOTICE_WARNING:
            log_warning("cluster", "%s", notice->error.text);
            break;
        }
    free(notice);
    unref_threads(threads);
}

static struct nats_notice *make_notice(struct nats_threads *threads, enum notice_kind kind) {
    struct nats_notice *notice = alloc_zero(sizeof *notice);

    notice->message.handle = handle_nats_notice;
    notice->threads = threads;
    notice->kind = kind;
    atomic_fetch_add(&threads->references, 1);
    return notice;
}

static void post_notice(struct nats_notice *notice) {
    struct loop *cluster = notice->threads->cluster;

    loop_post(cluster, &notice->message);
    loop_wake(cluster);
}

/* --- messages --- */

struct nats_message {
    struct nats_message *next;
    struct bus_message message;
    natsMsg *msg;
    size_t bytes;
};

static void release_nats_message(struct bus_message *message) {
    struct nats_message *held = container_of(message, struct nats_message, message);

    natsMsg_Destroy(held->msg);
    free(held);
}

static void resume_reading(struct nats_threads *threads);

static void hand_on_messages(struct nats_threads *threads, const struct loop *loop) {
    unsigned most = NATS_MESSAGES_PER_TURN;
    size_t bytes = 0;
    bool time = true;

    while (threads->taken != NULL && most-- > 0 && time) {
        struct nats_message *first = threads->taken;
        threads->taken = first->next;
        bytes += first->bytes;
        if (threads->ended)
            release_nats_message(&first->message);
        else
            threads->callbacks.message(threads->callbacks.context, &first->message);
        time = loop_has_time(loop);
    }
    if (atomic_fetch_sub(&threads->unread_bytes, bytes) - bytes < NATS_UNREAD_MAX_BYTES / 2 &&
        atomic_load(&threads->reading_stopped) && !threads->ended)
        resume_reading(threads);
}

/* Takes what has arrived, a share in each turn. */
static void take_nats_messages(struct loop *loop, struct loop_message *message) {
    struct nats_threads *threads = container_of(message, struct nats_threads, take);
    bool more;

    if (threads->taken == NULL) {
        pthread_mutex_lock(&receivers_mutex);
        threads->taken = threads->arrived;
        threads->arrived = NULL;
        threads->arrived_end = &threads->arrived;
        pthread_mutex_unlock(&receivers_mutex);
    }
    hand_on_messages(threads, loop);
    pthread_mutex_lock(&receivers_mutex);
    more = threads->taken != NULL || threads->arrived != NULL;
    threads->take_posted = more && !threads->ended;
    pthread_mutex_unlock(&receivers_mutex);
    if (more && !threads->ended)
        loop_post(loop, message);
    else
        unref_threads(threads);
}

/* No link is left that could get more. */
void nats_threads_drop_messages(struct nats_threads *threads) {
    size_t bytes = 0;

    pthread_mutex_lock(&receivers_mutex);
    *threads->arrived_end = threads->taken;
    threads->taken = threads->arrived;
    threads->arrived = NULL;
    threads->arrived_end = &threads->arrived;
    pthread_mutex_unlock(&receivers_mutex);
    while (threads->taken != NULL) {
        struct nats_message *first = threads->taken;
        threads->taken = first->next;
        bytes += first->bytes;
        release_nats_message(&first->message);
    }
    atomic_fetch_sub(&threads->unread_bytes, bytes);
}

static struct nats_link *find_receiver(uint64_t id) {
    for (struct list *at = receivers.next; at != &receivers; at = at->next) {
        struct nats_link *link = container_of(at, struct nats_link, place);
        if (link->id == id)
            return link;
    }
    return NULL;
}

/* On the library's delivery thread. */
static void on_nats_message(natsConnection *connection, natsSubscription *subscription, natsMsg *msg, void *closure) {
    struct nats_message *held;
    struct nats_threads *threads;
    const struct nats_link *link;

    (void)connection;
    (void)subscription;
    pthread_mutex_lock(&receivers_mutex);
    link = find_receiver((uintptr_t)closure);
    if (link != NULL) {
        threads = link->threads;
        held = alloc_zero(sizeof *held);
        held->msg = msg;
        held->message.subject = slice_of(natsMsg_GetSubject(msg));
        held->message.payload = (struct slice){natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg)};
        held->message.release = release_nats_message;
        held->bytes = sizeof *held + held->message.subject.length + held->message.payload.length;
        atomic_fetch_add(&threads->unread_bytes, held->bytes);
        *threads->arrived_end = held;
        threads->arrived_end = &held->next;
        if (!threads->take_posted) {
            threads->take_posted = true;
            atomic_fetch_add(&threads->references, 1);
            loop_post(threads->cluster, &threads->take);
            loop_wake(threads->cluster);
        }
    }
    pthread_mutex_unlock(&receivers_mutex);
    if (link == NULL)
        natsMsg_Destroy(msg);
}

/* On the library's thread for callbacks: what the server forbids to this user. */
static void on_nats_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                          void *closure) {
    const char *text = NULL;
    const struct nats_link *link;

    (void)subscription;
    if (status != NATS_NOT_PERMITTED)
        return;
    natsConnection_GetLastError(connection, &text);
    pthread_mutex_lock(&receivers_mutex);
    link = find_receiver((uintptr_t)closure);
    if (link != NULL) {
        struct nats_notice *notice = make_notice(link->threads, NOTICE_WARNING);
        error_set(&notice->error, "NATS at %s: %s: allow it for the user of adapter.nats", link->server,
                  text != NULL ? text : "a subject is not permitted");
        post_notice(notice);
    }
    pthread_mutex_unlock(&receivers_mutex);
}

/* --- the socket, on the I/O thread --- */

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
        notice = make_notice(link->threads, NOTICE_LOST);
        notice->id = link->id;
        natsConnection_GetLastError(link->connection, &text);
        nats_explain(link->threads->settings, link->server, text != NULL ? text : "closed", &notice->error);
        post_notice(notice);
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

static void send_unsent(struct nats_link *link);

static void write_link(struct nats_link *link) {
    if (!link->watched || link_has_ended(link))
        return;
    if (atomic_load(&link->wants_write))
        natsConnection_ProcessWriteEvent(link->connection);
    if (link_has_ended(link))
        return;
    if (!atomic_load(&link->wants_write)) {
        link->handed_bytes = 0;
        if (!list_empty(&link->unsent))
            send_unsent(link);
    }
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
    if (link_has_ended(link))
        return;
    if (atomic_load(&threads->unread_bytes) > NATS_UNREAD_MAX_BYTES) {
        atomic_store(&threads->reading_stopped, true);
        /* They may all have been taken meanwhile. */
        if (atomic_load(&threads->unread_bytes) <= NATS_UNREAD_MAX_BYTES / 2)
            atomic_store(&threads->reading_stopped, false);
        rewatch_link(link);
    }
}

static void write_open_link(void *context) {
    struct nats_threads *threads = context;
    struct nats_link *link = threads->open;

    if (link != NULL && atomic_load(&link->wants_write) && !(link->events & EPOLLOUT))
        write_link(link);
}

static void handle_link_wake(struct loop *loop, struct loop_message *message) {
    struct nats_link *link = container_of(message, struct nats_link, wake);

    (void)loop;
    atomic_store(&link->wake_posted, false); /* the end of the turn writes */
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

/* --- operations, posted by the cluster's thread --- */

enum operation_kind {
    OPERATION_OPEN,
    OPERATION_PUBLISH,
    OPERATION_SUBSCRIBE,
    OPERATION_FORGET,
    OPERATION_FLUSH,
    OPERATION_FLUSH_DRAINED,
    OPERATION_RESUME,
    OPERATION_CLOSE,
    OPERATION_FREE, /* by the thread that waits */
};

struct nats_operation {
    struct loop_message message;
    struct nats_threads *threads;
    enum operation_kind kind;
    struct nats_link *link;
    struct nats_interest *interest;
    uint64_t number;
    /* Of a publish; those that wait are in the link's list. */
    struct list place;
    struct bus_bytes *bytes;
    size_t size;
    char subject[];
};

static void drop_operation(struct nats_operation *operation) {
    atomic_fetch_sub(&operation->threads->unsent_bytes, operation->size);
    bus_bytes_unref(operation->bytes);
    free(operation);
}

static void hand_over(struct nats_link *link, struct nats_operation *operation) {
    const struct bus_bytes *bytes = operation->bytes;

    natsConnection_Publish(link->connection, operation->subject, bytes->data, (int)bytes->length);
    link->handed_bytes += operation->size;
    drop_operation(operation);
}

static void post_waiting_job(struct nats_link *link, uint64_t number, bool destroy);

static void send_unsent(struct nats_link *link) {
    while (!list_empty(&link->unsent) && link->handed_bytes < NATS_HANDED_MAX_BYTES) {
        struct nats_operation *first = container_of(link->unsent.next, struct nats_operation, place);
        list_remove(&first->place);
        if (first->kind == OPERATION_PUBLISH) {
            hand_over(link, first);
            continue;
        }
        post_waiting_job(link, first->number, false);
        drop_operation(first);
    }
}

static void publish_operation(struct nats_link *link, struct nats_operation *operation) {
    if (atomic_load(&link->ended))
        drop_operation(operation);
    else if (list_empty(&link->unsent) && link->handed_bytes < NATS_HANDED_MAX_BYTES)
        hand_over(link, operation);
    else
        list_append(&link->unsent, &operation->place);
}

static void subscribe_interest(struct nats_link *link, struct nats_interest *interest) {
    natsSubscription *subscription = NULL;

    natsSubscription_Destroy(interest->handle);
    interest->handle = NULL;
    if (natsConnection_Subscribe(&subscription, link->connection, interest->subject, on_nats_message,
                                 (void *)(uintptr_t)link->id) != NATS_OK)
        return; /* the connection is at its end */
    natsSubscription_SetPendingLimits(subscription, -1, -1);
    interest->handle = subscription;
}

static void open_link(struct nats_link *link) {
    link->threads->open = link;
    if (atomic_load(&link->ended))
        return;
    link->events = EPOLLIN;
    link->watched = loop_watch(link->threads->io, link->fd, EPOLLIN, &link->target);
    atomic_store(&link->threads->reading_stopped, false);
}

static void close_link(struct nats_link *link) {
    unwatch_link(link);
    link->threads->open = NULL;
    while (!list_empty(&link->unsent)) {
        struct nats_operation *first = container_of(link->unsent.next, struct nats_operation, place);
        list_remove(&first->place);
        drop_operation(first);
    }
    post_waiting_job(link, 0, true);
}

static void free_nats_link(struct nats_link *link) {
    struct nats_threads *threads = link->threads;

    nats_info_dispose(&link->info);
    free(link);
    post_notice(make_notice(threads, NOTICE_CLOSED));
}

static void handle_nats_operation(struct loop *loop, struct loop_message *message) {
    struct nats_operation *operation = container_of(message, struct nats_operation, message);
    struct nats_threads *threads = operation->threads;
    struct nats_link *link = operation->link;

    (void)loop;
    is_io_thread = true;
    switch (operation->kind) {
    case OPERATION_PUBLISH:
        publish_operation(link, operation);
        return;
    case OPERATION_FLUSH_DRAINED:
        list_append(&link->unsent, &operation->place);
        send_unsent(link);
        return;
    case OPERATION_OPEN:
        open_link(link);
        break;
    case OPERATION_SUBSCRIBE:
        subscribe_interest(link, operation->interest);
        break;
    case OPERATION_FORGET:
        natsSubscription_Destroy(operation->interest->handle);
        threads->callbacks.forgotten(operation->interest);
        break;
    case OPERATION_FLUSH:
        post_waiting_job(link, operation->number, false);
        break;
    case OPERATION_RESUME:
        atomic_store(&threads->reading_stopped, false);
        if (threads->open != NULL && threads->open->watched)
            rewatch_link(threads->open);
        break;
    case OPERATION_CLOSE:
        close_link(link);
        break;
    case OPERATION_FREE:
        free_nats_link(link);
        break;
    }
    drop_operation(operation);
}

static struct nats_operation *make_operation(struct nats_threads *threads, enum operation_kind kind,
                                             struct nats_link *link, struct slice subject) {
    struct nats_operation *operation = alloc(sizeof *operation + subject.length + 1);

    *operation = (struct nats_operation){.threads = threads, .kind = kind, .link = link};
    operation->message.handle = handle_nats_operation;
    if (subject.length > 0)
        memcpy(operation->subject, subject.data, subject.length);
    operation->subject[subject.length] = '\0';
    return operation;
}

static void post_operation(struct nats_operation *operation) {
    loop_post(operation->threads->io, &operation->message);
}

static void post_simple_operation(struct nats_threads *threads, enum operation_kind kind, struct nats_link *link) {
    post_operation(make_operation(threads, kind, link, (struct slice){NULL, 0}));
}

static void resume_reading(struct nats_threads *threads) {
    post_simple_operation(threads, OPERATION_RESUME, NULL);
    loop_wake(threads->io);
}

size_t nats_threads_unsent_bytes(const struct nats_threads *threads) {
    return atomic_load(&threads->unsent_bytes);
}

uint64_t nats_link_id(const struct nats_link *link) {
    return link->id;
}

const char *nats_link_server(const struct nats_link *link) {
    return link->server;
}

const struct nats_info *nats_link_info(const struct nats_link *link) {
    return &link->info;
}

void nats_link_open(struct nats_link *link) {
    pthread_mutex_lock(&receivers_mutex);
    list_append(&receivers, &link->place);
    pthread_mutex_unlock(&receivers_mutex);
    post_simple_operation(link->threads, OPERATION_OPEN, link);
    loop_wake(link->threads->io);
}

void nats_link_close(struct nats_link *link) {
    struct nats_threads *threads = link->threads;

    pthread_mutex_lock(&receivers_mutex);
    list_remove(&link->place);
    pthread_mutex_unlock(&receivers_mutex);
    /* Whoever waits for the server, or tries to write to it, gets an error now. */
    shutdown(link->fd, SHUT_RDWR);
    post_simple_operation(threads, OPERATION_CLOSE, link); /* the other thread may free it at once */
    loop_wake(threads->io);
}

void nats_link_publish(struct nats_link *link, struct slice subject, struct bus_bytes *bytes) {
    struct nats_operation *operation = make_operation(link->threads, OPERATION_PUBLISH, link, subject);

    operation->bytes = bus_bytes_ref(bytes);
    operation->size = sizeof *operation + subject.length + bytes->length;
    atomic_fetch_add(&link->threads->unsent_bytes, operation->size);
    post_operation(operation);
}

void nats_link_subscribe(struct nats_link *link, struct nats_interest *interest) {
    struct nats_operation *operation =
        make_operation(link->threads, OPERATION_SUBSCRIBE, link, (struct slice){NULL, 0});

    operation->interest = interest;
    post_operation(operation);
}

void nats_link_forget(struct nats_threads *threads, struct nats_interest *interest) {
    struct nats_operation *operation = make_operation(threads, OPERATION_FORGET, NULL, (struct slice){NULL, 0});

    operation->interest = interest;
    post_operation(operation);
}

void nats_link_flush(struct nats_link *link, uint64_t number, bool drained) {
    struct nats_operation *operation = make_operation(
        link->threads, drained ? OPERATION_FLUSH_DRAINED : OPERATION_FLUSH, link, (struct slice){NULL, 0});

    operation->number = number;
    post_operation(operation);
}

void nats_link_wake(struct nats_threads *threads) {
    loop_wake(threads->io);
}

/* --- jobs of the thread that waits --- */

struct nats_job {
    struct loop_message message;
    struct nats_threads *threads;
    struct nats_link *link; /* NULL: connect */
    bool destroy;
    uint64_t number;
    const struct nats_address *address;
    uint32_t timeout_ms;
};

static natsStatus set_link_options(struct nats_link *link) {
    natsOptions *options = link->options;
    void *number = (void *)(uintptr_t)link->id;
    natsStatus status = natsOptions_SetEventLoop(options, link, attach_link, read_wanted, write_wanted, detach_link);

    if (status == NATS_OK)
        status = natsOptions_UseGlobalMessageDelivery(options, true);
    if (status == NATS_OK)
        status = natsOptions_SetNoEcho(options, true);
    if (status == NATS_OK) /* the bus connects anew, and then nothing that was published before is sent */
        status = natsOptions_SetAllowReconnect(options, false);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectBufSize(options, 0);
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(options, true); /* "asap" only asks the loop for a write */
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(options, 0); /* the bus flushes often enough */
    if (status == NATS_OK)
        status = natsOptions_SetIOBufSize(options, NATS_IO_BYTES);
    if (status == NATS_OK)
        status = natsOptions_SetName(options, "curlew");
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(options, on_nats_error, number);
    return status;
}

static void destroy_connection(struct nats_link *link) {
    natsConnection_Destroy(link->connection);
    natsOptions_Destroy(link->options);
    if (link->fd >= 0)
        close(link->fd);
    link->connection = NULL;
    link->options = NULL;
    link->fd = -1;
}

static struct nats_link *connect_link(struct nats_threads *threads, const struct nats_address *address,
                                      uint32_t timeout_ms, struct error *error) {
    const struct deadline deadline = deadline_after(timeout_ms, threads->cancel_fd);
    struct nats_link *link = alloc_zero(sizeof *link);

    link->threads = threads;
    link->id = atomic_fetch_add(&next_link, 1);
    link->fd = -1;
    link->target.ready = on_nats_ready;
    link->wake.handle = handle_link_wake;
    list_init(&link->place);
    list_init(&link->unsent);
    snprintf(link->server, sizeof link->server, "%s:%u", address->host, address->port);
    if (natsOptions_Create(&link->options) != NATS_OK || set_link_options(link) != NATS_OK)
        error_set(error, "the NATS library: %s", nats_GetLastError(NULL));
    else
        link->connection = nats_connect(link->options, threads->settings, address, &deadline, &link->info, error);
    if (link->connection != NULL)
        return link;
    destroy_connection(link);
    free(link);
    return NULL;
}

static void handle_nats_job(struct loop *loop, struct loop_message *message) {
    struct nats_job *job = container_of(message, struct nats_job, message);
    struct nats_threads *threads = job->threads;
    struct nats_notice *notice;

    (void)loop;
    if (job->destroy) {
        destroy_connection(job->link);
        post_simple_operation(threads, OPERATION_FREE, job->link);
        loop_wake(threads->io);
    } else if (job->link != NULL) {
        if (natsConnection_FlushTimeout(job->link->connection, NATS_FLUSH_TIMEOUT_MS) == NATS_OK) {
            notice = make_notice(threads, NOTICE_FLUSHED);
            notice->id = job->link->id;
            notice->number = job->number;
            post_notice(notice);
        }
    } else {
        notice = make_notice(threads, NOTICE_CONNECTED);
        notice->link = connect_link(threads, job->address, job->timeout_ms, &notice->error);
        atomic_store(&threads->delivered, notice->link);
        post_notice(notice);
    }
    free(job);
}

static void post_job(struct nats_threads *threads, const struct nats_job *job) {
    struct nats_job *copy = alloc(sizeof *copy);

    *copy = *job;
    copy->message.handle = handle_nats_job;
    copy->threads = threads;
    loop_post(threads->waiting, &copy->message);
    loop_wake(threads->waiting);
}

static void post_waiting_job(struct nats_link *link, uint64_t number, bool destroy) {
    post_job(link->threads, &(struct nats_job){.link = link, .number = number, .destroy = destroy});
}

void nats_link_connect(struct nats_threads *threads, const struct nats_address *address, uint32_t timeout_ms) {
    post_job(threads, &(struct nats_job){.address = address, .timeout_ms = timeout_ms});
}

void nats_link_cancel(struct nats_threads *threads) {
    eventfd_write(threads->cancel_fd, 1);
}

/* --- the threads --- */

struct nats_threads *nats_threads_create(struct loop *cluster, const struct nats_settings *settings,
                                         const struct nats_callbacks *callbacks, struct error *error) {
    struct nats_threads *threads = alloc_zero(sizeof *threads);

    threads->cluster = cluster;
    threads->settings = settings;
    threads->callbacks = *callbacks;
    threads->arrived_end = &threads->arrived;
    threads->take.handle = take_nats_messages;
    atomic_init(&threads->references, 1);
    threads->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    threads->io = loop_create(error);
    threads->waiting = threads->io != NULL ? loop_create(error) : NULL;
    if (threads->cancel_fd < 0)
        error_set(error, "NATS: %s", strerror(errno));
    else if (threads->waiting != NULL && nats_SetMessageDeliveryPoolSize(1) != NATS_OK)
        error_set(error, "the NATS library does not start: %s", nats_GetLastError(NULL));
    else if (threads->waiting != NULL) {
        loop_set_end_of_turn(threads->io, write_open_link, threads);
        if (loop_start(threads->io, error) && loop_start(threads->waiting, error))
            return threads;
    }
    nats_threads_destroy(threads);
    return NULL;
}

void nats_threads_destroy(struct nats_threads *threads) {
    struct nats_link *delivered;

    threads->ended = true;
    nats_link_cancel(threads);
    /* What the first posts to the second while it ends is handled there, and what comes back by loop_destroy. */
    if (threads->io != NULL)
        loop_stop(threads->io);
    if (threads->waiting != NULL)
        loop_stop(threads->waiting);
    delivered = atomic_load(&threads->delivered);
    if (delivered != NULL) {
        destroy_connection(delivered);
        nats_info_dispose(&delivered->info);
        free(delivered);
    }
    loop_destroy(threads->io);
    loop_destroy(threads->waiting);
    unref_threads(threads);
}
