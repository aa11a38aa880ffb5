#include "cluster/nats/nats_arrivals.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "cluster/nats/nats_notice.h"

/* Reading stops while messages of this size wait for the cluster's thread. The server then keeps them, and when it has
 * kept too many it ends the connection. */
#define NATS_UNREAD_MAX_BYTES (16 * 1024 * 1024)

/* Messages that are handed on in one turn of the cluster's thread. */
#define NATS_MESSAGES_PER_TURN 128

/* Messages that wait to be destroyed together. */
#define NATS_RELEASED_MAX 64
#define NATS_RELEASED_MAX_BYTES 65536

struct nats_message {
    struct nats_message *next;
    struct bus_message message;
    natsMsg *msg;
    size_t bytes;
};

/* The links that get messages, of all buses of the process. */
static pthread_mutex_t receivers_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list receivers = {&receivers, &receivers};

/*
 * Messages that are no longer needed, of all buses. The library frees each of them on a thread of its own, which it
 * wakes: many at once need one wake. The thread that fills the list destroys all of them.
 */
static struct {
    pthread_mutex_t mutex;
    struct nats_message *first;
    unsigned count;
    size_t bytes;
} released = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void destroy_nats_messages(struct nats_message *first) {
    while (first != NULL) {
        struct nats_message *next = first->next;
        natsMsg_Destroy(first->msg);
        free(first);
        first = next;
    }
}

static struct nats_message *take_released(void) {
    struct nats_message *first = released.first;

    released.first = NULL;
    released.count = 0;
    released.bytes = 0;
    return first;
}

static void release_nats_message(struct bus_message *message) {
    struct nats_message *held = container_of(message, struct nats_message, message);
    struct nats_message *full = NULL;

    pthread_mutex_lock(&released.mutex);
    held->next = released.first;
    released.first = held;
    released.bytes += held->bytes;
    if (++released.count >= NATS_RELEASED_MAX || released.bytes >= NATS_RELEASED_MAX_BYTES)
        full = take_released();
    pthread_mutex_unlock(&released.mutex);
    destroy_nats_messages(full);
}

/* --- on the cluster's thread --- */

static void resume_reading(struct nats_threads *threads) {
    if (!atomic_load(&threads->reading_stopped) || atomic_exchange(&threads->resume_posted, true))
        return;
    loop_post(threads->io, &threads->resume);
    loop_wake(threads->io);
}

static void hand_on_messages(struct nats_threads *threads, const struct loop *loop) {
    unsigned most = NATS_MESSAGES_PER_TURN;
    size_t bytes = 0;
    bool time = true;

    while (threads->taken != NULL && most-- > 0 && time) {
        struct nats_message *first = threads->taken;
        threads->taken = first->next;
        bytes += first->bytes;
        threads->callbacks.message(threads->callbacks.context, &first->message);
        time = loop_has_time(loop);
    }
    if (atomic_fetch_sub(&threads->unread_bytes, bytes) - bytes < NATS_UNREAD_MAX_BYTES / 2)
        resume_reading(threads);
}

static void take_arrived(struct nats_threads *threads) {
    threads->taken = threads->arrived;
    threads->arrived = NULL;
    threads->arrived_end = &threads->arrived;
}

/* Takes what has arrived, a share in each turn. */
static void take_nats_messages(struct loop *loop, struct loop_message *message) {
    struct nats_threads *threads = container_of(message, struct nats_threads, take);
    bool more;

    if (threads->ended)
        nats_arrivals_drop(threads);
    if (threads->taken == NULL) {
        pthread_mutex_lock(&receivers_mutex);
        take_arrived(threads);
        pthread_mutex_unlock(&receivers_mutex);
    }
    hand_on_messages(threads, loop);
    pthread_mutex_lock(&receivers_mutex);
    more = threads->taken != NULL || threads->arrived != NULL;
    threads->take_posted = more;
    pthread_mutex_unlock(&receivers_mutex);
    if (more)
        loop_post(loop, message);
    else
        nats_threads_unref(threads);
}

void nats_arrivals_drop(struct nats_threads *threads) {
    size_t bytes = 0;

    pthread_mutex_lock(&receivers_mutex);
    *threads->arrived_end = threads->taken;
    take_arrived(threads);
    pthread_mutex_unlock(&receivers_mutex);
    while (threads->taken != NULL) {
        struct nats_message *first = threads->taken;
        threads->taken = first->next;
        bytes += first->bytes;
        release_nats_message(&first->message);
    }
    atomic_fetch_sub(&threads->unread_bytes, bytes);
}

void nats_arrivals_init(struct nats_threads *threads) {
    threads->arrived_end = &threads->arrived;
    threads->take.handle = take_nats_messages;
}

void nats_arrivals_open(struct nats_link *link) {
    pthread_mutex_lock(&receivers_mutex);
    list_append(&receivers, &link->place);
    pthread_mutex_unlock(&receivers_mutex);
}

void nats_arrivals_close(struct nats_link *link) {
    pthread_mutex_lock(&receivers_mutex);
    list_remove(&link->place);
    pthread_mutex_unlock(&receivers_mutex);
}

/* --- on the I/O thread --- */

bool nats_arrivals_are_full(struct nats_threads *threads) {
    if (atomic_load(&threads->unread_bytes) <= NATS_UNREAD_MAX_BYTES)
        return false;
    atomic_store(&threads->reading_stopped, true);
    /* They may all have been taken meanwhile. */
    if (atomic_load(&threads->unread_bytes) <= NATS_UNREAD_MAX_BYTES / 2)
        atomic_store(&threads->reading_stopped, false);
    return atomic_load(&threads->reading_stopped);
}

/* --- on threads of the library --- */

static struct nats_link *find_receiver(uint64_t id) {
    for (struct list *at = receivers.next; at != &receivers; at = at->next) {
        struct nats_link *link = container_of(at, struct nats_link, place);
        if (link->id == id)
            return link;
    }
    return NULL;
}

void nats_arrivals_on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *msg, void *closure) {
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

/* What the server forbids to this user. */
void nats_arrivals_on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
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
        struct nats_notice *notice = nats_notice_create(link->threads, NATS_NOTICE_WARNING);
        error_set(&notice->error, "NATS at %s: %s: allow it for the user of adapter.nats", link->server,
                  text != NULL ? text : "a subject is not permitted");
        nats_notice_post(notice);
    }
    pthread_mutex_unlock(&receivers_mutex);
}
