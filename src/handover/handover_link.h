/*
 * The link: the connection between the two processes of an upgrade while both serve.
 *
 *   any thread --- handover_link_send ---> mailbox ---> the link's thread ---> socket
 *   socket ---> the link's thread ---> on_message, on that thread
 *
 * One thread runs handover_link_run; it owns the socket. Any thread may send, without a mutex: messages leave in the
 * order in which they were posted. Nobody waits for the other process: if that does not read, events wait in memory up
 * to a bound, and then sending fails. An app may have as much in the queue as the queue has room left, so one app gets
 * half of it and leaves room for the others. Orders are not events, and have room of their own.
 *
 * The other direction has a bound, too: while the receiver holds more than LINK_HELD_BYTES of what it was given, the
 * link reads nothing, so that the rest waits at the sender.
 */
#pragma once

#include <stdatomic.h>

#include "handover/handover_socket.h"
#include "net/mailbox.h"

/* Of events that are not sent yet; at most the share of BUDGET_HANDOVER. */
#define LINK_QUEUE_BYTES (64u << 20)
/* More of it for orders. */
#define LINK_ORDER_BYTES (16u << 20)
/* Of messages that were received and are not handled yet. */
#define LINK_HELD_BYTES (4u << 20)
/* The counters of apps in the queue. Apps with the same counter share what one may have. */
#define LINK_SHARES 256

struct handover_link;
struct handover_outgoing;

struct handover_handler {
    /* Handles a message of any type but HANDOVER_HELLO, on the link's thread. It may send, and must not wait long: what
     * is behind waits, too. False with an error ends the link. */
    bool (*on_message)(struct handover_link *link, const struct handover_message *message, void *context,
                       struct error *error);
    void *context;
    /* The bytes that on_message has kept and that are not handled yet; NULL: it keeps none. Call handover_link_wake
     * when they have fallen to LINK_HELD_BYTES. */
    const atomic_size_t *held;
};

struct handover_link {
    struct handover_socket socket;
    struct handover_handler handler;
    struct deadline deadline;          /* when to give up; UINT64_MAX: never. The handler may change it. */
    struct mailbox mailbox;            /* what other threads have posted */
    struct handover_outgoing *sending; /* taken from the mailbox, oldest first; of the link's thread */
    atomic_size_t queued_bytes;        /* allocated and not sent */
    atomic_size_t shares[LINK_SHARES]; /* of them, the events of apps */
    atomic_bool closed;                /* nothing is sent any more */
    atomic_bool finishing;             /* the thread ends when all is sent */
};

/* Makes a link of a connection, whose socket it takes over. False with an error. */
bool handover_link_init(struct handover_link *link, struct handover_socket *socket,
                        const struct handover_handler *handler, struct error *error);
/* When the link's thread has ended and nobody sends any more. */
void handover_link_dispose(struct handover_link *link);

/* Sends an order: a message whose payload is the parts, one after the other. False if the link is closed, too much is
 * queued or the payload is longer than HANDOVER_PAYLOAD_MAX. Any thread. */
bool handover_link_send(struct handover_link *link, uint8_t type, const struct slice *parts, size_t count);
/* Sends an event of an app. False also if the app has as much in the queue as there is room left. Any thread. */
bool handover_link_send_event(struct handover_link *link, uint8_t type, struct slice app_id, struct slice payload);

/* True if events of the app with so many bytes surely find room: they fit into half of what it may have in the queue,
 * or nothing of it waits there. Ask before the first of several events. Any thread. */
bool handover_link_has_room(const struct handover_link *link, struct slice app_id, size_t bytes);

/* Wakes the link's thread if it sleeps, without a mutex. Any thread. */
void handover_link_wake(struct handover_link *link);

/*
 * Sends and receives until the other side closes (true), until all is sent after handover_link_finish (true), or until
 * an error, the deadline or a cancellation (false with an error). Nothing can be sent afterwards. On the link's thread.
 */
bool handover_link_run(struct handover_link *link, struct error *error);

/* Lets the link's thread send what is queued, for two seconds at most, and end. Any thread. */
void handover_link_finish(struct handover_link *link);
